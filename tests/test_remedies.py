"""Residual connections and norms by hand: equal to autodiff, exact identities, flow at depth."""

import itertools
import pickle

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import support
from support import relative_error, relative_errors

import jaxmlp
from jaxmlp import MLP, Layer, Objective, activations, norms
from jaxmlp.flow import FlowStatus

FLOAT64, FLOAT32 = 1e-11, 1e-4
FIRST = ["step", "sign", "squared_relu"]  # below them a plain network's gradient is exactly 0
HIDDEN = FIRST + [n for n in activations.names() if n not in ("softmax", "swish", *FIRST)]
RESIDUALS, NORMS = (None, 0.5, "1/sqrt(depth)", "rezero"), (None, "layer", "rms")


def drawn(mlp, *, loss="cross_entropy", m=5, seed=0, dtype=np.float64, bias=0.1):
    """Return an objective drawn by NumPy; gates, slopes and biases differ from their start."""
    rng, plain = np.random.default_rng(seed), []
    for (d_in, d_out), spec in zip(itertools.pairwise(mlp.sizes), mlp.specs, strict=True):
        W = rng.normal(size=(d_in, d_out)) / np.sqrt(d_in)
        b = bias * rng.normal(size=d_out) if mlp.use_bias else None
        slope = rng.uniform(0.1, 0.9) if spec.activation.slope is not None else None
        alpha = rng.uniform(0.3, 0.9) if "alpha" in spec.fields(mlp.use_bias) else None
        plain.append(Layer(W, b, slope, alpha))
    params = jax.device_put(jaxmlp.stack(jax.tree.map(lambda x: np.asarray(x, dtype), plain), mlp))
    X, K = rng.normal(size=(m, mlp.sizes[0])).astype(dtype), mlp.sizes[-1]
    if loss == "cross_entropy":
        Y = np.minimum(rng.integers(0, 2 * K, m), K - 1)
    else:
        Y = (rng.normal(size=(m, K)) + 1).astype(dtype)
    return Objective(mlp, loss), params, *jax.device_put((X, Y))


def both(J, params, X, Y):
    hand = jaxmlp.value_and_grad(J, (0, 1))(params, X, Y)
    auto = jax.jit(jax.value_and_grad(J, (0, 1)))(params, X, Y)
    return jax.tree.map(np.asarray, (hand, auto))


def worst(hand, auto):
    (value, (grads, dX)), (value_auto, (grads_auto, dX_auto)) = hand, auto
    errors = relative_errors(grads, grads_auto)
    return max(*errors.values(), relative_error(dX, dX_auto), relative_error(value, value_auto))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


# --- equality with autodiff -----------------------------------------------------------------------


# The plain network, without either, stands in test_backprop. 1/sqrt(depth) is a number as 0.5 is:
# that its Specs with a norm are those of the number is tested below.
REMEDIES = [
    remedy
    for remedy in itertools.product(RESIDUALS, NORMS)
    if remedy not in ((None, None), ("1/sqrt(depth)", "layer"), ("1/sqrt(depth)", "rms"))
]


@pytest.mark.quick
@pytest.mark.parametrize(("residual", "norm"), REMEDIES)
def test_gradient_equals_jax_grad_for_every_activation(residual, norm, x64):
    widths = [6] * 10 + [4] * (len(HIDDEN) - 10)  # a change of width in the middle
    mlp = MLP((3, *widths, 4), hidden=HIDDEN, residual=residual, norm=norm, stack_from=None)
    hand, auto = both(*drawn(mlp))
    assert worst(hand, auto) <= FLOAT64
    zero = [l for l, layer in enumerate(hand[1][0], start=1) if not layer.W.any()]
    assert zero == ([] if residual is not None else [1, 2])


