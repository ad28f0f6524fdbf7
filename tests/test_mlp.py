import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import jaxmlp
from jaxmlp import MLP, Activation, Layer, activations
from jaxmlp.initializers import gaussian

KEY = jax.random.key(1)
IN_NUMPY = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "sigmoid": scipy.special.expit,
    "gelu": lambda z: z * scipy.special.ndtr(z),
    "sin": np.sin,
    "softmax": lambda z: scipy.special.softmax(z, axis=-1),
}


def apply_in_numpy(mlp, params, X):
    """Return the forward pass of the notes (E2), a loop over plain arrays in float64."""
    A, arrays = np.asarray(X, np.float64), jaxmlp.as_dict(jax.tree.map(np.asarray, params))
    for number, act in enumerate(mlp.activations, start=1):
        Z = A @ np.asarray(arrays[f"W{number}"], np.float64)
        if mlp.use_bias:
            Z = Z + np.asarray(arrays[f"b{number}"], np.float64)
        if act.name == "prelu":
            A = np.where(Z > 0, Z, float(arrays[f"slope{number}"]) * Z)
        else:
            A = IN_NUMPY[act.name](Z)
    return A


def drawn(mlp, dtype=None):
    """Return parameters, none of them zero, drawn by NumPy and stored as by `mlp.init`."""
    rng, plain = np.random.default_rng(0), []
    for d_in, d_out, act in zip(mlp.sizes, mlp.sizes[1:], mlp.activations, strict=False):
        W = rng.normal(size=(d_in, d_out)) * np.sqrt(1.5 / d_in)
        b = rng.normal(size=d_out) / 2 if mlp.use_bias else None
        slope = None if act.slope is None else rng.uniform(0.1, 0.9)
        plain.append(Layer(W, b, slope))
    plain = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), plain)
    return jax.device_put(jaxmlp.stack(plain, mlp))


