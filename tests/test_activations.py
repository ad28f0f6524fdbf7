import copy
import dataclasses
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from support import problem, relative_error, relative_errors

import jaxmlp
from jaxmlp import activations
from jaxmlp.activations import Activation

VARIANTS = (
    "leaky_relu:0.1",
    "leaky_relu:0.2:1",
    "relu:0.5",
    "relu:-1",
    "elu:0.5",
    "elu:-0.7",
    "linear:2:-1",
    "linear:-3",
)
NAMES = (*(name for name in activations.names() if name != "softmax"), *VARIANTS)
FLAT = ("step", "sign")  # their derivative is 0 everywhere

FAR = np.array([1.0, 1.7, 2, 3, 4, 10, 70, 1000]) * 10.0
GRID = np.concatenate([np.linspace(-12, 12, 2401) + 0.00123, FAR, -FAR])
# on no kink; one shape for most tests, so that each primitive compiles once

# Where |A| nears a limit, a derivative written in A has the rounding of A, and so has autodiff's:
# one ulp of A = 1 is 1e-16. These are compared in their own size down to slopes of 1e-2.
SATURATES = (
    "elu", "elu:0.5", "elu:-0.7", "gelu_tanh", "selu", "sigmoid", "softsign", "tanh",
)  # fmt: skip
TOLERANCE = 1e-12  # rounding, float64: some ulps, times 1e2 for a slope of 1e-2


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def both_derivatives(activation, z):
    """The derivative by hand and by autodiff, as NumPy."""
    Z = jnp.asarray(z)
    by_hand = activation.derivative(Z, activation.fn(Z))
    return np.asarray(by_hand), np.asarray(jax.vmap(jax.grad(activation.fn))(Z))


def derivative_error(activation, z):
    """The largest `|hand - autodiff| / |autodiff|` of any entry; inf where only autodiff is 0."""
    by_hand, by_autodiff = both_derivatives(activation, z)
    size = np.maximum(np.abs(by_autodiff), 1e-2 if activation.name in SATURATES else 0)
    error = np.abs(by_hand - by_autodiff)
    ratio = np.divide(error, size, where=size > 0, out=np.full_like(error, np.inf))
    return np.where(error == 0, 0, ratio).max()


# --- the derivatives ------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NAMES)
def test_derivative_equals_autodiff_at_every_point_in_its_own_size(name):
    assert derivative_error(activations.get(name), GRID) < TOLERANCE


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in FLAT])
def test_comparison_catches_a_derivative_wrong_by_a_thousandth(name):
    right = activations.get(name)
    wrong = dataclasses.replace(right, derivative=lambda Z, A: 1.001 * right.derivative(Z, A))
    assert derivative_error(wrong, GRID) > 0.9e-3


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FLAT)
def test_comparison_catches_a_slope_where_there_is_none(name):
    wrong = dataclasses.replace(
        activations.get(name), derivative=lambda Z, A: jnp.full_like(A, 1e-30)
    )
    assert derivative_error(wrong, GRID) == np.inf


KINKS = [  # the table of the module's docstring, row by row
    ("relu", 0, 0),
    ("squared_relu", 0, 0),
    ("prelu", 0, 0.25),
    ("leaky_relu", 0, 1),
    ("elu", 0, 1),
    ("selu", 0, 1.0507009873554805 * 1.6732632423543772),
    ("hard_tanh", -1, 1),
    ("hard_tanh", 1, 1),
    ("piecewise_linear", -0.5, 0),
    ("piecewise_linear", 0.5, 0),
    ("step", 0, 0),
    ("sign", 0, 0),
    ("softsign", 0, 1),
    ("leaky_relu:0.1", 0, 1),
    ("leaky_relu:0.2:1", 1, 1),
    ("relu:0.5", 0.5, 0),
    ("relu:-1", -1, 0),
    ("elu:0.5", 0, 0.5),
    ("elu:-0.7", 0, -0.7),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "kink", "expected"), KINKS)
def test_derivative_at_a_kink_follows_the_convention_and_autodiff(name, kink, expected):
    at = np.full(GRID.shape, kink, float)
    at[::2] *= -1 if kink == 0 else 1  # -0.0 too
    by_hand, by_autodiff = both_derivatives(activations.get(name), at)
    np.testing.assert_array_equal(by_hand, by_autodiff)
    np.testing.assert_allclose(by_hand, expected, rtol=1e-15)