@pytest.mark.parametrize(
    ("act", "residual", "norm", "eps", "depth"),
    [
        ("tanh", "1/sqrt(depth)", None, 1e-6, 100),
        ("relu", "1/sqrt(depth)", "rms", 1e-6, 100),
        ("prelu", "rezero", "layer", 0.3, 60),
        ("gelu", 0.5, "layer", 1e-6, 40),
        ("elu", None, "rms", 0.3, 40),
        ("sigmoid", 0.5, "rms", 0.0, 7),
        ("tanh", None, "layer", 0.0, 7),
        ("selu", "rezero", None, 1e-6, 1),
    ],
)
def test_gradient_equals_jax_grad_in_stacks_at_depth(act, residual, norm, eps, depth, x64):
    mlp = MLP(
        (3, *[6] * depth, 4), hidden=act, residual=residual, norm=norm, norm_eps=eps, stack_from=2
    )
    J, params, X, Y = drawn(mlp)
    assert any(layer.W.ndim == 3 for layer in params) == (depth > 3)
    hand, auto = both(J, params, X, Y)
    assert worst(hand, auto) <= FLOAT64
    # In other groups: the stack in two, or in plain layers if they are few
    regrouped = jax.tree.map(np.asarray, params)
    if depth > 7:
        first, stack, last = regrouped
        parts = (jax.tree.map(lambda x: x[of], stack) for of in (slice(9), slice(9, None)))  # noqa: B023
        regrouped = first, *parts, last
    else:
        regrouped = tuple(jaxmlp.layers(regrouped))
    errors = relative_errors(jaxmlp.grad(J)(regrouped, X, Y), hand[1][0])
    assert max(errors.values()) <= FLOAT64


def test_float32_gradients_equal_those_of_jax():
    for residual, norm in ((0.5, None), ("1/sqrt(depth)", "layer"), ("rezero", "rms")):
        mlp = MLP((3, *[8] * 20, 4), hidden="tanh", residual=residual, norm=norm, stack_from=2)
        assert worst(*both(*drawn(mlp, dtype=np.float32))) <= FLOAT32


def test_a_missing_skip_and_a_norm_held_constant_are_seen(x64):
    """Planted errors: the gradient of another network, and of a norm whose r ignores S."""
    mlp = MLP((3, 5, 5, 5, 4), hidden="tanh", residual=0.5, norm="rms")
    J, params, X, Y = drawn(mlp)
    (_, (auto, _)) = both(J, params, X, Y)[1]
    plain = Objective(MLP((3, 5, 5, 5, 4), hidden="tanh", norm="rms"), "cross_entropy")
    assert max(relative_errors(jaxmlp.grad(plain)(params, X, Y), auto).values()) > 1e-2
    U, r = norms.get("rms").apply(X)
    dU = jnp.cos(X)
    right = jax.vjp(lambda S: norms.get("rms").apply(S)[0], X)[1](dU)[0]
    assert relative_error(norms.get("rms").vjp(U, r, dU), right) <= FLOAT64
    assert relative_error(r * dU, right) > 1e-2


@pytest.mark.parametrize("name", ["layer", "rms"])
@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.3])
def test_norms_and_their_derivatives_are_those_of_autodiff(name, eps, x64):
    norm, rng = norms.get(name, eps), np.random.default_rng(0)
    S, dU = (jnp.asarray(rng.normal(size=(4, 7))) for _ in range(2))
    U, r = norm.apply(S)
    C = np.asarray(S) - (np.asarray(S).mean(1, keepdims=True) if name == "layer" else 0)
    assert relative_error(U, C / np.sqrt((C**2).mean(1, keepdims=True) + eps)) <= 1e-14
    auto = jax.vjp(lambda S: norm.apply(S)[0], S)[1](dU)[0]
    assert relative_error(norm.vjp(U, r, dU), auto) <= 1e-13


