import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp
from jaxmlp import initializers
from jaxmlp.initializers import gaussian

KEY = jax.random.key(7)
SIZES = (300, 200, 200, 50)  # layer 1 wider than layer 2, layer 2 square
OF_JAX = {
    "lecun": jax.nn.initializers.lecun_normal(),
    "glorot": jax.nn.initializers.glorot_normal(),
    "he": jax.nn.initializers.he_normal(),
    "orthogonal": jax.nn.initializers.orthogonal(),
}
VARIANCES = {
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "orthogonal": lambda fan_in, fan_out: 1 / max(fan_in, fan_out),
}
ERRORS = 4.5  # Monte-Carlo: standard errors of the estimate, with the seed fixed


def variance_error(draws, variance):
    """How many standard errors the mean square of the draws lies from `variance`."""
    squares = np.asarray(draws, np.float64).ravel() ** 2
    standard_error = squares.std(ddof=1) / np.sqrt(squares.size)
    return abs(squares.mean() - variance) / standard_error


@functools.cache
def drawn(init):
    return jaxmlp.MLP(SIZES).init(KEY, init)


# --- by name --------------------------------------------------------------------------------------


def test_every_name_has_an_oracle():
    assert set(initializers.names()) == OF_JAX.keys() == VARIANCES.keys()


@pytest.mark.parametrize("name", initializers.names())
def test_layer_l_is_drawn_by_jax_from_the_key_folded_with_l(name):
    for number, layer in enumerate(drawn(name), start=1):
        expected = OF_JAX[name](jax.random.fold_in(KEY, number), layer.W.shape, jnp.float32)
        # rounding: compiled and eager code may differ in the last bits, QR in a few
        np.testing.assert_allclose(layer.W, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(layer.b, 0)


@pytest.mark.parametrize("name", initializers.names())
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
    square = np.asarray(first.W)[:200]
    correlation = np.corrcoef(square.ravel(), np.asarray(second.W).ravel())[0, 1]
    assert abs(correlation) * np.sqrt(square.size) < ERRORS


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("init", ["he", gaussian(2.0, 0.5)])
def test_leaves_are_drawn_in_the_dtype_asked_for(init, dtype):
    params = jaxmlp.MLP((3, 2), output="prelu").init(KEY, init, dtype=dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}


def test_dtype_is_float64_by_default_under_x64():
    with jax.enable_x64(True):
        params = jaxmlp.MLP((3, 2)).init(KEY, "lecun")
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float64")}


@pytest.mark.parametrize("init", ["lecun", "glorot", "he", gaussian(1.7, 0.3)], ids=repr)
@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_weights_are_a_draw_without_scale_times_a_number(init, shape):
    init = initializers.get(init)
    unit, std = init.unit(KEY, shape, jnp.float32), init.std(shape, jnp.float32)
    np.testing.assert_array_equal(init.W(KEY, shape, jnp.float32), unit * std)


def test_units_are_shared_by_distribution_and_orthogonal_has_none():
    lecun, glorot, he, orthogonal = map(initializers.get, ("lecun", "glorot", "he", "orthogonal"))
    assert lecun.unit is glorot.unit is he.unit
    assert gaussian(1.0).unit is gaussian(2.0, 0.5).unit is not he.unit
    assert orthogonal.unit is None


# --- the Gaussian of mean-field theory ------------------------------------------------------------


def test_gaussian_has_the_variances_of_mean_field_theory():
    params = jaxmlp.MLP((50, 8000, 20)).init(KEY, gaussian(1.7, 0.3))
    for layer in params:
        assert variance_error(layer.W, 1.7 / layer.W.shape[0]) < ERRORS
    assert variance_error(params[0].b, 0.3) < ERRORS


def test_gaussian_is_not_truncated():
    W = np.asarray(drawn(gaussian(1.0))[0].W) * np.sqrt(300)
    beyond = np.mean(np.abs(W) > 3)  # 0.0027 of a normal; he and lecun cut at 2.3 of their own
    assert abs(beyond - 0.0027) / np.sqrt(0.0027 / W.size) < ERRORS
    assert not np.any(np.abs(np.asarray(drawn("lecun")[0].W)) * np.sqrt(300) > 3)


def test_gaussian_biases_are_independent_of_the_weights():
    (layer,) = jaxmlp.MLP((1, 5000)).init(KEY, gaussian(1.0, 1.0))
    correlation = np.corrcoef(layer.W[0], layer.b)[0, 1]
    assert abs(correlation) * np.sqrt(5000) < ERRORS


def test_gaussian_without_bias_variance_has_zero_biases():
    np.testing.assert_array_equal(drawn(gaussian(1.0))[0].b, 0)


def test_gaussian_of_equal_arguments_is_equal():
    one, other = gaussian(2, 0.5), gaussian(sigma_w2=np.float64(2), sigma_b2=jnp.float32(0.5))
    assert one == other
    assert hash(one) == hash(other)
    assert one != gaussian(2, 0.25)
    assert one != gaussian(2.5, 0.5)
    assert repr(one) == repr(other)
    assert one.name == "gaussian(2.0, 0.5)"


def test_gaussian_of_arguments_that_differ_in_the_last_digit_is_another():
    one, other = gaussian(1.0000001), gaussian(1.0000002)
    assert one != other
    assert one.name != other.name


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        *(("sigma_w2", value, "above 0") for value in (0, -1, -1e-9, np.nan, np.inf)),
        *(("sigma_b2", value, "at least 0") for value in (-1, -1e-9, np.nan, np.inf)),
    ],
)
def test_gaussian_refuses_what_is_no_variance(argument, value, expected):
    sentence = rf"{argument} must be finite and {expected}, got {value}(\.0)?$"
    with pytest.raises(ValueError, match=sentence):
        gaussian(**{"sigma_w2": 1.0, argument: value})