def test_docstring_has_a_row_for_every_activation_with_a_kink():
    rows = re.findall(r"^\| ([a-z_, ]+) \| (?!derivative)", activations.__doc__, re.MULTILINE)
    listed = {name for row in rows for name in row.split(", ")} - {"activation"}
    kinked = {name for name in NAMES if ":" not in name and activations.get(name).kinks}
    smooth = {"elu", "softsign", "squared_relu"}  # elu's jumps with alpha other than 1
    assert listed == kinked | smooth
    assert {name for name, *_ in KINKS if ":" not in name} == listed


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NAMES)
def test_kinks_are_where_the_derivative_jumps(name):
    activation = activations.get(name)
    cells = np.linspace(-3, 3, GRID.size) + 1e-4  # 0, 1/2 and 1 lie inside a cell
    slopes = np.asarray(jax.vmap(jax.grad(activation.fn))(jnp.asarray(cells)))
    values = np.asarray(activation.fn(jnp.asarray(cells)))
    jumps = (np.abs(np.diff(slopes)) > 0.1) | (np.abs(np.diff(values)) > 0.1)
    found = (cells[:-1] + cells[1:])[jumps] / 2
    declared = activation.kinks
    np.testing.assert_allclose(found, declared, rtol=0, atol=2e-3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("slope", [0.25, 0.0, 1.7, -0.4])
def test_prelu_derivative_equals_autodiff_in_z_for_any_slope(slope):
    Z, alpha = jnp.asarray(GRID).at[0].set(0), jnp.asarray(slope)
    by_hand = activations.prelu.derivative(Z, activations.prelu.fn(Z, alpha), alpha)
    by_autodiff = jax.vmap(jax.grad(activations.prelu.fn), (0, None))(Z, alpha)
    np.testing.assert_array_equal(by_hand, by_autodiff)
    assert by_hand[0] == slope


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("slope", [0.25, 0.0, 1.7, -0.4])
def test_prelu_slope_has_the_gradient_of_autodiff(slope):
    J, params, X, Y = problem((3, 5, 4, 2), hidden="prelu", output="linear", loss="mse")
    params = tuple(
        layer if layer.slope is None else layer._replace(slope=jnp.asarray(slope))
        for layer in params
    )
    by_hand = jaxmlp.grad(J)(params, X, Y)
    errors = relative_errors(by_hand, jax.grad(J)(params, X, Y))
    assert max(errors.values()) < TOLERANCE
    assert {"slope1", "slope2"} <= errors.keys()
    assert by_hand[0].slope != 0


def test_prelu_slope_derivative_of_one_sample_is_the_sum_of_the_negative_parts():
    J = jaxmlp.Objective(jaxmlp.MLP((3, 1), output="prelu", use_bias=False), "half_squared_error")
    W = jnp.array([[1.0], [1.0], [1.0]])
    params = (jaxmlp.Layer(W, None, jnp.asarray(0.5)),)
    X = jnp.array([[-1.0, -2.0, -1.0], [1.0, 2.0, 3.0]])  # z = -4 and 6, a = -2 and 6
    (grads,) = jaxmlp.grad(J)(params, X, jnp.zeros((2, 1)))
    assert grads.slope == -2 * -4 / 2  # (a - y) min(z, 0), mean over the samples


@pytest.mark.usefixtures("x64")
def test_softmax_vjp_equals_the_explicit_jacobian():
    rng, K = np.random.default_rng(0), 4
    A, dA = rng.dirichlet(np.ones(K), size=6), rng.normal(size=(6, K))
    expected = np.empty_like(A)
    for i, (s, cotangent) in enumerate(zip(A, dA, strict=True)):
        jacobian = np.array(
            [[s[j] * (1 - s[j]) if j == k else -s[j] * s[k] for k in range(K)] for j in range(K)]
        )
        expected[i] = cotangent @ jacobian
    by_hand = activations.softmax_vjp(jnp.asarray(A), jnp.asarray(dA))
    assert relative_error(by_hand, expected) < TOLERANCE
    assert relative_error(1.001 * by_hand, expected) > 0.9e-3


# --- the functions --------------------------------------------------------------------------------


def gelu_tanh(z):
    return z * scipy.special.expit(2 * np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))