@pytest.mark.parametrize(
    "mlp",
    [
        MLP((3, *[5] * 5, 4), hidden="prelu", residual="rezero", norm="layer", stack_from=2),
        MLP((3, 5, 5, 6, 6, 4), hidden="gelu", residual=0.5, norm="rms", norm_eps=0.3),
        MLP((3, *[5] * 5, 4), hidden="tanh", residual="1/sqrt(depth)", stack_from=2),
    ],
)
def test_per_sample_quantities_and_trace_equal_vmap_of_grad(mlp, x64):
    J, params, X, Y = drawn(mlp, m=7)
    names = ("per_sample_grads", "per_sample_norms", "moments", "gradient_gram", "clipped_grad")
    _, out = jaxmlp.instruments(J, names, max_norm=0.5)(params, X, Y)
    one = lambda p, x, y: J(p, x[None], y[None])  # noqa: E731
    grads = jax.jit(jax.vmap(jax.grad(one), (None, 0, 0)))(params, X, Y)
    pairs = zip(jax.tree.leaves(out["per_sample_grads"]), jax.tree.leaves(grads), strict=True)
    assert max(relative_error(a, b) for a, b in pairs) <= FLOAT64
    G = np.concatenate([np.reshape(x, (7, -1)) for x in jax.tree.leaves(grads)], axis=1)
    size = np.linalg.norm(G, axis=1)
    assert relative_error(np.linalg.norm(out["per_sample_norms"], axis=1), size) <= FLOAT64
    assert relative_error(out["gradient_gram"].sum(0), G @ G.T) <= FLOAT64
    flat = lambda t: np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)])  # noqa: E731
    assert relative_error(flat(out["moments"].variance), G.var(0, ddof=1)) <= FLOAT64
    clipped = (np.minimum(1, 0.5 / size)[:, None] * G).mean(0)
    assert relative_error(flat(out["clipped_grad"]), clipped) <= FLOAT64
    of_trace = [Layer(t.dW, t.db, t.dslope, t.dalpha) for t in jaxmlp.trace(J)(params, X, Y)]
    means = jaxmlp.layers(jax.tree.map(lambda g: g.mean(0), grads))
    assert max(relative_errors(of_trace, means).values()) <= FLOAT64


# --- exact identities -----------------------------------------------------------------------------


def test_stream_times_its_derivative_is_the_same_in_every_layer(x64):
    """Bias-free and homogeneous: sum(dS * S) of a sample is conserved (Euler's theorem)."""
    mlp = MLP((3, *[6] * 30, 4), hidden="relu", residual=0.5, use_bias=False)
    J, params, X, Y = drawn(mlp)
    layers = jaxmlp.trace(J)(params, X, Y)
    conserved = [np.sum(np.asarray(t.dS) * np.asarray(t.S), axis=1) for t in layers]
    for each in conserved[:-1]:
        assert relative_error(each, conserved[-1]) <= 1e-12


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_normed_layer_does_not_see_the_size_of_its_weights(norm, x64):
    mlp = MLP((3, 6, 6, 6, 4), hidden="tanh", norm=norm, norm_eps=0.0)
    J, params, X, Y = drawn(mlp)
    for t, layer in zip(jaxmlp.trace(J)(params, X, Y)[:-1], params, strict=False):
        along = np.sum(layer.W * t.dW) + np.sum(layer.b * t.db)
        assert abs(along) <= 1e-13 * np.abs(np.asarray(t.dW)).sum()
        if norm == "layer":
            assert abs(np.sum(t.db)) <= 1e-13 * np.abs(np.asarray(t.db)).sum()


def test_with_closed_gates_the_stream_is_whole_bit_for_bit():
    mlp = MLP((3, *[6] * 40, 4), hidden="tanh", residual="rezero")
    params = support.drawn(mlp, "he", np.float32, np.random.default_rng(0))
    assert not np.any(params[1].alpha)  # at birth
    J, _, X, Y = drawn(mlp, dtype=np.float32)
    hidden = jaxmlp.trace(J)(params, X, Y)[1:-1]
    for t in hidden:
        np.testing.assert_array_equal(t.dS, hidden[-1].dS)
        assert not np.any(t.dZ)
        assert abs(float(t.dalpha)) > 0
    flow = jaxmlp.gradient_flow(J)(params, X, Y)
    assert (flow.log10_delta[1:-1] == -np.inf).all()
    assert (flow.status[1:-1] == FlowStatus.RESIDUAL_GATE_ZERO).all()
    assert np.ptp(np.asarray(flow.log10_stream[1:-1])) < 1e-6


