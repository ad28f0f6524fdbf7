import copy
import functools
import pickle
import re

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.special
from support import relative_error, relative_errors

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
OUT = 10.0 ** np.arange(0, 301, 4)
POINTS = {
    "grid": np.concatenate([np.linspace(-12, 12, 2401) + 0.00123, FAR, -FAR]),  # on no kink
    "kinks": np.array([-1, -0.5, -0.0, 0.0, 0.5, 1]),
    "cells": np.linspace(-3, 3, 2417) + 1e-4,  # 0, 1/2 and 1 lie inside a cell
    "out": np.concatenate([OUT, -OUT, 3 * OUT, -3 * OUT]),
}
POINTS |= {f"grid * {c}": c * POINTS["grid"] for c in (1e-3, 0.5, 3.0)}
GRID = POINTS["grid"]

# Where |A| nears a limit, a derivative written in A has the rounding of A, and so has autodiff's:
# one ulp of A = 1 is 1e-16. These are compared in their own size down to slopes of 1e-2.
SATURATES = (
    "elu", "elu:0.5", "elu:-0.7", "gelu_tanh", "selu", "sigmoid", "softsign", "tanh",
)  # fmt: skip
TOLERANCE = 1e-12  # rounding, float64: some ulps, times 1e2 for a slope of 1e-2

OF_JAX = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jax.nn.tanh,
    "softplus": jax.nn.softplus,
    "selu": jax.nn.selu,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
    "gelu_tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
    "swish": jax.nn.swish,
    "softsign": jax.nn.soft_sign,
    "hard_tanh": jax.nn.hard_tanh,
    "mish": jax.nn.mish,
}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@functools.cache
def everything():
    """Each name's (value, derivative by hand, by autodiff, value of jax.nn) at all the points, in
    float64: one program, because compiling is what these tests cost."""

    def evaluate(Z):
        found = {}
        for name in NAMES:
            act = activations.get(name)
            A = act.fn(Z)
            of_jax = OF_JAX[name](Z) if name in OF_JAX else None
            found[name] = A, act.derivative(Z, A), jax.vmap(jax.grad(act.fn))(Z), of_jax
        return found

    with jax.enable_x64(True):
        Z = jnp.asarray(np.concatenate(list(POINTS.values())))
        return jax.tree.map(np.asarray, jax.jit(evaluate)(Z))


def at(points, name):
    """(value, derivative by hand, by autodiff, value of jax.nn) of a name at those points."""
    ends = np.cumsum([z.size for z in POINTS.values()])
    end = ends[list(POINTS).index(points)]
    return jax.tree.map(lambda x: x[end - POINTS[points].size : end], everything()[name])


def derivative_error(by_hand, by_autodiff, smallest=0.0):
    """Return the largest `|hand - autodiff| / |autodiff|`; inf if only autodiff is 0."""
    size = np.maximum(np.abs(by_autodiff), smallest)
    error = np.abs(by_hand - by_autodiff)
    ratio = np.divide(error, size, where=size > 0, out=np.full_like(error, np.inf))
    return np.where(error == 0, 0, ratio).max()


def smallest(name):
    return 1e-2 if name in SATURATES else 0.0


# --- the derivatives ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_derivative_equals_autodiff_at_every_point_in_its_own_size(name):
    _, by_hand, by_autodiff, _ = at("grid", name)
    assert derivative_error(by_hand, by_autodiff, smallest(name)) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FLAT])
def test_comparison_catches_a_derivative_wrong_by_a_thousandth(name):
    _, by_hand, by_autodiff, _ = at("grid", name)
    assert derivative_error(1.001 * by_hand, by_autodiff, smallest(name)) > 0.9e-3


@pytest.mark.parametrize("name", FLAT)
def test_comparison_catches_a_slope_where_there_is_none(name):
    assert derivative_error(np.full(GRID.shape, 1e-30), at("grid", name)[2]) == np.inf


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


@pytest.mark.parametrize(("name", "kink", "expected"), KINKS)
def test_derivative_at_a_kink_follows_the_convention_and_autodiff(name, kink, expected):
    here = POINTS["kinks"] == kink  # -0.0 too
    assert here.sum() == (2 if kink == 0 else 1)
    _, by_hand, by_autodiff, _ = at("kinks", name)
    np.testing.assert_array_equal(by_hand[here], by_autodiff[here])
    np.testing.assert_allclose(by_hand[here], expected, rtol=1e-15)


