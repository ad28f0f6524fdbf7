"""The objective J: its value, JAX's transformations of it, and how it refuses bad input."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import relative_error, relative_errors

import jaxmlp
from jaxmlp import edge

ROUNDING = 1e-13  # float64, one small network

SIZES = (3, 4, 3)
WEIGHTS = (
    np.array([[0.5, -1.0, 0.3, 0.8], [-0.2, 0.7, 1.1, -0.9], [0.4, 0.1, -0.6, 0.2]]),
    np.array([0.1, -0.2, 0.3, 0.0]),
    np.array([[1.0, -0.5, 0.2], [0.3, 0.9, -1.2], [-0.8, 0.6, 0.4], [0.5, -0.1, 0.7]]),
    np.array([-0.3, 0.2, 0.1]),
)
LABELS = np.array([0, 2, 1, 2, 0])
ROWS = np.eye(3)[LABELS]
INPUTS = np.random.default_rng(0).normal(size=(5, 3))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def network(dtype=None):
    W1, b1, W2, b2 = (jnp.asarray(x, dtype or jnp.zeros(()).dtype) for x in WEIGHTS)
    return jaxmlp.Layer(W1, b1), jaxmlp.Layer(W2, b2)


def objective(loss="cross_entropy", output="softmax", **mlp):
    return jaxmlp.Objective(jaxmlp.MLP(SIZES, hidden="tanh", output=output, **mlp), loss)


# --- the value ------------------------------------------------------------------------------------

OUTPUT = {
    "softmax": lambda Z: np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True),
    "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
    "linear": lambda Z: Z,
    "tanh": np.tanh,
}
# J of the whole batch, as the notes write it
FORMULA = {
    "cross_entropy": lambda A, Y: -(Y * np.log(A)).sum() / len(A),
    "binary_cross_entropy": lambda A, Y: -(Y * np.log(A) + (1 - Y) * np.log(1 - A)).sum() / len(A),
    "mse": lambda A, Y: ((A - Y) ** 2).sum() / len(A),
    "half_squared_error": lambda A, Y: ((A - Y) ** 2).sum() / 2 / len(A),
    "sse": lambda A, Y: ((A - Y) ** 2).sum(),
    "norm": lambda A, Y: np.linalg.norm(A - Y, axis=1).sum() / len(A),
}
COMBINATIONS = [
    ("cross_entropy", "softmax"),
    ("binary_cross_entropy", "sigmoid"),
    ("mse", "tanh"),
    ("half_squared_error", "linear"),
    ("sse", "softmax"),
    ("norm", "sigmoid"),
]


def by_numpy(loss, output, X=INPUTS, Y=ROWS):
    W1, b1, W2, b2 = WEIGHTS
    return FORMULA[loss](OUTPUT[output](np.tanh(X @ W1 + b1) @ W2 + b2), Y)


@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
def test_value_is_the_formula_of_the_notes(loss, output, x64):
    value = objective(loss, output)(network(), INPUTS, ROWS)
    assert (value.shape, value.dtype) == ((), jnp.float64)
    assert relative_error(value, by_numpy(loss, output)) <= ROUNDING


@pytest.mark.parametrize(("loss", "output"), COMBINATIONS)
def test_value_is_the_mean_over_samples_and_sse_the_sum(loss, output, x64):
    J = objective(loss, output)
    each = [float(J(network(), INPUTS[i : i + 1], ROWS[i : i + 1])) for i in range(5)]
    expected = np.sum(each) if loss == "sse" else np.mean(each)
    assert relative_error(J(network(), INPUTS, ROWS), expected) <= ROUNDING


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_value_of_half_precision_is_float32(dtype):
    value = objective()(network(dtype), jnp.asarray(INPUTS, dtype), ROWS)
    assert value.dtype == jnp.float32
    precision = 4 * float(jnp.finfo(dtype).eps)  # rounding, two layers
    assert relative_error(value, by_numpy("cross_entropy", "softmax")) <= precision


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, list])
def test_labels_of_any_integer_kind_are_their_one_hot_rows(kind, x64):
    labels = LABELS.tolist() if kind is list else LABELS.astype(kind)
    value = objective()(network(), INPUTS, labels)
    assert relative_error(value, by_numpy("cross_entropy", "softmax")) <= ROUNDING


def test_soft_labels_are_weighed(x64):
    soft = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5], [1 / 3] * 3, [0.9, 0.1, 0.0], [0, 1, 0]])
    value = objective()(network(), INPUTS, soft)
    assert relative_error(value, by_numpy("cross_entropy", "softmax", Y=soft)) <= ROUNDING


@pytest.mark.parametrize(
    ("loss", "output"), [("mse", "linear"), ("binary_cross_entropy", "sigmoid"), ("norm", "tanh")]
)
def test_one_output_takes_targets_without_a_second_axis(loss, output, x64):
    J = jaxmlp.Objective(jaxmlp.MLP((3, 1), output=output), loss)
    W, b, y = WEIGHTS[0][:, :1], WEIGHTS[1][:1], np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    params = (jaxmlp.Layer(jnp.asarray(W), jnp.asarray(b)),)
    expected = FORMULA[loss](OUTPUT[output](INPUTS @ W + b), y[:, None])
    assert relative_error(J(params, INPUTS, y), expected) <= ROUNDING
    assert relative_error(J(params, INPUTS, y.astype(int)), expected) <= ROUNDING
    column, flat = (jaxmlp.grad(J)(params, INPUTS, Y)[0].W for Y in (y[:, None], y))
    np.testing.assert_array_equal(column, flat)


@pytest.mark.parametrize("stack_from", [None, 1])
def test_value_does_not_depend_on_storage(stack_from, x64):
    mlp = jaxmlp.MLP((3, 3, 3, 3), hidden="tanh", use_bias=False, stack_from=stack_from)
    layers = [jaxmlp.Layer(jnp.asarray(WEIGHTS[0][:, i : i + 3])) for i in (0, 1, 0)]
    Z = np.tanh(np.tanh(INPUTS @ WEIGHTS[0][:, :3]) @ WEIGHTS[0][:, 1:]) @ WEIGHTS[0][:, :3]
    value = jaxmlp.Objective(mlp, "mse")(jaxmlp.stack(layers, mlp), INPUTS, ROWS)
    assert relative_error(value, FORMULA["mse"](OUTPUT["softmax"](Z), ROWS)) <= ROUNDING


# --- what jax may do with it ----------------------------------------------------------------------


def test_jax_grad_jit_and_vmap_work_on_the_objective(x64):
    J, params = objective(), network()
    value = J(params, INPUTS, ROWS)
    assert relative_error(jax.jit(J)(params, INPUTS, ROWS), value) <= ROUNDING

    grads = jax.grad(J)(params, INPUTS, ROWS)
    h = 1e-6  # a central difference in one direction: finite-difference error h^2
    moved = [jax.tree.map(lambda p, g: p + s * h * g, params, grads) for s in (1, -1)]  # noqa: B023
    slope = (J(moved[0], INPUTS, ROWS) - J(moved[1], INPUTS, ROWS)) / (2 * h)
    assert relative_error(slope, optax.tree.norm(grads, squared=True)) <= 1e-8

    nets = [jax.tree.map(lambda x: x * scale, params) for scale in (0.5, 1.0, 2.0)]  # noqa: B023
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *nets)
    values = jax.vmap(J, (0, None, None))(stacked, INPUTS, ROWS)
    assert relative_error(values, [J(net, INPUTS, ROWS) for net in nets]) <= ROUNDING


def test_objectives_of_equal_parts_are_equal_and_hash_alike():
    assert objective() == objective()
    assert hash(objective()) == hash(objective())
    assert objective("mse") != objective("sse")
    assert objective("mse", "tanh") != objective("mse", "linear")
    with pytest.raises(AttributeError):
        objective().loss = "mse"


def test_float64_data_becomes_float32_where_jax_has_no_float64():
    value = objective()(network(), INPUTS, ROWS)
    single = objective()(network(), INPUTS.astype(np.float32), ROWS.astype(np.float32))
    assert value.dtype == jnp.float32
    assert value == single


# --- bad input ------------------------------------------------------------------------------------

CALLS = {
    "J": lambda J, params, X, Y: J(params, X, Y),
    "grad": lambda J, params, X, Y: jaxmlp.grad(J)(params, X, Y),
    "value_and_grad": lambda J, params, X, Y: jaxmlp.value_and_grad(J)(params, X, Y),
    "trace": lambda J, params, X, Y: jaxmlp.trace(J)(params, X, Y),
    "train_step": lambda J, params, X, Y: jaxmlp.train_step(J, 0.1)(params, None, X, Y),
    "fit": lambda J, params, X, Y: jaxmlp.fit(J, params, X, Y, optimizer=0.1, epochs=1),
}


def put(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


def wider(layer):
    return layer._replace(W=jnp.ones((4, 2)), b=jnp.ones(2))


NAN, INF = np.nan, np.inf
# what is wrong -> (kind of error, its sentence, the bad argument by name)
BAD = {
    "X of rank 1": (ValueError, "X must have shape (m, 3), got (3,)", {"X": INPUTS[0]}),
    "X of rank 3": (ValueError, "X must have shape (m, 3), got (1, 5, 3)", {"X": INPUTS[None]}),
    "integer X": (TypeError, "X must be floating, got dtype int32", {"X": np.ones((5, 3), "i4")}),
    "boolean X": (TypeError, "X must be floating, got dtype bool", {"X": INPUTS > 0}),
    "complex X": (TypeError, "X must be floating, got dtype complex128", {"X": INPUTS + 0j}),
    "string X": (TypeError, "X must be an array of numbers, got", {"X": INPUTS.astype(str)}),
    "no X": (TypeError, "X must be an array of numbers, got dtype object", {"X": None}),
    "ragged X": (ValueError, "X is not an array", {"X": [[1.0, 2.0, 3.0], [1.0]]}),
    "half X": (
        TypeError,
        "X is float16, but the parameters are float32: cast one of them",
        {"X": INPUTS.astype(np.float16)},
    ),
    "feature count": (
        ValueError, "X has 2 features, but the network takes 3", {"X": INPUTS[:, :2]},
    ),
    "sample counts": (ValueError, "X has 5 samples but Y has 4", {"Y": ROWS[:4]}),
    "label counts": (ValueError, "X has 5 samples but Y has 3", {"Y": LABELS[:3]}),
    "empty batch": (ValueError, "X holds no samples", {"X": INPUTS[:0], "Y": ROWS[:0]}),
    "label K": (
        ValueError,
        "label 3 at index 3, but the model has 3 classes (0-2)",
        {"Y": put(LABELS, 3, 3)},
    ),
    "label -1": (
        ValueError,
        "label -1 at index 1, but the model has 3 classes (0-2)",
        {"Y": put(LABELS, 1, -1)},
    ),
    "label beyond int32": (
        ValueError,
        "label 4294967296 at index 0, but the model has 3 classes (0-2)",
        {"Y": put(LABELS, 0, 2**32)},
    ),
    "labels not integral": (
        TypeError, "labels in Y must have an integer dtype, got float64", {"Y": LABELS + 0.5},
    ),
    "boolean labels": (
        TypeError, "labels in Y must have an integer dtype, got bool", {"Y": LABELS > 0},
    ),
    "string labels": (
        TypeError, "Y must be an array of numbers, got dtype <U", {"Y": LABELS.astype(str)},
    ),
    "complex Y": (TypeError, "Y must be numbers, got dtype complex128", {"Y": ROWS + 0j}),
    "rows too narrow": (
        ValueError, "Y has 2 columns, but the model has 3 outputs", {"Y": ROWS[:, :2]},
    ),
    "labels in a column": (
        ValueError, "Y has 1 columns, but the model has 3 outputs", {"Y": LABELS[:, None]},
    ),
    "Y of rank 3": (ValueError, "Y must have shape (5, 3) or (5,), got", {"Y": ROWS[None]}),
    "row sum": (
        ValueError,
        "rows of Y must sum to 1, but row 2 sums to 0.5",
        {"Y": put(ROWS, 2, [0.5, 0, 0])},
    ),
    "integer row sum": (
        ValueError,
        "rows of Y must sum to 1, but row 4 sums to 2",
        {"Y": put(ROWS, 4, [1, 1, 0]).astype(np.int8)},
    ),
    "no probability": (
        ValueError,
        "targets of cross_entropy are probabilities in [0, 1], but Y[1, 0] is -1",
        {"Y": put(ROWS, 1, [-1, 1, 1])},
    ),
    "NaN in X": (
        ValueError,
        "X must be finite, but 1 of its 15 entries are not; the first is nan at index (2, 1)",
        {"X": put(INPUTS, (2, 1), NAN)},
    ),
    "infinity in X": (
        ValueError,
        "X must be finite, but 3 of its 15 entries are not; the first is -inf at index (4, 0)",
        {"X": put(INPUTS, 4, -INF)},
    ),
    "NaN in Y": (
        ValueError,
        "Y must be finite, but 1 of its 15 entries are not; the first is nan at index (0, 2)",
        {"Y": put(ROWS, (0, 2), NAN)},
    ),
    "infinity in Y": (
        ValueError,
        "Y must be finite, but 1 of its 15 entries are not; the first is inf at index (3, 0)",
        {"Y": put(ROWS, (3, 0), INF)},
    ),
    "a mask over X": (
        TypeError,
        "X must be a plain array: of a masked one the mask would be lost",
        {"X": np.ma.masked_array(INPUTS, INPUTS > 0)},
    ),
    "X below the range of XLA": (
        ValueError,
        "X underflows: XLA takes entries below 1.18e-38 as 0",
        {"X": np.linspace(1e-39, 2e-38, 15, dtype=np.float32).reshape(5, 3)},
    ),
    "no Y": (TypeError, "Y must be an array of numbers, got dtype object", {"Y": None}),
    "a shorter network": (
        ValueError, "params hold 1 layers, but the network has 2", {"params": network()[:1]},
    ),
    "a longer network": (
        ValueError, "params hold 4 layers, but the network has 2", {"params": network() * 2},
    ),
    "a wider network": (
        ValueError,
        "params are of another network: W of layer 2 is (4, 2), expected (4, 3)",
        {"params": (network()[0], wider(network()[1]))},
    ),
    "a network without biases": (
        ValueError,
        "params are of another network: b of layer 1 is none, expected (4,)",
        {"params": tuple(layer._replace(b=None) for layer in network())},
    ),
    "a network with slopes": (
        ValueError,
        "params are of another network: slope of layer 2 is (), expected none",
        {"params": (network()[0], network()[1]._replace(slope=jnp.ones(())))},
    ),
    "a bare layer": (
        TypeError, "params must be a tuple of Layers, got Layer", {"params": network()[0]},
    ),
    "a dictionary": (
        TypeError,
        "params must be a tuple of Layers, got dict",
        {"params": jaxmlp.as_dict(network())},
    ),
    "dicts for Layers": (
        TypeError,
        "params must be a tuple of Layers, but one is dict",
        {"params": tuple(layer._asdict() for layer in network())},
    ),
    "integer parameters": (
        TypeError,
        "params must have one floating dtype, got ['int32']",
        {"params": jax.tree.map(lambda x: x.astype(int), network())},
    ),
    "parameters of two dtypes": (
        TypeError,
        "params must have one floating dtype, got ['float16', 'float32']",
        {"params": (network()[0], network(jnp.float16)[1])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_gets_one_clear_sentence(wrong, call):
    kind, sentence, bad = BAD[wrong]
    arguments = {"params": network(), "X": INPUTS, "Y": ROWS} | bad
    with pytest.raises(kind, match=re.escape(sentence)) as caught:
        CALLS[call](objective(), **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", CALLS)
def test_bad_targets_of_a_regression_get_one_clear_sentence(call):
    J, good = objective("mse", "linear"), (network(), INPUTS)
    with pytest.raises(ValueError, match=r"Y must have shape \(5, 3\) for 3 outputs, got \(5,\)"):
        CALLS[call](J, *good, np.ones(5))
    with pytest.raises(ValueError, match=r"the first is nan at index \(1, 1\)"):
        CALLS[call](J, *good, put(ROWS, (1, 1), NAN))
    with pytest.raises(TypeError, match="Y must be numbers, got dtype complex128"):
        CALLS[call](J, *good, ROWS + 1j)


@pytest.mark.parametrize("argument", ["X", "Y"])
@pytest.mark.parametrize("call", CALLS)
def test_numbers_beyond_float32_are_refused_and_not_made_infinite(call, argument):
    data = {"X": INPUTS, "Y": ROWS}
    data[argument] = put(data[argument], (3, 1), 1e300)
    sentence = f"{argument} must be finite, but 1 of its 15 entries are not; the first is inf at "
    with pytest.raises(ValueError, match=sentence):
        CALLS[call](objective("mse", "linear"), network(), **data)


@pytest.mark.parametrize("call", CALLS)
def test_targets_of_a_binary_cross_entropy_are_probabilities(call):
    J = objective("binary_cross_entropy", "sigmoid")
    sentence = "targets of binary_cross_entropy are probabilities in [0, 1], but Y[2, 1] is 1.5"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        CALLS[call](J, network(), INPUTS, put(ROWS, (2, 1), 1.5))


@pytest.mark.parametrize("params_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_cast_in_silence_under_x64(call, params_dtype, x64):
    other = np.float64 if params_dtype == np.float32 else np.float32
    sentence = (
        f"X is {np.dtype(other)}, but the parameters are {np.dtype(params_dtype)}: cast one of them"
    )
    with pytest.raises(TypeError, match=sentence):
        CALLS[call](objective(), network(params_dtype), INPUTS.astype(other), ROWS)


@pytest.mark.parametrize(
    "call",
    [
        jaxmlp.grad,
        jaxmlp.value_and_grad,
        jaxmlp.trace,
        lambda f: jaxmlp.train_step(f, 0.1),
        lambda f: jaxmlp.fit(f, network(), INPUTS, ROWS, optimizer=0.1, epochs=1),
    ],
    ids=["grad", "value_and_grad", "trace", "train_step", "fit"],
)
@pytest.mark.parametrize("wrong", [lambda p, X, Y: 0.0, "mse", None, objective().mlp])
def test_a_plain_function_where_an_objective_belongs_is_told_how_to_make_one(call, wrong):
    with pytest.raises(TypeError, match=r"expected a jaxmlp\.Objective, got .*") as caught:
        call(wrong)
    assert "make one with jaxmlp.Objective(mlp, loss)" in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "error", "sentence"),
    [
        ("cros_entropy", ValueError, "unknown loss 'cros_entropy'; did you mean 'cross_entropy'?"),
        ("MSE", ValueError, "unknown loss 'MSE'; did you mean 'mse'?"),
        ("quantile", ValueError, "unknown loss 'quantile'; known: binary_cross_entropy, cross_"),
        (lambda A, Y: 0.0, TypeError, "a loss must be a name or a Loss, got <function"),
        (None, TypeError, "a loss must be a name or a Loss, got None"),
    ],
)  # fmt: skip
def test_an_unknown_loss_is_refused_with_the_nearest_name(loss, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        jaxmlp.Objective(jaxmlp.MLP(SIZES), loss)


@pytest.mark.parametrize("output", ["linear", "sigmoid", "tanh"])
def test_cross_entropy_needs_a_softmax_output(output):
    sentence = f"cross_entropy needs a softmax output, but the MLP's is {output}"
    with pytest.raises(ValueError, match=sentence):
        objective("cross_entropy", output)


@pytest.mark.parametrize("output", ["linear", "softmax", "tanh"])
def test_binary_cross_entropy_needs_a_sigmoid_output(output):
    sentence = f"binary_cross_entropy needs a sigmoid output, but the MLP's is {output}"
    with pytest.raises(ValueError, match=sentence):
        objective("binary_cross_entropy", output)


@pytest.mark.parametrize(
    "mlp", [network(), SIZES, None, "mlp"], ids=["params", "sizes", "-", "name"]
)
def test_an_objective_needs_a_network(mlp):
    with pytest.raises(TypeError, match="mlp must be an MLP, got"):
        jaxmlp.Objective(mlp, "mse")


# --- under a trace --------------------------------------------------------------------------------

TRACED = {
    "J": lambda J: J,
    "grad": jaxmlp.grad,
    "value_and_grad": jaxmlp.value_and_grad,
    "trace": jaxmlp.trace,
    "train_step": lambda J: (
        lambda params, X, Y: jaxmlp.train_step(J, optax.sgd(0.1))(
            params, optax.sgd(0.1).init(params), X, Y
        )
    ),
}


@pytest.mark.parametrize("name", TRACED)
def test_under_jit_values_pass_and_shapes_are_still_refused(name):
    f = jax.jit(TRACED[name](objective()))
    out = f(network(), put(INPUTS, (0, 0), NAN).astype(np.float32), LABELS)
    assert any(bool(jnp.isnan(leaf).any()) for leaf in jax.tree.leaves(out))
    f(network(), INPUTS, put(LABELS, 0, 7))  # nor are labels looked at
    for wrong in ("feature count", "rows too narrow", "X of rank 1", "empty batch", "integer X"):
        kind, sentence, bad = BAD[wrong]
        with pytest.raises(kind, match=re.escape(sentence)):
            f(**{"params": network(), "X": INPUTS, "Y": ROWS} | bad)
    with pytest.raises(ValueError, match="params hold 1 layers, but the network has 2"):
        f(network()[:1], INPUTS, ROWS)


def test_data_closed_over_by_a_jitted_function_is_still_looked_at():
    J, X = objective(), jnp.asarray(put(INPUTS, (0, 0), NAN))
    with pytest.raises(ValueError, match="X must be finite"):
        jax.jit(lambda params: J(params, X, LABELS))(network())


def test_gradients_of_every_input_kind_agree(x64):
    J, params = objective(), network()
    reference = jax.grad(J)(params, jnp.asarray(INPUTS), jnp.asarray(ROWS))
    for X, Y in ((INPUTS, LABELS), (INPUTS.tolist(), ROWS.tolist()), (INPUTS, ROWS.astype(bool))):
        errors = relative_errors(jaxmlp.grad(J)(params, X, Y), reference)
        assert max(errors.values()) <= ROUNDING


@pytest.mark.parametrize("call", CALLS)
def test_explicit_axes_of_a_mesh_are_refused_with_the_cure(call):
    mesh = jax.make_mesh((1,), ("samples",))  # Explicit axes by default
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("samples"))
    with pytest.raises(ValueError, match=r"X is sharded as .* axis_types=.*AxisType\.Auto"):
        CALLS[call](objective(), network(), jax.device_put(INPUTS, rows), ROWS)


def test_what_is_written_into_an_array_later_is_not_seen():
    """JAX may share the memory of a NumPy array that begins at a multiple of 64 bytes."""
    bytes = np.zeros(4 * 2 + 64, np.uint8)
    begin = -bytes.ctypes.data % 64
    X = bytes[begin : begin + 4 * 2].view(np.float32).reshape(1, 2)
    X[:] = 1
    held = edge.checked_inputs(2, X, np.dtype(np.float32))
    X[:] = 2
    assert (np.asarray(held) == 1).all()
