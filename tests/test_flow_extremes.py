"""gradient_flow far beyond float32, against a plain loop in NumPy's long double."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp
from jaxmlp import MLP, Layer, Objective
from jaxmlp.flow import FlowStatus

# x87 long double: 64 bits of mantissa, to 10^4932; elsewhere it may be no wider than float64
WIDE = np.longdouble
assert np.finfo(WIDE).maxexp > 10_000


def erfc(z):
    """Return erfc to about 1e-12: by Lentz's continued fraction far out, by its series near 0."""
    from scipy import special

    return special.erfc(z.astype(float)).astype(WIDE)


def gelu(z):
    return z * erfc(-z / np.sqrt(WIDE(2))) / 2


def d_gelu(z):
    far = np.abs(z) > 30
    near = np.where(far, 0, z)
    pdf = np.exp(-(near**2) / 2) / np.sqrt(2 * WIDE(np.pi))
    return np.where(far, z > 0, erfc(-near / np.sqrt(WIDE(2))) / 2 + near * pdf)


def softplus(z):
    return np.logaddexp(0, z)


def sigmoid(z):
    return np.exp(-np.logaddexp(0, -z))


SCALE, ALPHA = WIDE("1.0507009873554804934"), WIDE("1.6732632423543772848")  # Klambauer et al. 2017

IN_NUMPY = {
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(WIDE)),
    "elu": (
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.exp(np.minimum(z, 0)),
    ),
    "softplus": (softplus, sigmoid),
    "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * sigmoid(-z))),
    "gelu": (gelu, d_gelu),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(np.clip(z, -5000, 5000)) ** 2),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    "selu": (
        lambda z: SCALE * np.where(z > 0, z, ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z: SCALE * np.where(z > 0, 1, ALPHA * np.exp(np.minimum(z, 0))),
    ),
}


def reference(J, params, X, Y):
    """Return log10 of the magnitudes of a network with linear output and squared error."""
    A, Zs = [np.asarray(X).astype(WIDE)], []
    layers = [jax.tree.map(lambda x: np.asarray(x).astype(WIDE), p) for p in jaxmlp.layers(params)]
    for layer, act in zip(layers, J.mlp.activations, strict=True):
        Zs.append(A[-1] @ layer.W + (0 if layer.b is None else layer.b))
        A.append(IN_NUMPY[act.name][0](Zs[-1]))
    dA, m, found = 2 * (A[-1] - np.asarray(Y).astype(WIDE)), len(X), []
    for l in reversed(range(len(layers))):
        dZ = dA * IN_NUMPY[J.mlp.activations[l].name][1](Zs[l])
        rms = np.sqrt((dZ**2).sum(1).mean()), np.sqrt(((A[l].T @ dZ / m) ** 2).sum())
        found.append([*rms, np.sqrt((A[l + 1] ** 2).sum(1).mean())])
        dA = dZ @ layers[l].W.T
    with np.errstate(divide="ignore"):
        return np.log10(np.array(found[::-1])).astype(float)


def network(act, *, sizes, gain, sigma_b=0.0, first=None, X_scale=1.0, m=4, seed=0, **options):
    """Weights of variance gain^2 / fan_in in float32; `first` scales those of layer 1 instead."""
    rng = np.random.default_rng(seed)
    J = Objective(MLP(sizes, hidden=act, output="linear", **options), "mse")
    layers = []
    for l, (a, b) in enumerate(itertools.pairwise(sizes)):
        size = first if first is not None and l == 0 else gain
        W = rng.normal(size=(a, b)) * size / np.sqrt(a)
        layers.append(
            Layer(W.astype(np.float32), (sigma_b * rng.normal(size=b)).astype(np.float32))
        )
    X = (X_scale * rng.normal(size=(m, sizes[0]))).astype(np.float32)
    Y = rng.normal(size=(m, sizes[-1])).astype(np.float32)
    return J, jaxmlp.stack(layers, J.mlp), X, Y


# With as many inputs as units the first layer is one of those that are compiled as a loop.
CASES = {
    "gelu, 600 growing layers": lambda: network("gelu", sizes=(16, *[16] * 600, 2), gain=2.0),
    "softplus, 40 layers of gain 20": lambda: network(
        "softplus", sizes=(16, *[16] * 40, 2), gain=20
    ),
    "silu, 200 growing layers": lambda: network("silu", sizes=(16, *[16] * 200, 2), gain=3.0),
    "elu, 200 layers of gain 3": lambda: network("elu", sizes=(32, *[32] * 200, 2), gain=3.0),
    "linear, weights 1e-21": lambda: network("linear", sizes=(8, *[8] * 6, 2), gain=1e-21),
    "linear, weights 1e30": lambda: network("linear", sizes=(8, *[8] * 6, 2), gain=1e30),
    "relu, weights 1e-30 and biases": lambda: network(
        "relu", sizes=(16, *[16] * 6, 2), gain=1e-30, sigma_b=1.0
    ),
    "relu, weights 1e30": lambda: network("relu", sizes=(16, *[16] * 6, 2), gain=1e30),
    "X of 1e38": lambda: network("relu", sizes=(16, *[16] * 6, 2), gain=1.4, X_scale=1e37),
    "gelu, weights 1e-6": lambda: network("gelu", sizes=(8, *[8] * 6, 2), gain=1e-6),
    "gelu, weights 1e-30": lambda: network("gelu", sizes=(8, *[8] * 6, 2), gain=1e-30),
    "tanh behind relu times 1e20": lambda: network(
        ["relu", "tanh", "tanh"], sizes=(4, 16, 16, 16, 2), gain=1e-20, first=1e20
    ),
    "tanh, weights 1e-25": lambda: network("tanh", sizes=(8, *[8] * 6, 2), gain=1e-25),
    "selu, weights 1e-12": lambda: network(
        "selu", sizes=(8, *[8] * 6, 2), gain=1e-12, X_scale=1e20
    ),
    "tanh, saturated": lambda: network("tanh", sizes=(4, *[4] * 3, 2), gain=30, sigma_b=0.3),
}


