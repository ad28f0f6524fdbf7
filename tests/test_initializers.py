import dataclasses
import functools
import os
import pickle
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp
from jaxmlp import initializers
from jaxmlp.initializers import Initializer, gaussian, normal

KEY = jax.random.key(7)
SIZES = (300, 200, 200, 50)  # layer 1 wider than layer 2, layer 2 square
SHAPES = ((300, 200), (200, 200), (200, 50))
OF_JAX = {
    "lecun": jax.nn.initializers.lecun_normal(),
    "glorot": jax.nn.initializers.glorot_normal(),
    "he": jax.nn.initializers.he_normal(),
    "orthogonal": jax.nn.initializers.orthogonal(),
    "zeros": jax.nn.initializers.zeros,
    "gaussian:1.7": jax.nn.initializers.variance_scaling(1.7, "fan_in", "normal"),
    "normal:0.01": jax.nn.initializers.normal(0.01),
}
VARIANCES = {
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "orthogonal": lambda fan_in, fan_out: 1 / max(fan_in, fan_out),
    "gaussian:1.7": lambda fan_in, fan_out: 1.7 / fan_in,
    "normal:0.01": lambda fan_in, fan_out: 1e-4,
}
ERRORS = 4.5  # Monte-Carlo: standard errors of the estimate, with the seed fixed


def variance_error(draws, variance):
    """Return how many standard errors the mean square of the draws is from `variance`."""
    squares = np.asarray(draws, np.float64).ravel() ** 2
    standard_error = squares.std(ddof=1) / np.sqrt(squares.size)
    return abs(squares.mean() - variance) / standard_error


@functools.cache
def every_draw():
    """Return the draws of MLP.init for each name, and those of JAX, by one compiled program."""
    mlp = jaxmlp.MLP(SIZES)

    def draw(key):
        keys = [jax.random.fold_in(key, number) for number in (1, 2, 3)]
        return {
            name: (
                mlp.init(key, name),
                [of_jax(k, shape, jnp.float32) for k, shape in zip(keys, SHAPES, strict=True)],
            )
            for name, of_jax in OF_JAX.items()
        }

    return jax.tree.map(np.asarray, jax.jit(draw)(KEY))


def drawn(name):
    return every_draw()[name][0]


# --- by name --------------------------------------------------------------------------------------


def test_every_name_has_an_oracle():
    assert {name.split(":")[0] for name in OF_JAX} == set(initializers.names())
    assert OF_JAX.keys() - VARIANCES.keys() == {"zeros"}


@pytest.mark.parametrize("name", OF_JAX)
def test_layer_l_is_drawn_as_jax_does_from_the_key_folded_with_l(name):
    layers, expected = every_draw()[name]
    for layer, W in zip(layers, expected, strict=True):
        np.testing.assert_allclose(layer.W, W, rtol=1e-5, atol=1e-6)  # rounding, QR's too
        np.testing.assert_array_equal(layer.b, 0)


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_of_a_name_is_the_tabled_one(name):
    for layer in drawn(name):
        assert variance_error(layer.W, VARIANCES[name](*layer.W.shape)) < ERRORS


def test_variance_comparison_tells_he_from_lecun_and_glorot():
    W = drawn("he")[0].W
    assert variance_error(W, 1 / 300) > 50
    assert variance_error(W, 2 / 500) > 50
    assert variance_error(1.02 * W, 2 / 300) > ERRORS


def test_orthogonal_weights_are_orthogonal():
    first, square, _ = drawn("orthogonal")
    for W in (first.W, square.W, square.W.T):
        np.testing.assert_allclose(W.T @ W, np.eye(W.shape[1]), atol=1e-5)
    (wide,) = jaxmlp.MLP((5, 9)).init(KEY, "orthogonal")
    np.testing.assert_allclose(wide.W @ wide.W.T, np.eye(5), atol=1e-5)