FORMULAS = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.maximum(z, 0) + 0.01 * np.minimum(z, 0),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "step": lambda z: np.heaviside(z, 0.5),
    "sign": np.sign,
    "piecewise_linear": lambda z: np.clip(z + 0.5, 0, 1),
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
    "prelu": lambda z: np.maximum(0, z) + 0.25 * np.minimum(0, z),
    "softplus": lambda z: np.logaddexp(0, z),
    "selu": lambda z: (
        1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(np.minimum(z, 0)))
    ),
    "gelu": lambda z: z * scipy.special.ndtr(z),
    "gelu_tanh": gelu_tanh,
    "silu": lambda z: z * scipy.special.expit(z),
    "swish": lambda z: z / (1 + np.exp(np.minimum(-z, 700))),
    "erf": scipy.special.erf,
    "sin": np.sin,
    "softsign": lambda z: z / (1 + np.abs(z)),
    "hard_tanh": lambda z: np.clip(z, -1, 1),
    "mish": lambda z: z * np.tanh(np.logaddexp(0, z)),
    "squared_relu": lambda z: np.where(z > 0, z, 0) ** 2,
    "leaky_relu:0.1": lambda z: np.where(z > 0, z, 0.1 * z),
    "leaky_relu:0.2:1": lambda z: np.where(z > 1, z, 0.2 * z),
    "relu:0.5": lambda z: np.where(z > 0.5, z, 0),
    "relu:-1": lambda z: np.where(z > -1, z, 0),
    "elu:0.5": lambda z: np.where(z > 0, z, 0.5 * np.expm1(np.minimum(z, 0))),
    "elu:-0.7": lambda z: np.where(z > 0, z, -0.7 * np.expm1(np.minimum(z, 0))),
    "linear:2:-1": lambda z: 2 * z - 1,
    "linear:-3": lambda z: -3 * z,
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NAMES)
def test_function_equals_its_formula_in_numpy(name):
    z = np.append(GRID[1:], 0)
    value = np.asarray(activations.get(name).fn(jnp.asarray(z)))
    # rounding: 1 + tanh(u) and the like keep some ulps of 1, times z
    np.testing.assert_allclose(value, FORMULAS[name](z), rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "jax_fn"),
    [
        ("relu", jax.nn.relu),
        ("leaky_relu", jax.nn.leaky_relu),
        ("elu", jax.nn.elu),
        ("sigmoid", jax.nn.sigmoid),
        ("tanh", jax.nn.tanh),
        ("softplus", jax.nn.softplus),
        ("selu", jax.nn.selu),
        ("gelu", lambda z: jax.nn.gelu(z, approximate=False)),
        ("gelu_tanh", jax.nn.gelu),
        ("silu", jax.nn.silu),
        ("swish", jax.nn.swish),
        ("softsign", jax.nn.soft_sign),
        ("hard_tanh", jax.nn.hard_tanh),
        ("mish", jax.nn.mish),
        ("softmax", jax.nn.softmax),
    ],
)
def test_function_equals_the_one_of_jax_nn(name, jax_fn):
    z = jnp.asarray(GRID)
    np.testing.assert_allclose(activations.get(name).fn(z), jax_fn(z), rtol=1e-15)


def test_swish_is_silu():
    assert activations.get("swish") is activations.silu


# --- the conventions of the notes (CURRICULUM D) --------------------------------------------------


def test_linear_is_a_line_with_constant_gradient():
    line = activations.linear(2, -1)
    assert line.fn(jnp.asarray(3.0)) == 5
    assert line.derivative(jnp.zeros(3), jnp.zeros(3)).tolist() == [2, 2, 2]


@pytest.mark.parametrize(("name", "values"), [("step", [0, 0.5, 1]), ("sign", [-1, 0, 1])])
def test_perceptron_units_at_their_jump(name, values):
    assert activations.get(name).fn(jnp.array([-2.0, 0.0, 2.0])).tolist() == values


def test_piecewise_linear_is_a_ramp_between_minus_and_plus_one_half():
    z = jnp.array([-2, -0.5, -0.25, 0, 0.25, 0.5, 2])
    unit = activations.piecewise_linear
    assert unit.fn(z).tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert unit.derivative(z, unit.fn(z)).tolist() == [0, 0, 1, 1, 1, 0, 0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "steepest"), [("sigmoid", 0.25), ("tanh", 1)])
def test_saturating_unit_is_steepest_at_zero(name, steepest):
    unit, z = activations.get(name), jnp.asarray(GRID).at[0].set(0)
    slopes = unit.derivative(z, unit.fn(z))
    assert slopes.max() == steepest == slopes[0]