# --- magnitudes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "residual", "norm"),
    [("tanh", 0.5, None), ("gelu", "1/sqrt(depth)", "rms"), ("relu", None, "layer"),
     ("prelu", "rezero", "layer")],
)  # fmt: skip
def test_flow_in_float32_is_that_of_the_trace_in_float64(act, residual, norm):
    mlp = MLP((12, *[12] * 40, 3), hidden=act, residual=residual, norm=norm)
    J, params, X, Y = drawn(mlp, dtype=np.float32)
    flow = jaxmlp.gradient_flow(J)(params, X, Y)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), (params, X))
        layers = jaxmlp.trace(J)(*wide, np.asarray(Y))
    rms = lambda rows: np.log10(np.sqrt((np.asarray(rows) ** 2).sum(1).mean()))  # noqa: E731
    for name, field in (("dZ", "log10_delta"), ("dS", "log10_stream"), ("A", "log10_activation")):
        expected = np.array([rms(getattr(t, name)) for t in layers])
        assert np.abs(getattr(flow, field) - expected).max() < 1e-4, name
    expected = [np.log10(np.linalg.norm(t.dW)) for t in layers]
    assert np.abs(flow.log10_grad_W - np.array(expected)).max() < 1e-4
    assert (flow.status == FlowStatus.OK).all()


def mp_magnitudes(mlp, params, X, Y):
    """log10 of the rms norm of dS and of the norm of dW, layer by layer with 50 digits."""
    mp = np.vectorize(mpmath.mpf, otypes=[object])
    act, slope = {
        "linear": (lambda u: u, lambda u: mpmath.mpf(1)),
        "sigmoid": (lambda u: 1 / (1 + mpmath.exp(-u)),
                    lambda u: mpmath.exp(-u) / (1 + mpmath.exp(-u)) ** 2),
    }[mlp.hidden[0].name]  # fmt: skip
    rows = lambda S: S.sum(axis=1, keepdims=True) / S.shape[1]  # noqa: E731
    size = lambda S: mpmath.log10(mpmath.sqrt((S**2).sum()))  # noqa: E731
    with mpmath.workdps(50):
        layers = [(mp(np.asarray(W, float)), mp(np.asarray(b, float)))
                  for W, b, *_ in jaxmlp.layers(params)]  # fmt: skip
        A, S, kept = mp(np.asarray(X, float)), None, []
        for spec, (W, b) in zip(mlp.specs, layers, strict=True):
            A_prev, Z = A, A @ W + b
            S = Z if spec.residual is None else S + spec.residual * Z
            U, r = S, 1
            if spec.norm is not None:
                C = S - rows(S)
                r = 1 / np.vectorize(mpmath.sqrt, otypes=[object])(rows(C**2) + spec.norm.eps)
                U = C * r
            A = np.vectorize(act, otypes=[object])(U)
            kept.append((A_prev, U, r))
        dS, found = S - mp(np.asarray(Y, float)), []
        for l in reversed(range(len(layers))):
            spec, dZ = mlp.specs[l], dS * (mlp.specs[l].residual or 1)
            dW = kept[l][0].T @ dZ / len(X)
            found.append([float(size(dS) - mpmath.log10(len(X)) / 2), float(size(dW))])
            if l:
                _, U, r = kept[l - 1]
                own = (dZ @ layers[l][0].T) * np.vectorize(slope, otypes=[object])(U)
                if mlp.specs[l - 1].norm is not None:
                    own = r * (own - rows(own) - U * rows(U * own))
                dS = own if spec.residual is None else own + dS
    return np.array(found[::-1]).T


@pytest.mark.parametrize(
    ("act", "remedy", "at_first"),
    [("linear", {"residual": 1.5}, 40), ("sigmoid", {"norm": "layer", "norm_eps": 0.01}, -120)],
)
def test_flow_of_400_layers_is_that_of_mpmath(act, remedy, at_first):
    mlp = MLP((6, *[6] * 400, 3), hidden=act, output="linear", **remedy)
    J, params, X, Y = drawn(mlp, loss="half_squared_error", m=2, dtype=np.float32)
    flow, expected = jaxmlp.gradient_flow(J)(params, X, Y), mp_magnitudes(mlp, params, X, Y)
    found = np.array([flow.log10_stream, flow.log10_grad_W])
    assert np.abs(found - expected).max() < 1e-4
    assert (expected[0, 0] - at_first) * np.sign(at_first) > 0  # beyond the range of float32