def same(one, other):
    """Whether two pytrees have the same structure and bits."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.array_equal(a, b) for a, b in pairs
    )


# --- the description ------------------------------------------------------------------------------


def test_the_network_of_the_notes_has_27_parameters():
    mlp = MLP((2, 4, 3))
    assert mlp.num_parameters == 27
    assert sum(leaf.size for leaf in jax.tree.leaves(mlp.init(KEY))) == 27


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [
        ((5, 1), {}, 6),
        ((5, 1), {"use_bias": False}, 5),
        ((2, 4, 3), {"use_bias": False}, 20),
        ((2, 4, 3), {"hidden": "prelu"}, 28),
        ((2, *[3] * 40, 1), {"hidden": "prelu"}, 9 + 39 * 12 + 4 + 40),
    ],
)
def test_every_learned_number_is_counted(sizes, options, expected):
    mlp = MLP(sizes, **options)
    assert mlp.num_parameters == expected
    assert sum(leaf.size for leaf in jax.tree.leaves(mlp.init(KEY))) == expected


def test_depth_counts_hidden_layers_and_num_layers_weights():
    mlp = MLP((2, 4, 4, 3))
    assert (mlp.depth, mlp.num_layers, len(mlp.init(KEY))) == (2, 3, 3)
    assert (MLP((2, 3)).depth, MLP((2, 3)).num_layers) == (0, 1)


def test_lists_and_names_become_tuples_of_activations():
    mlp = MLP([2, np.int64(4), 4, 3], hidden=["relu", activations.leaky_relu(0.1)], output="linear")
    assert mlp.sizes == (2, 4, 4, 3)
    assert all(type(size) is int for size in mlp.sizes)
    assert mlp.hidden == (activations.get("relu"), activations.get("leaky_relu:0.1"))
    assert mlp.activations == (*mlp.hidden, activations.get("linear"))


@pytest.mark.parametrize("hidden", ["relu", ("sigmoid", "tanh"), "no such name", None])
def test_hidden_is_ignored_without_a_hidden_layer(hidden):
    mlp = MLP((5, 2), hidden=hidden)
    assert mlp == MLP((5, 2))
    assert mlp.hidden == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MLP((2, 4, 3)), MLP([2, 4, 3], hidden="relu", output="softmax", use_bias=True)),
        (MLP((2, 4, 4, 3), hidden="tanh"), MLP((2, 4, 4, 3), hidden=["tanh", activations.tanh])),
        (MLP((2, 4, 3), hidden="swish"), MLP(np.array([2, 4, 3]), hidden="silu")),
        (MLP((2, 4, 3), hidden="elu:2"), MLP((2, 4, 3), hidden=activations.elu(alpha=2.0))),
        (MLP((2, 3), stack_from=None), MLP((2, 3), stack_from=None)),
    ],
)
def test_equal_descriptions_are_equal_and_hash_equal(one, other):
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


@pytest.mark.parametrize(
    "other",
    [
        MLP((2, 5, 3)),
        MLP((2, 4, 3), hidden="tanh"),
        MLP((2, 4, 3), output="linear"),
        MLP((2, 4, 3), use_bias=False),
        MLP((2, 4, 3), stack_from=5),
    ],
)
def test_any_other_field_makes_another_network(other):
    assert other != MLP((2, 4, 3))


def test_description_is_frozen():
    with pytest.raises(AttributeError, match="cannot assign to field 'sizes'"):
        MLP((2, 3)).sizes = (3, 4)


@pytest.mark.parametrize(
    ("sizes", "error", "sentence"),
    [
        (5, TypeError, r"sizes must be a sequence \(d_0, \.\.\., d_L\), got 5"),
        ((5,), ValueError, r"at least inputs and outputs, \(d_0, d_1\), got \(5,\)"),
        ((), ValueError, r"at least inputs and outputs, .*, got \(\)"),
        ((2, 0, 3), ValueError, r"sizes\[1\] must be at least 1, got 0"),
        ((2, 4, -3), ValueError, r"sizes\[2\] must be at least 1, got -3"),
        ((2, 4.0, 3), TypeError, r"sizes\[1\] must be an integer, got 4\.0"),
        ((True, 3), TypeError, r"sizes\[0\] must be an integer, got True"),
        ("23", TypeError, r"sizes\[0\] must be an integer, got '2'"),
    ],
)
def test_sizes_that_are_no_widths_are_refused(sizes, error, sentence):
    with pytest.raises(error, match=sentence):
        MLP(sizes)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"hidden": ["relu"]}, ValueError, "names 1 activations, but there are 2 hidden layers"),
        ({"hidden": ("relu",) * 3}, ValueError, "names 3 activations, but there are 2 hidden"),
        ({"hidden": "rleu"}, ValueError, "unknown activation 'rleu'; did you mean 'relu'"),
        ({"hidden": "softmax"}, ValueError, "softmax is an output activation and cannot be hid"),
        ({"hidden": ["relu", "softmax"]}, ValueError, "softmax is an output activation"),
        ({"hidden": jnp.tanh}, TypeError, r"must be a name or an Activation\("),
        ({"output": "softmxa"}, ValueError, "unknown activation 'softmxa'; did you mean 'softmax"),
        ({"use_bias": 1}, TypeError, "use_bias must be True or False, got 1"),
        ({"stack_from": 0}, ValueError, "stack_from must be at least 1, got 0"),
        ({"stack_from": 2.5}, TypeError, r"stack_from must be an integer, got 2\.5"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, error, sentence):
    with pytest.raises(error, match=sentence):
        MLP((2, 4, 4, 3), **options)


def test_options_must_be_named():
    with pytest.raises(TypeError, match="positional argument"):
        MLP((2, 4, 3), "relu")


# --- repr -----------------------------------------------------------------------------------------


def test_short_network_prints_like_the_lecture():
    assert repr(MLP((2, 4, 3))).splitlines() == [
        "MLP (2, 4, 3): 27 parameters",
        "  layer 1: W (2, 4), b (4,), relu",
        "  layer 2: W (4, 3), b (3,), softmax",
    ]


def test_stacked_network_prints_its_runs():
    assert repr(MLP((64, *[128] * 1000, 10), hidden="tanh")).splitlines() == [
        "MLP (64, 128, 128, ..., 10): 16,505,098 parameters",
        "  layer 1: W (64, 128), b (128,), tanh",
        "  layers 2-1000: W (999, 128, 128), b (999, 128), tanh",
        "  layer 1001: W (128, 10), b (10,), softmax",
    ]


def test_repr_without_biases_names_none():
    lines = repr(MLP((3, 2), use_bias=False, output="linear")).splitlines()
    assert lines == ["MLP (3, 2): 6 parameters", "  layer 1: W (3, 2), linear"]


# --- storage --------------------------------------------------------------------------------------


def shapes(mlp):
    return [layer.W.shape for layer in mlp.init(KEY, jax.nn.initializers.zeros)]


@pytest.mark.parametrize(
    ("sizes", "options", "expected"),
    [
        ((4,) * 34, {}, [(4, 4)] * 33),  # 32 hidden layers of one shape: not more than 32
        ((4,) * 35, {}, [(33, 4, 4), (4, 4)]),
        ((4,) * 35, {"stack_from": None}, [(4, 4)] * 34),
        ((2, 4, 4, 4, 3), {"stack_from": 1}, [(2, 4), (2, 4, 4), (4, 3)]),
        ((2, 4, 4, 4, 3), {"stack_from": 2}, [(2, 4), (4, 4), (4, 4), (4, 3)]),
        (
            (4, 4, 4, 4, 4, 4),
            {"stack_from": 1, "hidden": ["tanh", "tanh", "relu", "relu"]},
            [(2, 4, 4), (2, 4, 4), (4, 4)],
        ),
        ((4, 4, 4), {"stack_from": 1}, [(4, 4), (4, 4)]),  # the output is never in a stack
    ],
)
def test_runs_longer_than_stack_from_are_one_layer(sizes, options, expected):
    assert shapes(MLP(sizes, **options)) == expected


# --- init -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["he", "orthogonal", gaussian(2.0, 0.1)])
def test_stacked_and_plain_storage_hold_the_same_bits(init):
    sizes = (3, *[6] * 9, 2)
    plain = MLP(sizes, hidden="prelu", stack_from=None).init(KEY, init)
    stacked = MLP(sizes, hidden="prelu", stack_from=4).init(KEY, init)
    assert (len(plain), len(stacked)) == (10, 3)
    assert same(jaxmlp.layers(stacked), list(plain))


@pytest.mark.parametrize("init", ["he", gaussian(2.0, 0.1)])
def test_networks_of_different_depth_share_their_first_layers(init):
    shallow = jaxmlp.layers(MLP((3, *[6] * 4, 2), hidden="prelu").init(KEY, init))
    deep = jaxmlp.layers(MLP((3, *[6] * 9, 2), hidden="prelu", stack_from=4).init(KEY, init))
    assert same(shallow[:4], deep[:4])
    assert not np.array_equal(deep[1].W, deep[2].W)


def test_another_key_draws_another_network():
    mlp = MLP((3, 5, 2))
    assert same(mlp.init(KEY), mlp.init(KEY, "he"))
    assert not same(mlp.init(KEY), mlp.init(jax.random.key(2)))


@pytest.mark.parametrize("legacy", [jax.random.PRNGKey(1), np.asarray(jax.random.PRNGKey(1))])
def test_legacy_key_draws_what_the_typed_one_does(legacy):
    assert same(MLP((3, 2)).init(legacy), MLP((3, 2)).init(KEY))


def test_init_composes_with_jit_and_vmap():
    mlp = MLP((4, 4, 4, 4), hidden="prelu", stack_from=1)  # one stack and the output
    keys, uniform = jax.random.split(KEY, 3), jax.nn.initializers.uniform()
    one_by_one = [mlp.init(key, uniform) for key in keys]
    assert same(jax.jit(lambda key: mlp.init(key, uniform))(keys[0]), one_by_one[0])
    together = jax.vmap(lambda key: mlp.init(key, uniform))(keys)
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_by_one)
    assert same(together, expected)


@pytest.mark.parametrize(
    ("key", "given"),
    [
        (0, "0"),
        (jax.random.split(KEY), r"an array of key<.*>\[2\]"),
        (jnp.zeros(2), r"an array of float32\[2\]"),
    ],
)
def test_what_is_no_key_is_refused(key, given):
    with pytest.raises(
        TypeError, match=rf"one PRNG key such as jax\.random\.key\(0\), got {given}"
    ):
        MLP((2, 3)).init(key)


@pytest.mark.parametrize("dtype", [int, jnp.complex64, bool])
def test_parameters_must_be_floating(dtype):
    with pytest.raises(TypeError, match="parameters must be floating, got dtype"):
        MLP((2, 3)).init(KEY, dtype=dtype)


# --- apply ----------------------------------------------------------------------------------------

NETWORKS = [
    MLP((4, 7, 3, 5, 2), hidden=("relu", "tanh", "sigmoid"), output="linear"),
    MLP((4, 7, 3, 5, 2), hidden=("prelu", "sin", "gelu"), use_bias=False),
    MLP((4, *[3] * 9, 2), hidden=["tanh"] * 4 + ["prelu"] * 5, stack_from=2),
    MLP((3, *[3] * 9, 3), hidden="tanh", output="sigmoid", use_bias=False, stack_from=1),
    MLP((4, 1, 1, 1), output="sigmoid"),
    MLP((4, 3)),
    MLP((4, 1), output="prelu"),
]


@pytest.mark.parametrize("mlp", NETWORKS, ids=lambda mlp: f"{mlp.sizes[0]}to{mlp.sizes[-1]}")
def test_apply_equals_a_numpy_loop(mlp):
    with jax.enable_x64(True):
        params = drawn(mlp)
        X = jnp.asarray(np.random.default_rng(3).normal(size=(6, mlp.sizes[0])))
        expected = apply_in_numpy(mlp, params, X)
        np.testing.assert_allclose(mlp.apply(params, X), expected, rtol=1e-12)
        np.testing.assert_allclose(mlp.apply(params, X[2]), expected[2], rtol=1e-12)
        assert mlp.apply(params, X[2]).shape == (mlp.sizes[-1],)
        wrong = jax.tree.map(lambda leaf: leaf * 1.001, params)
        assert not np.allclose(mlp.apply(wrong, X), expected, rtol=1e-5, atol=0)


def test_apply_accepts_any_grouping_of_the_layers():
    mlp = MLP((3, *[3] * 6, 3), hidden=["tanh"] * 3 + ["relu"] * 3)
    params, X = drawn(mlp), jnp.ones((2, 3))
    expected = mlp.apply(params, X)
    one = jaxmlp.stack(params)  # too short a run: stays plain
    assert same(one, params)
    as_one = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *params),)
    halves = (
        jax.tree.map(lambda leaf: leaf[:4], as_one[0]),
        jax.tree.map(lambda leaf: leaf[4:], as_one[0]),
    )
    lone = (jax.tree.map(lambda leaf: leaf[None], params[0]), *params[1:])
    for grouping in (as_one, halves, lone, list(params)):
        np.testing.assert_allclose(mlp.apply(grouping, X), expected, rtol=1e-6)


def test_ten_thousand_layers_are_drawn_and_applied():
    with jax.enable_x64(True):
        mlp = MLP((8, *[8] * 10_000, 3), hidden="tanh")
        params, X = mlp.init(KEY, gaussian(1.0, 0.05)), jnp.ones((2, 8))
        assert [layer.W.shape for layer in params] == [(10_000, 8, 8), (8, 3)]
        np.testing.assert_allclose(
            mlp.apply(params, X), apply_in_numpy(mlp, params, X), rtol=1e-9
        )  # rounding: an ordered network forgets its errors


def test_apply_composes_with_jit_vmap_and_autodiff():
    mlp = MLP((3, *[4] * 5, 2), hidden="tanh", output="linear", stack_from=2)
    params, X = drawn(mlp), jnp.linspace(-1, 1, 15).reshape(5, 3)
    half = jax.tree.map(lambda leaf: leaf / 2, params)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, half)
    together = jax.jit(jax.vmap(mlp.apply, (0, None)))(both, X)
    np.testing.assert_allclose(together[0], mlp.apply(params, X), rtol=1e-5)
    np.testing.assert_allclose(together[1], mlp.apply(half, X), rtol=1e-5)
    per_row = jax.vmap(lambda x: mlp.apply(params, x))(X)
    np.testing.assert_allclose(per_row, mlp.apply(params, X), rtol=1e-5)
    assert jax.jacobian(lambda x: mlp.apply(params, x))(X[0]).shape == (2, 3)


def test_activation_of_a_user_needs_no_derivative_to_be_applied():
    cube = Activation("cube", lambda Z: Z**3)
    mlp = MLP((1, 1, 1), hidden=cube, output="linear")
    params = (Layer(jnp.full((1, 1), 2.0), jnp.ones(1)), Layer(jnp.ones((1, 1)), jnp.ones(1)))
    assert mlp.apply(params, jnp.ones((1, 1))) == 28


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_parameters_give_half_precision_outputs(dtype):
    mlp = MLP((3, 8, 8, 8, 2), hidden="gelu", stack_from=1)
    params, X = drawn(mlp, dtype), jnp.linspace(-1, 1, 12, dtype=dtype).reshape(4, 3)
    out = mlp.apply(params, X)
    assert out.dtype == dtype
    error = np.abs(np.asarray(out, np.float64) - apply_in_numpy(mlp, params, X))
    assert error.max() < 8 * float(jnp.finfo(dtype).eps)  # rounding: some ulps of 1, 4 layers


# --- dtypes of X ----------------------------------------------------------------------------------


def test_float64_inputs_become_float32_without_x64():
    mlp = MLP((3, 4, 2))
    params, X = drawn(mlp), np.linspace(-1, 1, 6).reshape(2, 3)
    out = mlp.apply(params, X)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, mlp.apply(params, X.astype(np.float32)))
    np.testing.assert_array_equal(out, mlp.apply(params, X.tolist()))


def test_float32_inputs_of_a_float64_network_are_refused():
    with jax.enable_x64(True):
        params = drawn(MLP((3, 2)))
        with pytest.raises(TypeError, match="X is float32, but the parameters are float64: cast"):
            MLP((3, 2)).apply(params, np.ones((2, 3), np.float32))


def test_float64_inputs_of_a_float32_network_are_refused_under_x64():
    with jax.enable_x64(True):
        params = drawn(MLP((3, 2)), jnp.float32)
        with pytest.raises(TypeError, match="X is float64, but the parameters are float32: cast"):
            MLP((3, 2)).apply(params, np.ones((2, 3)))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "error", "sentence"),
    [
        (np.ones((2, 2, 3)), ValueError, r"X must have shape \(m, 3\) or \(3,\), got \(2, 2, 3\)"),
        (np.float32(1), ValueError, r"X must have shape \(m, 3\) or \(3,\), got \(\)"),
        (np.ones((2, 4)), ValueError, "X has 4 features, but the network takes 3"),
        (np.ones(4), ValueError, "X has 4 features, but the network takes 3"),
        (np.ones((0, 3)), ValueError, "X holds no samples"),
        (np.ones((2, 3), int), TypeError, "X must be floating, got dtype int64"),
        (jnp.ones((2, 3), jnp.int32), TypeError, "X must be floating, got dtype int32"),
        ([[1, 2, 3]], TypeError, "X must be floating, got dtype int64"),
        (np.ones((2, 3), bool), TypeError, "X must be floating, got dtype bool"),
        (np.ones((2, 3), complex), TypeError, "X must be floating, got dtype complex128"),
        (np.full((2, 3), "a"), TypeError, "X must be an array of numbers, got dtype <U1"),
        (None, TypeError, "X must be an array of numbers, got dtype object"),
        ([[1.0, 2.0, 3.0], [1.0]], ValueError, "X is not an array: "),
        (
            np.array([[0, 0, 0], [0, np.nan, np.inf]]),
            ValueError,
            r"X must be finite, but 2 of its 6 entries are not; the first is nan at index \(1, 1\)",
        ),
        (np.array([0, 0, -np.inf]), ValueError, "the first is -inf at index 2"),
    ],
)
def test_inputs_that_do_not_fit_are_named(X, error, sentence):
    mlp = MLP((3, 2))
    with pytest.raises(error, match=sentence):
        mlp.apply(drawn(mlp), X)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
def test_objective_takes_only_rows_of_samples(shape):
    J = jaxmlp.Objective(MLP((3, 2)), "cross_entropy")
    with pytest.raises(ValueError, match=re.escape(f"X must have shape (m, 3), got {shape}")):
        J(drawn(J.mlp), np.ones(shape, np.float32), np.zeros(2, int))


def test_shapes_are_checked_under_a_trace_and_values_are_not():
    mlp = MLP((3, 2))
    params, apply = drawn(mlp), jax.jit(mlp.apply)
    with pytest.raises(ValueError, match="X has 4 features, but the network takes 3"):
        apply(params, jnp.ones((2, 4)))
    assert np.isnan(apply(params, jnp.full((2, 3), jnp.nan))).all()


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (MLP((3, 5, 2)), r"W of layer 1 is \(3, 5\), expected \(3, 4\)"),
        (MLP((3, 4, 3)), r"W of layer 2 is \(4, 3\), expected \(4, 2\)"),
        (MLP((3, 4, 2), use_bias=False), r"b of layer 1 is none, expected \(4,\)"),
        (MLP((3, 4, 2), hidden="prelu"), r"slope of layer 1 is \(\), expected none"),
        (MLP((3, 4, 2, 2)), "params hold 3 layers, but the network has 2"),
        (MLP((3, 4)), "params hold 1 layers, but the network has 2"),
        (MLP((4, *[4] * 9, 4), stack_from=2), r"W of layer 1 is \(9, 4, 4\), expected \(9, 3, 4\)"),
    ],
)
def test_parameters_of_another_network_are_refused(other, sentence):
    with pytest.raises(ValueError, match=sentence):
        MLP((3, 4, 2)).apply(drawn(other), jnp.ones((2, 3)))


def test_missing_slope_is_named():
    params = drawn(MLP((3, 4, 2)))
    with pytest.raises(ValueError, match=r"slope of layer 1 is none, expected \(\)"):
        MLP((3, 4, 2), hidden="prelu").apply(params, jnp.ones((2, 3)))


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (Layer(jnp.ones((3, 2)), jnp.ones(2)), "must be a tuple of Layers, got Layer"),
        ({"W1": jnp.ones((3, 2))}, "params must be a tuple of Layers, got dict"),
        ((jnp.ones((3, 2)),), "a tuple of Layers, but one is "),
        ((Layer(jnp.ones((3, 2)), jnp.ones(2, jnp.bfloat16)),), r"one floating dtype, got \['bfl"),
        ((Layer(jnp.ones((3, 2), int), jnp.ones(2, int)),), r"one floating dtype, got \['int32'\]"),
    ],
)
def test_what_are_no_parameters_is_refused(params, sentence):
    with pytest.raises(TypeError, match=sentence):
        MLP((3, 2)).apply(params, jnp.ones((2, 3)))
