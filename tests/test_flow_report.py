"""The text of print(flow), and lists of (W, b) instead of Layers."""

import itertools

import jax
import numpy as np
import pytest

import jaxmlp
from jaxmlp.flow_report import cause
from jaxmlp.report import SHOWN

DEPTH = 9
SIZES = (3, *[8] * DEPTH, 2)
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(6, 3)).astype(np.float32), np.array([0, 1, 0, 0, 1, 1])
NORMALS = [rng.normal(size=pair).astype(np.float32) for pair in itertools.pairwise(SIZES)]


def pairs(scale, b=0.0):
    """Weights in NumPy: normals times scale / sqrt(fan_in), and biases."""
    return [(scale * W / len(W) ** 0.5, np.full(W.shape[1], b, np.float32)) for W in NORMALS]


def objective(hidden):
    return jaxmlp.Objective(jaxmlp.MLP(SIZES, hidden=hidden), "cross_entropy")


def flow_of(hidden, params, inputs=X):
    return jaxmlp.gradient_flow(objective(hidden))(params, np.float32(inputs), Y)


SAID = {
    "sigmoid, vanishing": ("sigmoid", pairs(1.0), "vanishes: from layer 10 down to 1 dZ falls by"),
    "sigmoid, saturated": ("sigmoid", pairs(200.0), "saturated, so make the weights or X smaller"),
    "linear, exploding": ("linear", pairs(3.0), "explodes: from layer 10 down to 1 dZ grows by"),
    "linear, flat": ("linear", pairs(1.0), "reaches layer 1: dZ changes by"),
    "relu, closed": (
        "relu",
        pairs(1.0, b=-9.0),
        "not learn: the derivative of the activation",
    ),
    "zeros": ("tanh", pairs(0.0), "the weights above are all zero"),
    "huge": ("tanh", pairs(1e30), "smaller weights"),
}


@pytest.mark.parametrize("case", SAID)
def test_a_flow_ends_with_its_cause(case):
    hidden, params, words = SAID[case]
    flow = flow_of(hidden, params)
    assert words in cause(flow)
    table, sentence = str(flow).split("\n\n")
    assert " ".join(sentence.split()) == cause(flow)
    assert len(table.splitlines()) == 1 + min(SHOWN, DEPTH + 1)
    assert max(map(len, str(flow).splitlines())) <= 80


def test_the_decades_and_the_factor_are_those_of_the_stream():
    flow = flow_of("sigmoid", pairs(1.0))
    decades = float(flow.log10_stream[-1] - flow.log10_stream[0])
    assert f"by {decades:.1f} decades, a factor {10 ** (-decades / DEPTH):.3g} a layer" in cause(
        flow
    )


def test_a_flow_prints_under_a_trace_too():
    traced = []
    jax.make_jaxpr(lambda p: traced.append(str(flow_of("sigmoid", p))))(
        jaxmlp.stack([jaxmlp.Layer(*pair) for pair in pairs(1.0)])
    )
    assert traced[0].startswith("GradientFlow(")


def test_a_list_of_W_and_b_in_numpy_stands_for_layers():
    J, params = objective("tanh"), pairs(1.0)
    layers = tuple(jaxmlp.Layer(*pair) for pair in params)
    for given in (params, [list(pair) for pair in params], tuple(params)):
        assert J(given, X, Y) == J(layers, X, Y)
        np.testing.assert_array_equal(J.mlp.apply(given, X), J.mlp.apply(layers, X))
        grads = (jaxmlp.grad(J)(p, X, Y) for p in (given, layers))
        for one, other in zip(*grads, strict=True):
            np.testing.assert_array_equal(one.W, other.W)
    with pytest.raises(ValueError, match="W of layer 1 is"):
        J([(W.T, b) for W, b in params], X, Y)
    with pytest.raises(TypeError, match="one is int"):
        J([1, 2], X, Y)