def test_layers_are_drawn_independently():
    first, second, _ = drawn("he")
    square = first.W[:200]
    correlation = np.corrcoef(square.ravel(), second.W.ravel())[0, 1]
    assert abs(correlation) * np.sqrt(square.size) < ERRORS


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("init", OF_JAX)
def test_leaves_are_drawn_in_the_dtype_asked_for(init, dtype):
    mlp = jaxmlp.MLP((3, 2), output="prelu")
    params = jax.eval_shape(lambda key: mlp.init(key, init, dtype=dtype), KEY)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}


def test_dtype_is_float64_by_default_under_x64():
    with jax.enable_x64(True):
        params = jax.eval_shape(lambda key: jaxmlp.MLP((3, 2)).init(key, "lecun"), KEY)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float64")}


# --- a draw without scale, times a number ---------------------------------------------------------


def test_weights_and_biases_have_the_bits_of_a_draw_without_scale_times_a_number():
    code = """
        import jax, jax.numpy as jnp, numpy as np
        import jaxmlp
        from jaxmlp import initializers

        names = "lecun", "glorot", "he", "gaussian:1.7:0.3", "normal:0.2"
        inits = [initializers.get(name) for name in names]
        shape, mlp, drawn_from = (30, 40), jaxmlp.MLP((30, 40), output="linear"), jax.random.key(7)
        key = jax.random.fold_in(drawn_from, 1)  # layer 1's
        params = jax.jit(lambda key: [mlp.init(key, init) for init in inits])(drawn_from)
        units = {init.unit: np.asarray(init.unit(key, shape, jnp.float32)) for init in inits}
        for init, (layer,) in zip(inits, params, strict=True):
            expected = units[init.unit] * np.asarray(init.std(shape, jnp.float32))
            np.testing.assert_array_equal(layer.W, expected)
        b = np.asarray(initializers.unit_bias(key, shape, jnp.float32)) * np.sqrt(np.float32(0.3))
        np.testing.assert_array_equal(params[3][0].b, b)
        print("equal")
    """
    # as users compile it: with the flags of the tests XLA approximates a draw differently when it
    # is fused with a product
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("equal", 0), done.stderr


def test_units_are_shared_by_distribution_and_orthogonal_has_none():
    lecun, glorot, he, orthogonal, zeros = map(
        initializers.get, ("lecun", "glorot", "he", "orthogonal", "zeros")
    )
    assert lecun.unit is glorot.unit is he.unit
    assert gaussian(1.0).unit is gaussian(2.0, 0.5).unit is normal(0.1).unit is not he.unit
    assert orthogonal.unit is zeros.unit is None


# --- the Gaussian of mean-field theory ------------------------------------------------------------


def test_gaussian_has_the_variances_of_mean_field_theory_and_independent_biases():
    params = jaxmlp.MLP((20, 5000, 20)).init(KEY, gaussian(1.7, 0.3))
    for layer in params:
        assert variance_error(layer.W, 1.7 / layer.W.shape[0]) < ERRORS
    assert variance_error(params[0].b, 0.3) < ERRORS
    correlation = np.corrcoef(params[0].W[0], params[0].b)[0, 1]
    assert abs(correlation) * np.sqrt(5000) < ERRORS


def test_gaussian_is_not_truncated():
    W = drawn("gaussian:1.7")[0].W * np.sqrt(300 / 1.7)
    beyond = np.mean(np.abs(W) > 3)  # 0.0027 of a normal; he and lecun cut at 2.3 of their own
    assert abs(beyond - 0.0027) / np.sqrt(0.0027 / W.size) < ERRORS
    assert not np.any(np.abs(drawn("lecun")[0].W) * np.sqrt(300) > 3)


def test_gaussian_of_equal_arguments_is_equal():
    one, other = gaussian(2, 0.5), gaussian(sigma_w2=np.float64(2), sigma_b2=jnp.float32(0.5))
    assert one == other
    assert hash(one) == hash(other)
    assert one != gaussian(2, 0.25)
    assert one != gaussian(2.5, 0.5)
    assert repr(one) == repr(other) == "Initializer('gaussian:2:0.5')"