def test_a_large_stream_that_closes_all_gates_leaves_the_bias_of_the_output():
    """If A = 0, the size of its stream (here 2^200) must not make the next bias vanish."""
    mlp = MLP((2, 3, 3, 2), hidden="relu", output="linear", residual=1.0)
    one, b = np.ones((3, 3), np.float32), np.full(3, -1e30, np.float32)
    params = (Layer(one[:2], b), Layer(1e30 * one, b), Layer(one[:, :2], np.float32([0.3, 0.4])))
    J = Objective(mlp, "half_squared_error")
    X, Y = np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32)
    flow = jaxmlp.gradient_flow(J)(params, X, Y)
    assert flow.log10_activation[-1] == pytest.approx(np.log10(0.5))
    assert flow.log10_stream[-1] == pytest.approx(np.log10(0.5))
    assert flow.status.tolist() == [FlowStatus.GATES_CLOSED] * 3
    assert flow.log10_grad_b[-1] == pytest.approx(np.log10(0.5))


def test_a_stream_that_explodes_is_finite_at_ten_thousand_layers():
    mlp = MLP((4, *[8] * 10_000, 3), hidden="linear", residual=1.0, output="linear")
    params = support.drawn(mlp, "lecun", np.float32, np.random.default_rng(0))
    J, _, X, Y = drawn(MLP((4, 3), output="linear"), loss="mse", dtype=np.float32)
    J = Objective(mlp, "mse")
    flow = jaxmlp.gradient_flow(J)(params, X, Y)
    assert np.isfinite([flow.log10_stream, flow.log10_delta, flow.log10_grad_W]).all()
    assert flow.log10_activation[-1] > 500
    assert (flow.status == FlowStatus.OK).all()


# --- training, names, and what is refused ---------------------------------------------------------


def test_gates_learn_and_hand_and_jax_agree_while_they_do(x64):
    """In float64: a gate's derivative is a sum that passes 0, where float32 has no digits left."""
    mlp = MLP((3, *[8] * 6, 4), hidden="tanh", residual="rezero", norm="rms", stack_from=2)
    J, _, X, Y = drawn(mlp, m=20)
    params = support.drawn(mlp, "lecun", np.float64, np.random.default_rng(0))
    trained, history = jaxmlp.fit(J, params, X, Y, optimizer=0.5, epochs=60, gradient="compare")
    assert history.relative_difference.max() < FLOAT64
    assert history.loss[-1] < 0.7 * history.loss[0]
    assert float(jnp.abs(jaxmlp.as_dict(trained)["alpha2"])) > 0


def test_the_description_says_where_a_residual_acts():
    mlp = MLP((6, 6, 6, 4, 4, 3), residual=0.5, norm="rms")
    assert [spec.residual for spec in mlp.specs] == [None, 0.5, None, 0.5, None]
    assert [spec.norm is not None for spec in mlp.specs] == [True] * 4 + [False]
    for norm in NORMS:
        named, number = (
            MLP((6, 4, 4, 4, 3), residual=residual, norm=norm)
            for residual in ("1/sqrt(depth)", 3**-0.5)
        )
        assert named.specs[1].residual == 3**-0.5
        assert named.specs == number.specs
    assert MLP((6, 4, 4, 3), residual="rezero").num_parameters == 28 + 20 + 15 + 1
    assert "rms norm, relu, residual 0.5" in repr(mlp)
    assert pickle.loads(pickle.dumps(mlp)) == mlp
    params = MLP((3, 4, 4, 2), residual="rezero").init(jax.random.key(0))
    assert list(jaxmlp.as_dict(params))[2:5] == ["W2", "b2", "alpha2"]


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"norm": "batch"}, ValueError, "couples the samples"),
        ({"norm": "leyer"}, ValueError, "did you mean 'layer'"),
        ({"norm": 3}, TypeError, "norm must be None"),
        ({"norm": "rms", "norm_eps": -1.0}, ValueError, "norm_eps must be finite and at least 0"),
        ({"norm": "rms", "norm_eps": "0"}, TypeError, "norm_eps must be a number"),
        ({"residual": 0.0}, ValueError, "residual must be finite and above 0"),
        ({"residual": "rezro"}, ValueError, "did you mean 'rezero'"),
        ({"residual": True}, TypeError, "residual must be None, a number"),
    ],
)
def test_what_is_no_remedy_is_refused(options, error, sentence):
    with pytest.raises(error, match=sentence):
        MLP((3, 4, 4, 2), **options)