def test_docstring_has_a_row_for_every_activation_with_a_kink():
    rows = re.findall(r"^\| ([a-z_, ]+) \| (?!derivative)", activations.__doc__, re.MULTILINE)
    listed = {name for row in rows for name in row.split(", ")} - {"activation"}
    kinked = {name for name in NAMES if ":" not in name and activations.get(name).kinks}
    smooth = {"elu", "softsign", "squared_relu"}  # elu's jumps with alpha other than 1
    assert listed == kinked | smooth
    assert {name for name, *_ in KINKS if ":" not in name} == listed


@pytest.mark.parametrize("name", NAMES)
def test_kinks_are_where_the_derivative_jumps(name):
    cells = POINTS["cells"]
    values, _, slopes, _ = at("cells", name)
    jumps = (np.abs(np.diff(slopes)) > 0.1) | (np.abs(np.diff(values)) > 0.1)
    found = (cells[:-1] + cells[1:])[jumps] / 2
    np.testing.assert_allclose(found, activations.get(name).kinks, rtol=0, atol=2e-3)


SLOPES = (0.25, 0.0, 1.7, -0.4)


@pytest.mark.usefixtures("x64")
def test_prelu_derivative_equals_autodiff_in_z_for_any_slope():
    Z, act = jnp.asarray(np.append(0, GRID)), activations.prelu

    @jax.jit
    def both(slope):
        by_hand = act.derivative(Z, act.fn(Z, slope), slope)
        return by_hand, jax.vmap(jax.grad(act.fn), (0, None))(Z, slope)

    for slope in SLOPES:
        by_hand, by_autodiff = both(slope)
        np.testing.assert_array_equal(by_hand, by_autodiff)
        assert by_hand[0] == slope


@pytest.mark.usefixtures("x64")
def test_prelu_slope_has_the_gradient_of_autodiff():
    rng, sizes = np.random.default_rng(0), (3, 5, 4, 2)
    J = jaxmlp.Objective(jaxmlp.MLP(sizes, hidden="prelu", output="linear"), "mse")
    X, Y = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    for slope in SLOPES:
        params = tuple(
            jaxmlp.Layer(rng.normal(size=(i, o)), rng.normal(size=o), np.float64(slope))
            for i, o in ((3, 5), (5, 4))
        )
        params += (jaxmlp.Layer(rng.normal(size=(4, 2)), rng.normal(size=2)),)
        by_hand = jaxmlp.grad(J)(params, X, Y)
        errors = relative_errors(by_hand, jax.grad(J)(params, X, Y))
        assert max(errors.values()) < TOLERANCE
        assert {"slope1", "slope2"} <= errors.keys()
        assert by_hand[0].slope != 0


def test_prelu_slope_derivative_of_one_sample_is_the_sum_of_the_negative_parts():
    J = jaxmlp.Objective(jaxmlp.MLP((3, 1), output="prelu", use_bias=False), "half_squared_error")
    params = (jaxmlp.Layer(np.ones((3, 1), np.float32), None, np.float32(0.5)),)
    X = np.array([[-1, -2, -1], [1, 2, 3]], np.float32)  # z = -4 and 6, a = -2 and 6
    (grads,) = jaxmlp.grad(J)(params, X, np.zeros((2, 1), np.float32))
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
    by_hand = jax.jit(activations.softmax_vjp)(A, dA)
    assert relative_error(by_hand, expected) < TOLERANCE
    assert relative_error(1.001 * np.asarray(by_hand), expected) > 0.9e-3


# --- the functions --------------------------------------------------------------------------------