def test_gaussian_of_arguments_that_differ_in_the_last_digit_is_another():
    one, other = gaussian(1.0000001), gaussian(1.0000002)
    assert one != other
    assert one.name != other.name


@pytest.mark.parametrize(
    ("factory", "argument", "value", "expected"),
    [
        *((gaussian, "sigma_w2", value, "above 0") for value in (0, -1, -1e-9, np.nan, np.inf)),
        *((gaussian, "sigma_b2", value, "at least 0") for value in (-1, -1e-9, np.nan, np.inf)),
        *((normal, "std", value, "above 0") for value in (0, -1, np.nan, np.inf)),
    ],
)
def test_what_is_no_variance_is_refused(factory, argument, value, expected):
    arguments = {"sigma_w2": 1.0} if factory is gaussian else {}
    sentence = rf"{argument} must be finite and {expected}, got {value}(\.0)?$"
    with pytest.raises(ValueError, match=sentence):
        factory(**arguments | {argument: value})


def test_variance_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="sigma_b2 must be a number, got '1'"):
        gaussian(1.0, "1")


def test_bias_variance_without_biases_is_refused():
    mlp = jaxmlp.MLP((4, 3), use_bias=False)
    with pytest.raises(ValueError, match=r"gaussian:1:0\.5 draws biases, but .*use_bias=False"):
        mlp.init(KEY, gaussian(1.0, 0.5))
    assert jax.eval_shape(lambda key: mlp.init(key, gaussian(1.0)), KEY)[0].b is None


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "init",
    [*OF_JAX, gaussian(1.5, 0.1), gaussian(1 / 3, 1e-20), gaussian(2), normal(1e-5)],
    ids=str,
)
def test_name_reads_back(init):
    init = initializers.get(init)
    assert initializers.get(init.name) == init
    assert repr(init) == f"Initializer('{init.name}')"


def test_names_carry_their_arguments():
    assert gaussian(1.5, 0.1).name == "gaussian:1.5:0.1"
    assert gaussian(2.0).name == "gaussian:2"
    assert normal(0.01).name == "normal:0.01"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("gaussian", "'gaussian' has 0 arguments, expected gaussian:sigma_w2:sigma_b2$"),
        ("gaussian:1:2:3", "has 3 arguments, expected gaussian:sigma_w2:sigma_b2$"),
        ("gaussian:1:x", "'gaussian:1:x': sigma_b2 must be a number, got 'x'$"),
        ("gaussian:0", "'gaussian:0': sigma_w2 must be finite and above 0, got 0.0$"),
        ("gaussian:1:nan", "'gaussian:1:nan': sigma_b2 must be finite and at least 0, got nan$"),
        ("normal", "'normal' has 0 arguments, expected normal:std$"),
        ("he:2", "'he' takes no arguments, got 'he:2'$"),
        ("qqq", "unknown initializer 'qqq'; known: gaussian, glorot, he, lecun, normal, ortho"),
    ],
)
def test_name_whose_arguments_do_not_fit_is_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        initializers.get(wrong)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        *(("hee", "he"), ("LeCun", "lecun"), ("glrot", "glorot"), ("he_normal", "he")),
        *(("xavier", "glorot"), ("kaiming", "he"), ("Xavier_uniform", "glorot")),
        *(("kaiming_normal", "he"), ("Gauss:1", "gaussian")),
    ],
)
def test_unknown_name_suggests_the_nearest_or_what_it_means_elsewhere(wrong, meant):
    name = wrong.split(":")[0]
    with pytest.raises(ValueError, match=rf"unknown initializer '{name}'; did you mean '{meant}'"):
        initializers.get(wrong)


@pytest.mark.parametrize("name", [*OF_JAX, "gaussian:1.5:0.1"])
def test_initializer_of_the_library_survives_a_pickle(name):
    init = initializers.get(name)
    back = pickle.loads(pickle.dumps(init))
    assert back == init
    assert hash(back) == hash(init)


