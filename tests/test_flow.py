"""gradient_flow against float64, against mpmath, and far beyond both."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from support import drawn, problem

import jaxmlp
from jaxmlp.flow import FlowStatus, GradientFlow
from jaxmlp.initializers import gaussian

MAGNITUDES = ("log10_delta", "log10_grad_W", "log10_grad_b", "log10_activation")


def flow_of(J, params, X, Y, **options) -> GradientFlow:
    flow = jaxmlp.gradient_flow(J, **options)(params, X, Y)
    return jax.tree.map(np.asarray, flow)


def reference(J, params, X, Y) -> dict[str, np.ndarray]:
    """Return the same magnitudes in float64, from the trace."""
    with jax.enable_x64(True):
        wide = [np.asarray(Y) if Y.ndim == 1 else np.asarray(Y, np.float64)]
        layers = jaxmlp.trace(J)(
            jax.tree.map(lambda x: np.asarray(x, np.float64), params),
            np.asarray(X, np.float64),
            *wide,
        )
        layers = jax.tree.map(np.asarray, layers)
    rms = lambda rows: np.log10(np.sqrt((rows**2).sum(axis=1).mean()))  # noqa: E731
    return {
        "log10_delta": np.array([rms(t.dZ) for t in layers]),
        "log10_grad_W": np.array([np.log10(np.linalg.norm(t.dW)) for t in layers]),
        "log10_grad_b": np.array(
            [np.nan if t.db is None else np.log10(np.linalg.norm(t.db)) for t in layers]
        ),
        "log10_activation": np.array([rms(t.A) for t in layers]),
        "correlation": np.array([mean_cosine(t.Z) for t in layers]),
    }


def mean_cosine(Z):
    pairs = [(i, j) for i in range(len(Z)) for j in range(i)]
    return np.mean([Z[i] @ Z[j] / np.linalg.norm(Z[i]) / np.linalg.norm(Z[j]) for i, j in pairs])


ACTIVATIONS = ("sigmoid", "tanh", "elu", "softplus", "relu", "prelu", "gelu")
ALIKE = 20  # layers of one activation one after the other, which are measured in a loop


def one_after_the_other(acts, each):
    """The activations of a network that has so many layers of each."""
    return [act for act in acts for _ in range(each)]


@functools.cache
def measured(each):
    """The flow through so many layers of each activation in float32, and its magnitudes."""
    hidden = one_after_the_other(ACTIVATIONS, each)
    J, *data = problem((24, *[24] * len(hidden), 3), hidden=hidden, stack_from=2)
    return flow_of(J, *data), reference(J, *data)


@pytest.mark.parametrize("each", [1, ALIKE])
def test_float32_agrees_with_float64_for_every_activation(each):
    flow, expected = measured(each)
    for name, values in expected.items():
        assert np.abs(getattr(flow, name) - values).max() < 1e-4, name
    assert (flow.status == FlowStatus.OK).all()


def test_a_planted_error_of_one_percent_is_seen():
    flow, expected = measured(ALIKE)
    planted = expected["log10_delta"] + np.log10(1.01)
    assert np.abs(flow.log10_delta - planted).min() > 1e-3


LOSSES = [("mse", "sigmoid"), ("norm", "tanh"), ("sse", "linear"), ("mse", "prelu"),
          ("mse", "softmax"), ("binary_cross_entropy", "sigmoid")]  # fmt: skip


@pytest.mark.parametrize(("loss", "output"), LOSSES)
def test_every_loss_starts_the_walk_rightly(loss, output):
    J, params, X, Y = problem((6, 9, 3), hidden="tanh", loss=loss, output=output)
    flow, expected = flow_of(J, params, X, Y), reference(J, params, X, Y)
    for name in MAGNITUDES:
        assert np.abs(getattr(flow, name) - expected[name]).max() < 1e-4, name


# --- mpmath, where float64 ends ---


MP_ACTIVATIONS = {
    "sigmoid": (lambda z: 1 / (1 + mpmath.exp(-z)), lambda z, a: a * (1 - a)),
    "tanh": (mpmath.tanh, lambda z, a: 1 - a * a),
    "elu": (
        lambda z: z if z > 0 else mpmath.expm1(z),
        lambda z, a: mpmath.mpf(1) if z > 0 else a + 1,
    ),
    "softplus": (lambda z: mpmath.log1p(mpmath.exp(z)), lambda z, a: 1 - mpmath.exp(-a)),
    "relu": (lambda z: max(z, mpmath.mpf(0)), lambda z, a: mpmath.mpf(int(z > 0))),
}


def mp_flow(acts, params, X, labels):
    """Return log10 of delta and of the dW norm, by E2 and E3 with 50 digits."""
    with mpmath.workdps(50):
        Ws = [np.vectorize(mpmath.mpf)(np.asarray(p.W, float)) for p in jaxmlp.layers(params)]
        A, Zs = [np.vectorize(mpmath.mpf)(np.asarray(X, float))], []
        for act, W in zip(acts, Ws[:-1], strict=True):
            Zs.append(A[-1] @ W)
            A.append(np.vectorize(MP_ACTIVATIONS[act][0])(Zs[-1]))
        E = np.vectorize(mpmath.exp)(A[-1] @ Ws[-1])
        dZ = E / E.sum(axis=1, keepdims=True)
        dZ[np.arange(len(X)), labels] -= 1
        delta, grad_W = [], []
        for l in reversed(range(len(Ws))):
            delta.append(mpmath.log10(mpmath.sqrt((dZ**2).sum() / len(X))))
            grad_W.append(mpmath.log10(mpmath.sqrt(((A[l].T @ dZ / len(X)) ** 2).sum())))
            if l:
                derivative = np.vectorize(MP_ACTIVATIONS[acts[l - 1]][1])
                dZ = (dZ @ Ws[l].T) * derivative(Zs[l - 1], A[l])
        return np.array(delta[::-1], float), np.array(grad_W[::-1], float)


def test_beyond_float64_the_flow_agrees_with_mpmath_for_every_activation():
    """Behind 500 layers of a sigmoid nothing below them is in the range of float64."""
    acts = [*one_after_the_other(MP_ACTIVATIONS, 40), *["sigmoid"] * 500]
    widths = [32 if act == "relu" else 6 for act in acts]  # of 6 relu units all die
    J, params, X, Y = problem(
        (3, *widths, 3), hidden=acts, use_bias=False, labels=True, m=2, seed=1
    )
    flow = flow_of(J, params, X, Y)
    delta, grad_W = mp_flow(acts, params, X, np.asarray(Y))
    assert delta[: len(acts) - 500].max() < -308
    assert np.abs(flow.log10_delta - delta).max() < 1e-4
    assert np.abs(flow.log10_grad_W - grad_W).max() < 1e-4


# --- the mantissas are those of the plain walk ---


def test_norms_are_those_of_the_plain_walk_to_rounding():
    hidden = one_after_the_other(("tanh", "relu", "sigmoid"), 20)
    J, params, X, Y = problem((16, *[16] * 60, 3), hidden=hidden, use_bias=False)
    plain = jaxmlp.trace(J)(params, X, Y)
    flow = flow_of(J, params, X, Y)
    for t, log10_delta in zip(plain, flow.log10_delta, strict=True):
        own = np.asarray(t.dZ, np.float64)
        assert abs(np.log10(np.sqrt((own**2).sum() / len(X))) - log10_delta) < 3e-6


# --- far beyond ---


def test_ten_thousand_sigmoid_layers_are_finite_in_float32():
    J, params, X, Y = problem((16, *[16] * 10_000, 3), hidden="sigmoid")
    flow = flow_of(J, params, X, Y)
    for name in MAGNITUDES:
        assert np.isfinite(getattr(flow, name)).all(), name
    assert flow.log10_delta[0] < -5000
    assert (flow.status == FlowStatus.OK).all()


@pytest.mark.parametrize("use_bias", [True, False])
def test_relu_below_its_forward_range_still_has_its_gates(use_bias):
    J, params, X, Y = problem((32, *[32] * 1000, 3), hidden="relu", use_bias=use_bias)
    flow = flow_of(J, params, X, Y)
    assert np.isfinite([flow.log10_delta, flow.log10_grad_W]).all()
    assert flow.log10_activation[-2] < -100  # float32 ends at -38
    assert np.isnan(flow.log10_grad_b).all() == (not use_bias)


def test_biases_are_aligned_with_activations_out_of_range():
    J, params, X, Y = problem((32, *[32] * 300, 3), hidden="relu", init=gaussian(1.0, 0.01))
    flow, expected = flow_of(J, params, X, Y), reference(J, params, X, Y)
    for name in MAGNITUDES:
        assert np.abs(getattr(flow, name) - expected[name]).max() < 1e-3, name


def test_linear_he_networks_explode_by_150_decades_without_overflow():
    J, params, X, Y = problem(
        (128, *[128] * 1000, 3), hidden="linear", output="linear", loss="mse", init="he"
    )
    flow = flow_of(J, params, X, Y)
    assert 140 < flow.log10_delta[0] - flow.log10_delta[-1] < 155
    assert all(np.isfinite(getattr(flow, name)).all() for name in MAGNITUDES)


# --- options, storage, transformations ---


def test_recomputing_in_segments_gives_the_same_numbers():
    """Of 33 layers three are left over after segments of five; 49 are seven segments of seven."""
    hidden = ["gelu"] * 33 + ["tanh"] * 49
    J, params, X, Y = problem((8, *[8] * 82, 3), hidden=hidden)
    once, again = flow_of(J, params, X, Y), flow_of(J, params, X, Y, recompute=True)
    for name, values in once._asdict().items():
        np.testing.assert_allclose(getattr(again, name), values, atol=1e-5, rtol=0, err_msg=name)


def test_statistics_can_be_switched_off():
    J, params, X, Y = problem((6, 8, 3))
    full, bare = flow_of(J, params, X, Y), flow_of(J, params, X, Y, statistics=False)
    assert all(np.isnan(x).all() for x in (bare.correlation, bare.saturated, bare.dead))
    for name in MAGNITUDES:
        np.testing.assert_array_equal(getattr(full, name), getattr(bare, name))


def test_stacked_and_plain_storage_agree():
    J, params, X, Y = problem((6, *[8] * 4, 3), hidden="tanh", stack_from=2)
    one, other = flow_of(J, params, X, Y), flow_of(J, tuple(jaxmlp.layers(params)), X, Y)
    for name in MAGNITUDES:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-5)


def test_the_flow_works_under_jit_and_vmap_over_seeds():
    J, _, X, Y = problem((8, *[8] * 40, 3), hidden="relu", labels=True)
    each = [drawn(J.mlp, "he", np.float32, np.random.default_rng(seed)) for seed in range(3)]
    many = jax.tree.map(lambda *xs: np.stack(xs), *each)
    flows = jax.jit(jax.vmap(jaxmlp.gradient_flow(J), (0, None, None)))(many, X, Y)
    for i in range(3):
        single = flow_of(J, each[i], X, Y)
        np.testing.assert_allclose(flows.log10_delta[i], single.log10_delta, atol=1e-5)


def test_the_flow_works_in_float64():
    with jax.enable_x64(True):
        J, params, X, Y = problem((8, *[8] * 40, 3), hidden="tanh")
        flow = flow_of(J, params, X, Y)
        assert flow.log10_delta.dtype == np.float64
        expected = reference(J, params, X, Y)
        assert np.abs(flow.log10_delta - expected["log10_delta"]).max() < 1e-12


# --- statistics ---


def test_saturated_and_dead_shares_are_those_counted_by_hand():
    J, params, X, Y = problem((6, 16, 12, 3), hidden=("sigmoid", "relu"))
    params = (params[0]._replace(W=20 * params[0].W), *params[1:])
    params = (params[0], params[1]._replace(b=params[1].b.at[:3].set(-100)), params[2])
    flow, layers = flow_of(J, params, X, Y), jaxmlp.trace(J)(params, X, Y)
    A = np.asarray(layers[0].A, np.float64)
    assert flow.saturated[0] == pytest.approx((A * (1 - A) <= 0.0025).mean())
    gates = np.asarray(layers[1].Z) > 0
    assert flow.saturated[1] == pytest.approx((~gates).mean())
    assert flow.dead[1] == pytest.approx((~gates).all(axis=0).mean())
    assert flow.dead[1] >= 3 / 12
    assert np.isnan(flow.saturated[2])  # softmax


def test_one_sample_has_no_correlation():
    J, params, X, Y = problem((6, 8, 3), m=1)
    flow = flow_of(J, params, X, Y)
    assert np.isnan(flow.correlation).all()
    assert np.isfinite(flow.log10_delta).all()


# --- what is exactly zero says why ---


def test_closed_gates_say_so():
    J, params, X, Y = problem((8, 8, 8, 8, 3))
    closed = params[1]._replace(b=params[1].b - 1e6)
    params = (params[0], closed, params[2]._replace(b=params[2].b + 1), params[3])
    flow = flow_of(J, params, X, Y)
    assert flow.status.tolist() == [1, 1, 1, 0]
    assert (flow.log10_delta[:2] == -np.inf).all()
    assert np.isfinite(flow.log10_delta[2:]).all()


def test_a_loss_gradient_of_zero_says_so():
    J, params, X, _ = problem((6, 8, 3), output="linear", loss="mse")
    flow = flow_of(J, params, X, J.mlp.apply(params, X))
    assert (flow.status == FlowStatus.LOSS_GRADIENT_ZERO).all()


def test_activations_below_range_say_so():
    J, params, X, Y = problem((8, *[8] * 12, 3), hidden="squared_relu")
    flow = flow_of(J, params, X * 1e-3, Y)
    assert flow.status[-1] == FlowStatus.FORWARD_BELOW_RANGE
    assert flow.log10_grad_W[-1] == -np.inf
    assert np.isfinite(flow.log10_delta[-1])


def test_overflow_is_not_finite():
    J, params, X, Y = problem((8, *[8] * 9, 3), hidden="squared_relu", output="linear", loss="mse")
    flow = flow_of(J, params, X * 1e9, Y)
    assert (flow.status == FlowStatus.NOT_FINITE).any()


def test_a_norm_of_entries_near_the_ends_of_float32_is_right():
    J, params, X, Y = problem((4, 3), output="linear", loss="half_squared_error", use_bias=False)
    for scale in (1e-30, 1e-18, 1e18):
        flow = flow_of(J, params, X * jnp.float32(scale), jnp.zeros_like(Y))
        one = flow_of(J, params, X, jnp.zeros_like(Y))
        assert flow.log10_delta[0] == pytest.approx(one.log10_delta[0] + np.log10(scale), abs=1e-4)