@pytest.mark.usefixtures("x64")
def test_tanh_is_a_stretched_sigmoid():
    z = jnp.asarray(GRID)
    stretched = 2 * activations.sigmoid.fn(2 * z) - 1
    np.testing.assert_allclose(activations.tanh.fn(z), stretched, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("slope", [0.1, 0.25, 1.0])
def test_prelu_is_the_larger_of_two_lines_while_its_slope_is_at_most_one(slope):
    z = jnp.linspace(-3, 3, 13)
    np.testing.assert_array_equal(activations.prelu.fn(z, slope), jnp.maximum(slope * z, z))


@pytest.mark.parametrize("alpha", [0.5, 1, 2])
def test_elu_derivative_below_zero_is_the_function_plus_alpha(alpha):
    z, unit = jnp.array([-3.0, -1.0, -0.1]), activations.elu(alpha)
    np.testing.assert_array_equal(unit.derivative(z, unit.fn(z)), unit.fn(z) + alpha)


@pytest.mark.usefixtures("x64")
def test_softplus_derivative_is_the_sigmoid():
    z, unit = jnp.asarray(GRID), activations.softplus
    sigmoid = scipy.special.expit(GRID)
    np.testing.assert_allclose(unit.derivative(z, unit.fn(z)), sigmoid, rtol=1e-14)


# --- what a description says ----------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NAMES)
def test_homogeneous_activations_and_no_others_scale_with_their_input(name):
    activation, z = activations.get(name), jnp.asarray(GRID)
    scales = all(
        np.allclose(activation.fn(c * z), c * activation.fn(z), rtol=1e-12, atol=0)
        for c in (1e-3, 0.5, 3.0)
    )
    assert scales == activation.homogeneous


@pytest.mark.parametrize("name", ["linear", "relu", "step", "sign", "sigmoid", "tanh", "elu"])
def test_derivative_reads_the_saved_output_alone(name):
    assert not activations.derivative_needs_z(activations.get(name))


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu", "prelu", "erf", "sin", "mish"])
def test_derivative_that_needs_Z_says_so(name):
    assert activations.derivative_needs_z(activations.get(name))


@pytest.mark.parametrize(
    ("derivative", "reads"),
    [(lambda Z, A: 3 * Z**2, True), (lambda Z, A: Z, True), (lambda Z, A: A, False)],
)
def test_derivative_of_a_user_is_looked_at_too(derivative, reads):
    assert activations.derivative_needs_z(Activation("mine", lambda Z: Z**3, derivative)) == reads


# --- dtypes and large inputs ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", NAMES)
def test_function_and_derivative_keep_the_dtype(name, dtype):
    activation = activations.get(name)
    Z = jax.ShapeDtypeStruct((3,), dtype)
    A = jax.eval_shape(activation.fn, Z)
    assert A.dtype == jax.eval_shape(activation.derivative, Z, A).dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_function_and_derivative_are_finite_at_ten_thousand_in_float32(name):
    activation, Z = activations.get(name), jnp.array([-1e4, 1e4])
    A = activation.fn(Z)
    assert np.isfinite(A).all()
    assert np.isfinite(activation.derivative(Z, A)).all()


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_agrees_with_float64_to_a_few_of_its_ulps(name):
    activation, z = activations.get(name), np.array([-2.5, -1.25, -0.25, 0.25, 0.75, 2.5])
    for dtype in (jnp.bfloat16, jnp.float16):
        value = np.asarray(activation.fn(jnp.asarray(z, dtype)), np.float64)
        ulp = float(jnp.finfo(dtype).eps)  # of 1; the function's values are of that size
        np.testing.assert_allclose(value, FORMULAS[name](z), rtol=4 * ulp, atol=4 * ulp)


# --- by name --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (activations.leaky_relu(0.1), activations.leaky_relu(slope=0.1)),
        (activations.leaky_relu(0.1), activations.leaky_relu(np.float64(0.1), threshold=0)),
        (activations.leaky_relu(1), activations.leaky_relu(1.0)),
        (activations.relu(threshold=2), activations.relu(2.0)),
        (activations.elu(alpha=0.5), activations.elu(0.5)),
        (activations.linear(2, -1), activations.linear(b=-1.0, a=2.0)),
    ],
)
def test_equal_arguments_give_equal_activations(one, other):
    assert one == other
    assert hash(one) == hash(other)
    assert one != activations.get("linear")


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (activations.relu(0), "relu"),
        (activations.relu(-0.0), "relu"),
        (activations.leaky_relu(0.01), "leaky_relu"),
        (activations.elu(1), "elu"),
        (activations.linear(1, 0), "linear"),
    ],
)
def test_default_arguments_give_the_plain_name(made, name):
    assert made.name == name
    assert made == activations.get(name)