def constant_W(key, shape, dtype):
    return jnp.full(shape, 0.5, dtype)


def test_initializer_of_a_user_survives_a_pickle_as_its_function_does():
    own = Initializer("he", constant_W, sigma_b2=0.5)  # the library's name, but not its he
    back = pickle.loads(pickle.dumps(own))
    assert back == own != initializers.get("he")
    assert back.W is constant_W


# --- any callable ---------------------------------------------------------------------------------

CALLABLES = (
    jax.nn.initializers.zeros,
    jax.nn.initializers.constant(0.5),
    jax.nn.initializers.uniform(0.1),
    jax.nn.initializers.truncated_normal(0.2),
    jax.nn.initializers.variance_scaling(3.0, "fan_avg", "uniform"),
    jax.nn.initializers.he_uniform(),
    lambda key, shape, dtype: jnp.full(shape, 1 / shape[0], dtype),
    functools.partial(jax.random.laplace),
)


def test_any_callable_draws_W_and_leaves_b_zero():
    mlp = jaxmlp.MLP((4, 4, 4, 2), stack_from=1)
    shapes = [(4, 4), (4, 4), (4, 2)]

    def draw(key):
        return [
            (
                jaxmlp.layers(mlp.init(key, fn)),
                [fn(jax.random.fold_in(key, l), s, jnp.float32) for l, s in enumerate(shapes, 1)],
            )
            for fn in CALLABLES
        ]

    for layers, expected in jax.jit(draw)(KEY):
        for layer, W in zip(layers, expected, strict=True):
            np.testing.assert_allclose(layer.W, W, rtol=1e-6, atol=1e-7)
            np.testing.assert_array_equal(layer.b, 0)


def test_callables_have_names_that_tell_them_apart():
    uniform = jax.nn.initializers.uniform
    names = [initializers.get(fn).name for fn in (*CALLABLES, uniform(0.2), constant_W)]
    assert len(set(names)) == len(names)
    assert initializers.get(uniform(0.1)).name == names[2]
    assert names[2] == f"{uniform.__module__}.uniform.init(scale=0.1)"
    assert names[-1] == f"{__name__}.constant_W"
    assert not set(names) & set(initializers.names())


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        (lambda key, shape, dtype: jnp.ones(shape[::-1], dtype), r"float32\[3, 2\]"),
        (lambda key, shape, dtype: jnp.ones(shape[1], dtype), r"float32\[3\]"),
        (lambda key, shape, dtype: jnp.ones(shape, jnp.float16), r"float16\[2, 3\]"),
        (lambda key, shape, dtype: None, "None"),
    ],
)
def test_callable_that_returns_another_shape_or_dtype_is_refused(wrong, given):
    with pytest.raises(ValueError, match=rf"returned {given} for a weight of float32\[2, 3\]"):
        jaxmlp.MLP((2, 3)).init(KEY, wrong)


def test_initializer_comes_back_as_it_is():
    init = gaussian(1.0)
    assert initializers.get(init) is init


def test_an_initializer_that_lies_about_its_parts_or_its_name_is_refused():
    he = initializers.get("he")
    double = dataclasses.replace(he, name="double", W=lambda *args: 2 * he.W(*args))
    with pytest.raises(ValueError, match=r"init double: W must be unit \* std, but of a weight"):
        jaxmlp.MLP((2, 3)).init(KEY, double)
    with pytest.raises(ValueError, match="init half: unit needs std"):
        initializers.get(dataclasses.replace(he, name="half", std=None))
    own = dataclasses.replace(he, name="own")
    assert initializers.get(own) is own
    with pytest.raises(ValueError, match="independent weights of a known variance, got init 'he'"):
        jaxmlp.meanfield.variances(Initializer("he", jax.nn.initializers.uniform(0.1)), (2, 3))


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match=r"init must be a name, .* or a callable .*, got 3"):
        initializers.get(3)