def test_bias_variance_without_biases_is_refused():
    mlp = jaxmlp.MLP((4, 3), use_bias=False)
    with pytest.raises(
        ValueError, match=r"gaussian\(1\.0, 0\.5\) draws biases, but .*use_bias=False"
    ):
        mlp.init(KEY, gaussian(1.0, 0.5))
    assert mlp.init(KEY, gaussian(1.0))[0].b is None


# --- any callable ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "callable_",
    [
        jax.nn.initializers.zeros,
        jax.nn.initializers.constant(0.5),
        jax.nn.initializers.uniform(0.1),
        jax.nn.initializers.truncated_normal(0.2),
        jax.nn.initializers.variance_scaling(3.0, "fan_avg", "uniform"),
        jax.nn.initializers.he_uniform(),
        lambda key, shape, dtype: jnp.full(shape, 1 / shape[0], dtype),
        functools.partial(jax.random.laplace),
    ],
)
def test_any_callable_draws_W_and_leaves_b_zero(callable_):
    mlp = jaxmlp.MLP((4, 4, 4, 4, 2), stack_from=1)
    for number, layer in enumerate(jaxmlp.layers(mlp.init(KEY, callable_)), start=1):
        expected = callable_(jax.random.fold_in(KEY, number), layer.W.shape, jnp.float32)
        np.testing.assert_allclose(layer.W, expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(layer.b, 0)


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        (lambda key, shape, dtype: jnp.ones(shape[::-1], dtype), r"float32\[3, 2\]"),
        (lambda key, shape, dtype: jnp.ones(shape[1], dtype), r"float32\[3\]"),
        (lambda key, shape, dtype: jnp.ones(shape, jnp.float16), r"float16\[2, 3\]"),
    ],
)
def test_callable_that_returns_another_shape_or_dtype_is_refused(wrong, given):
    with pytest.raises(ValueError, match=rf"returned {given} for a weight of float32\[2, 3\]"):
        jaxmlp.MLP((2, 3)).init(KEY, wrong)


def test_initializer_comes_back_as_it_is():
    init = gaussian(1.0)
    assert initializers.get(init) is init


@pytest.mark.parametrize(
    ("wrong", "meant"), [("hee", "he"), ("LeCun", "lecun"), ("glrot", "glorot")]
)
def test_unknown_name_suggests_the_nearest(wrong, meant):
    with pytest.raises(ValueError, match=rf"unknown initializer '{wrong}'; did you mean '{meant}'"):
        jaxmlp.MLP((2, 3)).init(KEY, wrong)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match=r"init must be a name, .* or a callable .*, got 3"):
        initializers.get(3)