def test_name_with_arguments_is_the_factory_called():
    assert activations.get("leaky_relu:0.1") == activations.leaky_relu(slope=0.1)
    assert activations.get("leaky_relu:0.1:2") == activations.leaky_relu(0.1, threshold=2)
    assert activations.get("linear:2:-1") == activations.linear(a=2, b=-1)


@pytest.mark.parametrize("name", [*NAMES, "softmax", "leaky_relu:1e-05", "linear:1e+20:0.1"])
def test_name_round_trips(name):
    activation = activations.get(name)
    assert activations.get(activation.name) == activation
    assert activation.name == name.replace("swish", "silu")
    assert activations.get(activation) is activation
    assert repr(activation) == f"Activation('{activation.name}')"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("rleu", "relu"), ("ReLU", "relu"), ("sigmod", "sigmoid"), ("leaky-relu:0.1", "leaky_relu")],
)
def test_unknown_name_suggests_the_nearest(wrong, meant):
    with pytest.raises(ValueError, match=rf"unknown activation .*did you mean '{meant}'\?"):
        activations.get(wrong)


def test_unknown_name_far_from_any_lists_them_all():
    with pytest.raises(ValueError, match=r"unknown activation 'qqq'; known: elu, erf, .*tanh$"):
        activations.get("qqq")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("leaky_relu:x", "'leaky_relu:x': slope must be a number, got 'x'$"),
        ("elu:", "'elu:': alpha must be a number, got ''$"),
        ("linear:1:2:3", "'linear:1:2:3' has 3 arguments, expected linear:a:b$"),
        ("relu:1:2", "'relu:1:2' has 2 arguments, expected relu:threshold$"),
        ("relu:nan", "'relu:nan': threshold must be finite, got nan$"),
        ("linear:1:inf", "'linear:1:inf': b must be finite, got inf$"),
    ],
)
def test_argument_of_a_name_that_does_not_fit_is_named(wrong, sentence):
    with pytest.raises(ValueError, match=f"^activation {sentence}"):
        activations.get(wrong)


def test_name_without_a_factory_takes_no_arguments():
    with pytest.raises(ValueError, match="'sigmoid' takes no arguments, got 'sigmoid:3'"):
        activations.get("sigmoid:3")


@pytest.mark.parametrize("name", [*NAMES, "softmax"])
def test_activation_of_the_library_survives_a_pickle_and_a_copy(name):
    activation = activations.get(name)
    back = pickle.loads(pickle.dumps(activation))
    assert back == activation
    assert hash(back) == hash(activation)
    assert copy.deepcopy(activation) is activation


def cube(Z):
    return Z**3


def of_cube(Z, A):
    return 3 * Z**2


def test_activation_of_a_user_survives_a_pickle_as_its_functions_do():
    own = Activation("relu", cube, of_cube, kinks=(1,))  # the library's name, but not its relu
    back = pickle.loads(pickle.dumps(own))
    assert back == own
    assert back.fn is cube


def test_network_and_loss_survive_a_pickle():
    J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3), hidden="leaky_relu:0.1"), "cross_entropy")
    back = pickle.loads(pickle.dumps(J))
    assert back == J
    assert hash(back) == hash(J)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (jnp.tanh, r"must be a name or an Activation\(name, fn, derivative\)"),
        (None, r"must be a name or an Activation\(.*\), got None"),
        (activations.relu, r"call it: activations\.relu\(\)"),
    ],
)
def test_what_is_no_activation_is_refused(wrong, sentence):
    with pytest.raises(TypeError, match=sentence):
        activations.get(wrong)


@pytest.mark.parametrize(
    ("factory", "argument"),
    [
        (activations.linear, "a"),
        (activations.linear, "b"),
        (activations.relu, "threshold"),
        (activations.leaky_relu, "slope"),
        (activations.elu, "alpha"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_factory_refuses_what_is_not_finite(factory, argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be finite, got {value}"):
        factory(**{argument: value})


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": 3, "fn": jnp.tanh}, "name must be a string, got 3"),
        ({"name": "mine", "fn": "tanh"}, "'mine': fn must be a function of Z"),
        (
            {"name": "mine", "fn": jnp.tanh, "derivative": 1.0},
            r"derivative .* function of \(Z, A\)",
        ),
    ],
)
def test_description_of_a_user_is_checked(fields, sentence):
    with pytest.raises(TypeError, match=sentence):
        Activation(**fields)