def gelu_tanh(z):
    with np.errstate(over="ignore"):  # z^3 is inf far out, where the sigmoid is 0 or 1
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
    "swish": lambda z: z * np.exp(-np.logaddexp(0, -z)),
    "erf": scipy.special.erf,
    "sin": np.sin,
    "softsign": lambda z: z / (1 + np.abs(z)),
    "hard_tanh": lambda z: np.clip(z, -1, 1),
    "mish": lambda z: z * np.tanh(np.logaddexp(0, z)),
    "squared_relu": lambda z: np.where(z > 0, z, 0) ** 2,
    "leaky_relu:0.1": lambda z: np.where(z > 0, z, 0.1 * z),
    "leaky_relu:0.2:1": lambda z: np.where(z >= 1, z, 0.2 * z),
    "relu:0.5": lambda z: np.where(z > 0.5, z, 0),
    "relu:-1": lambda z: np.where(z > -1, z, 0),
    "elu:0.5": lambda z: np.where(z > 0, z, 0.5 * np.expm1(np.minimum(z, 0))),
    "elu:-0.7": lambda z: np.where(z > 0, z, -0.7 * np.expm1(np.minimum(z, 0))),
    "linear:2:-1": lambda z: 2 * z - 1,
    "linear:-3": lambda z: -3 * z,
}