@pytest.mark.parametrize("case", CASES)
def test_magnitudes_are_right_at_any_scale_or_a_status_says_why(case):
    J, params, X, Y = CASES[case]()
    flow = jaxmlp.gradient_flow(J)(params, X, Y)
    expected = reference(J, params, X, Y)
    fields = flow.log10_delta, flow.log10_grad_W, flow.log10_activation
    for name, found, right in zip(("delta", "grad_W", "A"), fields, expected.T, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-3, rtol=1e-6, err_msg=name)
    assert (np.asarray(flow.status) == FlowStatus.OK).all()


def test_the_reference_sees_an_error_of_a_percent():
    J, params, X, Y = CASES["relu, weights 1e30"]()
    layers = jaxmlp.layers(params)
    layers[3] = layers[3]._replace(W=layers[3].W * np.float32(1.01))
    off = reference(J, jaxmlp.stack(layers, J.mlp), X, Y) - reference(J, params, X, Y)
    assert np.abs(off).max() > 4e-3


def test_a_sample_that_is_bounded_where_the_others_are_out_of_range_has_a_status():
    """ELU is -1 on a sample whose units are all far below 0, and 1e30 on the others."""
    J = Objective(MLP((1, 2, 2, 1), hidden="elu", output="linear"), "mse")
    weights = np.full((1, 2), 1e30), np.eye(2), np.ones((2, 1))
    params = tuple(Layer(W.astype(np.float32), np.zeros(W.shape[1], np.float32)) for W in weights)
    X, Y = np.array([[1.0], [-1.0]], np.float32), np.zeros((2, 1), np.float32)
    flow = jaxmlp.gradient_flow(J)(params, X, Y)
    assert (np.asarray(flow.status) == FlowStatus.FORWARD_ABOVE_RANGE).all()
    assert np.isnan(flow.log10_delta).all()
    fine = jaxmlp.gradient_flow(J)(params, np.abs(X), Y)
    assert (np.asarray(fine.status) == FlowStatus.OK).all()


def test_a_sample_that_only_the_bias_feeds_has_a_status_or_its_own_number():
    """Layer 1 is 0 on the second sample; behind it are weights of 1e30 and biases of 0.3."""
    X, Y = np.array([[1.0], [-1.0]], np.float32), np.zeros((2, 2), np.float32)
    for act, status in (("relu", FlowStatus.FORWARD_ABOVE_RANGE), ("sigmoid", None)):
        J = Objective(MLP((1, 2, 2, 2), hidden=act, output="linear"), "mse")
        params = [
            Layer(np.full(shape, 1e30, np.float32), np.full(2, b, np.float32))
            for shape, b in (((1, 2), 0.0), ((2, 2), 0.3), ((2, 2), 0.3))
        ]
        flow = jaxmlp.gradient_flow(J)(tuple(params), X, Y)
        if status is None:
            bounded = float(sigmoid(WIDE(0.3)))  # the first sample's is 1
            expected = np.log10(np.sqrt(1 + bounded**2))
            np.testing.assert_allclose(flow.log10_activation[1], expected, rtol=1e-5)
        else:
            assert (np.asarray(flow.status) == status).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_parameters_are_measured_in_float32(dtype):
    J, params, X, Y = network("tanh", sizes=(16, *[16] * 30, 2), gain=1.0)
    half = jax.tree.map(lambda x: jnp.asarray(x, dtype), (params, X, Y))
    flow = jaxmlp.gradient_flow(J)(*half)
    single = jax.tree.map(lambda x: np.asarray(x, np.float32), half)
    expected = reference(J, *single)
    np.testing.assert_allclose(flow.log10_delta, expected[:, 0], atol=1e-4)
    assert (np.asarray(flow.status) == FlowStatus.OK).all()


def test_weights_of_zero_say_so_and_are_no_closed_gates():
    J, params, X, Y = network("tanh", sizes=(4, 8, 8, 8, 2), gain=1.0, sigma_b=0.1)
    zero = params[2]._replace(W=np.zeros((8, 8), np.float32))
    flow = jaxmlp.gradient_flow(J)((*params[:2], zero, params[3]), X, Y)
    assert flow.status.tolist() == [FlowStatus.WEIGHTS_ZERO] * 2 + [FlowStatus.OK] * 2
    assert (flow.log10_delta[:2] == -np.inf).all()