@pytest.mark.parametrize("name", NAMES)
def test_function_equals_its_formula_in_numpy(name):
    for points in ("grid", "kinks"):
        # rounding: 1 + tanh(u) and the like keep some ulps of 1, times z
        expected = FORMULAS[name](POINTS[points])
        np.testing.assert_allclose(at(points, name)[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", OF_JAX)
def test_function_equals_the_one_of_jax_nn(name):
    value, _, _, of_jax = at("grid", name)
    np.testing.assert_allclose(value, of_jax, rtol=1e-15)


def test_softmax_is_that_of_jax_nn():
    assert activations.softmax.fn is jax.nn.softmax


def test_swish_is_silu():
    assert activations.get("swish") is activations.silu


# --- far out --------------------------------------------------------------------------------------

# fn and derivative where they are no lines; mpmath, because a double cannot hold sin of 1e300
AT_ANY = {
    "sin": (mp.sin, mp.cos),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: (1 + abs(z)) ** -2),
    "squared_relu": (lambda z: max(z, 0) ** 2, lambda z: 2 * max(z, 0)),
    "prelu": (lambda z: z if z > 0 else z / 4, lambda z: 1 if z > 0 else 0.25),
}


def in_dtype(values, dtype):
    """Return numbers of mpmath as NumPy numbers, inf or 0 beyond the range of the dtype."""
    limits = np.finfo(dtype)
    values = [mp.mpf(v) for v in values]
    small = [abs(v) < float(limits.tiny) for v in values]
    large = [abs(v) > float(limits.max) for v in values]
    signs = np.array([float(mp.sign(v)) for v in values])
    with np.errstate(over="ignore"):
        exact = np.where(large, np.copysign(np.inf, signs), [float(v) for v in values])
    return np.where(small, 0, exact)


def check_far_out(name, z, value, derivative):
    """Check the value at z, and beyond 1e20 that the derivative is that of the asymptote."""
    eps = np.finfo(z.dtype).eps
    assert not np.isnan(value).any()
    assert not np.isnan(derivative).any()
    exact = FORMULAS[name](z.astype(np.float64))
    act, far = activations.get(name), np.abs(z) >= 1e20
    if name in AT_ANY:
        fn, slope = AT_ANY[name]
        with mp.workdps(350):
            exact = in_dtype([fn(mp.mpf(float(x))) for x in z], z.dtype)
            slope = in_dtype([slope(mp.mpf(float(x))) for x in z], z.dtype)
        np.testing.assert_allclose(derivative, slope, rtol=16 * eps, atol=np.finfo(z.dtype).tiny)
    else:
        slope = np.where(z > 0, *act.asymptote[::-1]).astype(z.dtype)
        np.testing.assert_array_equal(derivative[far], slope[far])
    np.testing.assert_allclose(value, exact, rtol=16 * eps, atol=16 * eps)


@pytest.mark.parametrize("name", NAMES)
def test_no_finite_z_is_too_large_in_float64(name):
    with np.errstate(over="ignore"):
        check_far_out(name, POINTS["out"], *at("out", name)[:2])
    assert not np.isnan(at("out", name)[2]).any()  # autodiff of it


@functools.cache
def in_single_precision():
    Z = np.concatenate([10.0 ** np.arange(0, 39), 3 * 10.0 ** np.arange(0, 38)]).astype(np.float32)
    Z = np.concatenate([Z, -Z])

    def evaluate(Z):
        acts = {name: activations.get(name) for name in NAMES}
        return {name: (act.fn(Z), act.derivative(Z, act.fn(Z))) for name, act in acts.items()}

    return Z, jax.tree.map(np.asarray, jax.jit(evaluate)(Z))


@pytest.mark.parametrize("name", NAMES)
def test_no_finite_z_is_too_large_in_float32(name):
    Z, found = in_single_precision()
    with np.errstate(over="ignore"):
        check_far_out(name, Z, *found[name])


def sigmoid(z):
    return 1 / (1 + mp.exp(-z))


def softplus(z):
    return mp.log1p(mp.exp(z))


U = mp.sqrt(2 / mp.pi)
SMOOTH = {  # fn and derivative of what only tends to its asymptote
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    "tanh": (mp.tanh, lambda z: mp.sech(z) ** 2),
    "erf": (mp.erf, lambda z: 2 / mp.sqrt(mp.pi) * mp.exp(-(z**2))),
    "softplus": (softplus, sigmoid),
    "elu": (lambda z: z if z > 0 else mp.expm1(z), lambda z: 1 if z > 0 else mp.exp(z)),
    "elu:-0.7": (
        lambda z: z if z > 0 else -0.7 * mp.expm1(z),
        lambda z: 1 if z > 0 else -0.7 * mp.exp(z),
    ),
    "selu": (
        lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * mp.expm1(z)),
        lambda z: 1.0507009873554805 * (1 if z > 0 else 1.6732632423543772 * mp.exp(z)),
    ),
    "gelu": (lambda z: z * mp.ncdf(z), lambda z: mp.ncdf(z) + z * mp.npdf(z)),
    "gelu_tanh": (
        lambda z: z * sigmoid(2 * U * (z + 0.044715 * z**3)),
        lambda z: (
            sigmoid(2 * U * (z + 0.044715 * z**3))
            + z * mp.sech(U * (z + 0.044715 * z**3)) ** 2 / 2 * U * (1 + 3 * 0.044715 * z**2)
        ),
    ),
    "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * sigmoid(-z))),
    "mish": (
        lambda z: z * mp.tanh(softplus(z)),
        lambda z: mp.tanh(softplus(z)) + z * mp.sech(softplus(z)) ** 2 * sigmoid(z),
    ),
    "linear:2:-1": (lambda z: 2 * z - 1, lambda z: 2),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("side", [-1, 1])
def test_asymptote_holds_to_rounding_beyond_its_threshold(name, side):
    act, (fn, derivative) = activations.get(name), SMOOTH[name]
    s, eps = act.asymptote[(side + 1) // 2], np.finfo(np.float64).eps
    with mp.workdps(50):
        for factor in (1, 1.5, 3, 1000):
            z = mp.mpf(side * act.threshold * factor)
            limit = s * z if s else fn(mp.mpf(side * 1e4))
            assert abs(fn(z) - limit) <= eps * max(1, abs(z))
            assert abs(derivative(z) - s) <= eps


def test_every_activation_that_ends_in_lines_says_so():
    without = {name for name in NAMES if activations.get(name).asymptote is None}
    assert without == AT_ANY.keys()
    bent = {name for name in NAMES if activations.get(name).threshold > 1}
    assert {activations.get(name).name for name in SMOOTH} <= {
        activations.get(name).name for name in bent
    } | {"elu:-0.7"}
    assert bent <= {*SMOOTH, "swish", "elu:0.5"}
    assert activations.linear(1e-300, 1e300).threshold == np.finfo(np.float64).max


def test_slope_of_softsign_keeps_its_digits_far_out():
    Z, found = in_single_precision()
    z = Z[np.abs(Z) < 1e18].astype(np.float64)
    exact = (1 + np.abs(z)) ** -2
    np.testing.assert_allclose(found["softsign"][1][np.abs(Z) < 1e18], exact, rtol=1e-6)


# --- the conventions of the notes (CURRICULUM D) --------------------------------------------------


def test_linear_is_a_line_with_constant_gradient():
    line = activations.linear(2, -1)
    assert line.fn(np.float32(3)) == 5
    assert line.derivative(np.zeros(3), np.zeros(3)).tolist() == [2, 2, 2]


@pytest.mark.parametrize(("name", "values"), [("step", [0, 0.5, 1]), ("sign", [-1, 0, 1])])
def test_perceptron_units_at_their_jump(name, values):
    value = at("kinks", name)[0]
    assert value[[0, 2, 5]].tolist() == values  # at -1, 0 and 1


def test_piecewise_linear_is_a_ramp_between_minus_and_plus_one_half():
    value, derivative, _, _ = at("kinks", "piecewise_linear")  # at -1, -1/2, -0, 0, 1/2, 1
    assert value.tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert derivative.tolist() == [0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(("name", "steepest"), [("sigmoid", 0.25), ("tanh", 1)])
def test_saturating_unit_is_steepest_at_zero(name, steepest):
    assert at("grid", name)[1].max() < steepest == at("kinks", name)[1][3]


def test_tanh_is_a_stretched_sigmoid():
    stretched = 2 * scipy.special.expit(2 * GRID) - 1
    np.testing.assert_allclose(at("grid", "tanh")[0], stretched, rtol=1e-12, atol=1e-15)


def test_prelu_is_the_larger_of_two_lines_while_its_slope_is_at_most_one():
    z, fn = np.linspace(-3, 3, 13, dtype=np.float32), jax.jit(activations.prelu.fn)
    for slope in np.float32([0.1, 0.25, 1.0]):
        np.testing.assert_array_equal(fn(z, slope), np.maximum(slope * z, z))


@pytest.mark.parametrize(("name", "alpha"), [("elu", 1), ("elu:0.5", 0.5), ("elu:-0.7", -0.7)])
def test_elu_derivative_below_zero_is_the_function_plus_alpha(name, alpha):
    value, derivative, _, _ = at("grid", name)
    below = GRID < 0
    np.testing.assert_allclose(derivative[below], value[below] + alpha, rtol=0, atol=2e-16)


def test_softplus_derivative_is_the_sigmoid():
    sigmoid = scipy.special.expit(GRID)
    np.testing.assert_allclose(at("grid", "softplus")[1], sigmoid, rtol=1e-14)


# --- what a description says ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_homogeneous_activations_and_no_others_scale_with_their_input(name):
    value = at("grid", name)[0]
    scales = all(
        np.allclose(at(f"grid * {c}", name)[0], c * value, rtol=1e-12, atol=0)
        for c in (1e-3, 0.5, 3.0)
    )
    assert scales == activations.get(name).homogeneous


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


# --- half precision -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", NAMES)
def test_function_and_derivative_keep_the_dtype(name, dtype):
    activation = activations.get(name)
    Z = jax.ShapeDtypeStruct((3,), dtype)
    A = jax.eval_shape(activation.fn, Z)
    assert A.dtype == jax.eval_shape(activation.derivative, Z, A).dtype == dtype


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_agrees_with_float64_to_a_few_of_its_ulps(dtype):
    z = np.array([-2.5, -1.25, -0.25, 0.25, 0.75, 2.5])
    values = jax.jit(lambda Z: [activations.get(name).fn(Z) for name in NAMES])(
        jnp.asarray(z, dtype)
    )
    ulp = float(jnp.finfo(dtype).eps)  # of 1; the function's values are of that size
    for name, value in zip(NAMES, values, strict=True):
        expected = FORMULAS[name](z)
        np.testing.assert_allclose(np.float64(value), expected, rtol=4 * ulp, atol=4 * ulp)


def test_no_finite_z_is_too_large_in_float16():
    z = np.array([1.0, 17, 41, 300, 1e4, 6e4], np.float16)

    def derivatives(Z):
        acts = [activations.get(name) for name in NAMES]
        return [act.derivative(Z, act.fn(Z)) for act in acts]

    slopes = jax.jit(derivatives)(np.concatenate([-z, z]))
    for name, slope in zip(NAMES, slopes, strict=True):
        act = activations.get(name)
        assert not np.isnan(slope).any(), name
        if act.asymptote is not None:
            assert (slope[5], slope[-1]) == act.asymptote, name


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
