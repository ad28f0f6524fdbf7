"""Every per-sample quantity equals that of gradients made one sample at a time."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params
from support import drawn, problem, relative_error

import jaxmlp
from jaxmlp import losses, per_sample
from jaxmlp.layer import Pair
from jaxmlp.per_sample.transforms import NAMES

# rounding of sums of some dozen terms, relative to the largest entry of the leaf
ROUNDING = {"float32": 1e-5, "float64": 1e-11}
NETWORKS = {
    "plain": {"sizes": (3, 4, 2), "hidden": "relu"},
    "stacked, no bias": {
        "sizes": (3, *[5] * 5, 2), "hidden": "tanh", "stack_from": 2, "use_bias": False,
    },
    "stacked prelu": {"sizes": (5, *[5] * 5, 2), "hidden": "prelu", "stack_from": 2},
    "mixed in one stack, sse": {
        "sizes": (5, 5, 5, 2), "hidden": ["relu", "sigmoid"],
        "output": "tanh", "loss": "sse",
    },
}  # fmt: skip
ALL = (
    "grad", "per_sample_grads", "per_sample_norms", "per_sample_sq_norms", "moments", "noise_scale",
    "clipped_grad", "gradient_gram",
)  # fmt: skip
MAX_NORM = 0.5


def in_one_stack(J, params):
    """Return params whose hidden layers are one stack, though their activations differ."""
    *hidden, output = jaxmlp.layers(params)
    return jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves)), *hidden), output


@functools.cache
def solved(network: str, dtype: str):
    """Return the problem, all instruments of one walk, and the gradients of vmap(grad)."""
    with jax.enable_x64(dtype == "float64"):
        J, params, X, Y = problem(**NETWORKS[network])
        if network.startswith("mixed"):
            params = in_one_stack(J, params)
        value, out = jaxmlp.instruments(J, ALL, max_norm=MAX_NORM)(params, X, Y)
        grads = jax.jit(jax.vmap(jax.grad(one_sample(J)), (None, 0, 0)))(params, X, Y)
        return J, params, X, Y, value, *jax.tree.map(np.asarray, (out, grads))


def one_sample(J):
    """The loss of one sample, as jax.vmap wants it."""
    return lambda params, x, y: J(params, x[None], y[None])


def by_layer(params, grads):
    """One array `(m, parameters of the layer)` for each layer, in NumPy float64."""
    rows = []
    for layer, g in zip(params, grads, strict=True):
        leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(g)]
        if layer.W.ndim == 3:
            rows += [
                np.concatenate([leaf[:, i].reshape(len(leaf), -1) for leaf in leaves], axis=1)
                for i in range(layer.W.shape[0])
            ]
        else:
            rows.append(np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1))
    return rows


def flat(tree):
    return np.concatenate(
        [np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)]
    )


@pytest.fixture(params=[(n, d) for n in NETWORKS for d in ROUNDING], ids=lambda p: f"{p[0]}-{p[1]}")
def case(request):
    network, dtype = request.param
    with jax.enable_x64(dtype == "float64"):
        yield (*solved(network, dtype), ROUNDING[dtype])


def test_gradients_equal_vmap_of_grad(case):
    *_, out, grads, rounding = case
    assert jax.tree.structure(out["per_sample_grads"]) == jax.tree.structure(grads)
    for hand, auto in zip(*map(jax.tree.leaves, (out["per_sample_grads"], grads)), strict=True):
        assert hand.shape == auto.shape
        for one_hand, one_auto in zip(hand, auto, strict=True):  # each sample in its own size
            assert relative_error(one_hand, one_auto) < rounding


def test_gradients_equal_a_loop_over_samples():
    J, params, X, Y, _, out, _ = solved("stacked prelu", "float32")
    for i in range(len(X)):
        alone = jaxmlp.grad(J)(params, X[i : i + 1], Y[i : i + 1])
        own = jax.tree.map(lambda leaf, i=i: leaf[i], out["per_sample_grads"])
        assert relative_error(flat(own), flat(alone)) < ROUNDING["float32"]


def test_norms_equal_those_of_the_gradients_by_sample_and_layer(case):
    _, params, *_, out, grads, rounding = case
    expected = np.stack([np.linalg.norm(g, axis=1) for g in by_layer(params, grads)], axis=1)
    np.testing.assert_allclose(out["per_sample_norms"], expected, rtol=rounding)
    np.testing.assert_allclose(out["per_sample_sq_norms"], expected**2, rtol=2 * rounding)


def test_mean_over_samples_is_the_gradient_of_the_batch(case):
    J, params, X, Y, value, out, grads, rounding = case
    mean = jax.tree.map(lambda g: g.mean(0) * (len(X) if J.loss.name == "sse" else 1), grads)
    assert relative_error(flat(out["grad"]), flat(mean)) < rounding
    assert relative_error(value, J(params, X, Y)) < rounding


def test_gram_holds_the_inner_products_and_its_diagonal_the_squared_norms(case):
    _, params, *_, out, grads, rounding = case
    for K, g in zip(out["gradient_gram"], by_layer(params, grads), strict=True):
        assert relative_error(K, g @ g.T) < rounding
    diagonal = np.diagonal(out["gradient_gram"], axis1=1, axis2=2).T
    np.testing.assert_allclose(diagonal, out["per_sample_sq_norms"], rtol=4 * rounding)


def test_moments_are_those_of_the_gradients(case):
    *_, out, grads, rounding = case
    stacked = np.concatenate(
        [np.asarray(g, np.float64).reshape(len(g), -1) for g in jax.tree.leaves(grads)], axis=1
    )
    moments = out["moments"]
    assert relative_error(flat(moments.mean), stacked.mean(0)) < rounding
    assert relative_error(flat(moments.second_moment), (stacked**2).mean(0)) < rounding
    assert relative_error(flat(moments.variance), stacked.var(0, ddof=1)) < 4 * rounding


def test_noise_scale_is_that_of_the_gradients(case):
    _, params, *_, out, grads, rounding = case
    g = np.concatenate(by_layer(params, grads), axis=1)
    trace, squared = g.var(0, ddof=1).sum(), (g.mean(0) ** 2).sum()
    expected = [trace, squared, trace / squared]
    np.testing.assert_allclose(out["noise_scale"], expected, rtol=20 * rounding)


def test_clipped_gradient_weighs_every_sample_by_its_norm(case):
    J, params, X, _, _, out, grads, rounding = case
    g = np.concatenate(by_layer(params, grads), axis=1)
    factor = np.minimum(1, MAX_NORM / np.linalg.norm(g, axis=1))
    assert (factor < 1).any()  # otherwise nothing would be clipped
    mean = factor @ g / (1 if J.loss.name == "sse" else len(X))
    as_one_sample = jax.tree.map(lambda x: x[None], out["clipped_grad"])
    clipped = np.concatenate(by_layer(params, as_one_sample), axis=1)
    assert relative_error(clipped, mean[None]) < rounding


# --- clipping -------------------------------------------------------------------------------------


def test_clipping_equals_optax_without_noise():
    _, params, _, _, _, out, grads = solved("plain", "float32")
    private = optax.contrib.differentially_private_aggregate(MAX_NORM, 0.0, 0)
    state = private.init(params)
    theirs, _ = jax.jit(private.update)(grads, state, params)
    assert relative_error(flat(out["clipped_grad"]), flat(theirs)) < ROUNDING["float32"]


@pytest.mark.parametrize("network", ["plain", "mixed in one stack, sse"])
def test_without_clipping_it_is_the_gradient(network):
    J, params, X, Y, _, out, _ = solved(network, "float32")
    clipped = jaxmlp.clipped_grad(J, max_norm=np.inf)(params, X, Y)
    assert relative_error(flat(clipped), flat(out["grad"])) < ROUNDING["float32"]


def test_a_zero_gradient_has_factor_1():
    J = jaxmlp.Objective(jaxmlp.MLP((1, 1), output="linear"), "half_squared_error")
    params = (jaxmlp.Layer(jnp.ones((1, 1)), jnp.zeros(1)),)
    X, Y = jnp.array([[1.0], [2.0]]), jnp.array([1.0, 4.0])  # the first is met exactly
    clipped = jaxmlp.clipped_grad(J, max_norm=1e-3)(params, X, Y)
    expected = 1e-3 * np.array([-2 * 2, -2]) / np.sqrt(20) / 2
    np.testing.assert_allclose(flat(clipped), expected, rtol=1e-6)


def test_clipping_forms_nothing_of_the_size_of_per_sample_gradients():
    J, params, X, Y = problem((3, 40, 50, 2), m=30)
    limit = 30 * 40 * 50

    def sizes(jaxpr):
        for eqn in jaxpr.eqns:
            yield from (v.aval.size for v in eqn.outvars)
            for inner in jaxprs_in_params(eqn.params):
                yield from sizes(inner)

    def largest(transform):
        return max(sizes(jax.make_jaxpr(transform)(params, X, Y).jaxpr))

    assert largest(jaxmlp.per_sample_grads(J)) >= limit
    assert largest(jaxmlp.clipped_grad(J, max_norm=1.0)) < limit / 10
    assert largest(jaxmlp.instruments(J, ("per_sample_norms", "moments"))) < limit / 10


# --- at the end of the range ----------------------------------------------------------------------


def scaled_loss(factor):
    """Half squared error times a factor, value and derivatives alike."""
    half = losses.half_squared_error
    return dataclasses.replace(
        half, name=f"{factor} of it", value=lambda Z, A, Y: factor * half.value(Z, A, Y),
        dA=lambda A, Y: factor * half.dA(A, Y), dZ=lambda Z, A, Y: factor * half.dZ(Z, A, Y),
    )  # fmt: skip


def test_norms_and_clip_factors_of_tiny_gradients_are_right():
    _, params, X, Y = problem((3, 4, 2), output="linear", loss="mse")
    mlp = jaxmlp.MLP((3, 4, 2), output="linear")
    J, tiny = (jaxmlp.Objective(mlp, scaled_loss(c)) for c in (1.0, 2.0**-100))
    norms, few = (jaxmlp.per_sample_norms(j)(params, X, Y) for j in (J, tiny))
    assert few.max() < 1e-28
    np.testing.assert_allclose(few * 2.0**100, norms, rtol=1e-6)
    clipped, few = (
        jaxmlp.clipped_grad(j, max_norm=c)(params, X, Y) for j, c in ((J, 1.0), (tiny, 2.0**-100))
    )
    assert relative_error(flat(few) * 2.0**100, flat(clipped)) < 1e-6


def test_noise_scale_does_not_depend_on_the_scale_of_the_loss():
    _, params, X, Y = problem((3, 4, 2), output="linear", loss="mse")
    mlp = jaxmlp.MLP((3, 4, 2), output="linear")
    simple = [
        jaxmlp.noise_scale(jaxmlp.Objective(mlp, scaled_loss(c)))(params, X, Y).simple
        for c in (1.0, 1e-20)
    ]
    assert relative_error(simple[1], simple[0]) < 1e-5


def test_noise_scale_of_linear_regression_is_the_closed_form():
    """`tr(cov) = (d + 1) |D|^2 + d s^2` and `|g|^2 = |D|^2`, within 4 standard errors."""
    d, m, batches, s = 5, 64, 2000, 0.7
    D = np.arange(1, d + 1, dtype=np.float32) / d
    J = jaxmlp.Objective(jaxmlp.MLP((d, 1), output="linear", use_bias=False), "half_squared_error")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(batches, m, d)).astype(np.float32)
    Y = s * rng.normal(size=(batches, m)).astype(np.float32)  # the best weights are 0
    params = (jaxmlp.Layer(D[:, None]),)
    noise = jax.jit(jax.vmap(lambda x, y: jaxmlp.noise_scale(J)(params, x, y)))(X, Y)
    noise = jax.tree.map(np.asarray, noise)

    trace = (d + 1) * D @ D + d * s**2
    for measured, expected in (
        (noise.trace_covariance, trace),
        (noise.squared_gradient_norm - noise.trace_covariance / m, D @ D),  # without its own noise
    ):
        standard_error = measured.std(ddof=1) / np.sqrt(batches)
        assert abs(measured.mean() - expected) < 4 * standard_error
        assert standard_error < 0.02 * expected
    assert relative_error(trace / (D @ D), d + 1 + d * s**2 / (D @ D)) < 1e-6


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "size"), [("stacked prelu", 3), ("mixed in one stack, sse", 5), ("plain", 20)]
)
def test_microbatches_give_the_same(network, size):
    J, params, X, Y, value, out, _ = solved(network, "float32")
    read = jaxmlp.instruments(J, ALL, max_norm=MAX_NORM, microbatch_size=size)
    again, parts = read(params, X, Y)
    assert relative_error(again, value) < 1e-6
    assert jax.tree.structure(parts) == jax.tree.structure(out)
    for part, whole in zip(*map(jax.tree.leaves, (parts, out)), strict=True):
        assert relative_error(part, whole) < 1e-5


def test_permuting_the_batch_permutes_the_result():
    J, params, X, Y, _, out, _ = solved("stacked, no bias", "float32")
    order = np.random.default_rng(0).permutation(len(X))
    _, other = jaxmlp.instruments(J, ALL, max_norm=MAX_NORM)(params, X[order], Y[order])
    for name in ("per_sample_norms", "per_sample_grads"):
        permuted = jax.tree.map(lambda leaf: leaf[order], out[name])
        assert relative_error(flat(other[name]), flat(permuted)) < 1e-6
    K = out["gradient_gram"][:, order][:, :, order]
    assert relative_error(other["gradient_gram"], K) < 1e-6
    for name in ("moments", "clipped_grad", "noise_scale"):
        assert relative_error(flat(other[name]), flat(out[name])) < 1e-5


def test_one_sample_has_gradients_but_no_variance():
    J, params, X, Y, _, out, _ = solved("plain", "float32")
    x, y = X[:1], Y[:1]
    rest = [name for name in ALL if name not in ("moments", "noise_scale")]
    _, one = jaxmlp.instruments(J, rest, max_norm=MAX_NORM)(params, x, y)
    np.testing.assert_allclose(one["per_sample_norms"], out["per_sample_norms"][:1], rtol=1e-6)
    assert one["gradient_gram"].shape == (2, 1, 1)
    assert relative_error(flat(one["grad"]), flat(one["per_sample_grads"])) < 1e-6
    for refused in (jaxmlp.gradient_moments, jaxmlp.noise_scale):
        with pytest.raises(ValueError, match=r"needs at least 2 samples"):
            refused(J)(params, x, y)
        with pytest.raises(ValueError, match=r"needs at least 2 samples"):
            jax.jit(refused(J))(params, x, y)


# --- several, one's own, and what is refused ------------------------------------------------------


def test_a_transform_of_its_own_gives_what_it_gives_among_others():
    J, params, X, Y, _, out, _ = solved("plain", "float32")
    alone = {
        "per_sample_grads": jaxmlp.per_sample_grads(J),
        "per_sample_norms": jaxmlp.per_sample_norms(J),
        "per_sample_sq_norms": jaxmlp.per_sample_sq_norms(J),
        "moments": jaxmlp.gradient_moments(J),
        "noise_scale": jaxmlp.noise_scale(J),
        "clipped_grad": jaxmlp.clipped_grad(J, MAX_NORM),
        "gradient_gram": jaxmlp.gradient_gram(J),
    }
    for name, transform in alone.items():
        assert relative_error(flat(transform(params, X, Y)), flat(out[name])) < 1e-6
    total = jaxmlp.per_sample_norms(J, total=True)(params, X, Y)
    np.testing.assert_allclose(total, np.linalg.norm(out["per_sample_norms"], axis=1), rtol=1e-6)


def test_a_readout_of_ones_own_rides_along_and_comes_back_by_layer():
    J, params, X, Y, *_ = solved("mixed in one stack, sse", "float32")

    def correlation(A, dZ, layer):
        return {"sizes": A.sum() * dZ.sum(), "rows": jnp.abs(dZ).max(axis=1), "W": layer.W.sum()}

    _, out = jaxmlp.instruments(J, ("grad", correlation))(params, X, Y)
    steps = jaxmlp.trace(J)(params, X, Y)  # sse: the derivatives of the sum are each sample's own
    assert len(out["correlation"]) == len(steps) == 3
    for own, t, layer in zip(out["correlation"], steps, jaxmlp.layers(params), strict=True):
        np.testing.assert_allclose(own["rows"], np.abs(t.dZ).max(axis=1), rtol=1e-5)
        np.testing.assert_allclose(own["W"], layer.W.sum(), rtol=1e-5)


def test_a_readout_may_return_another_shape_for_every_layer():
    J, params, X, Y, *_ = solved("mixed in one stack, sse", "float32")
    calls = []

    def growing(A, dZ, layer):
        calls.append(1)
        return jnp.zeros(len(calls))

    _, out = jaxmlp.instruments(J, (growing,))(params, X, Y)
    assert sorted(x.size for x in out["growing"]) == [1, 2, 3]


@jax.jit
def read(A, dZ, direct):
    """Every array readout of one layer; the second norms are those of the weights alone."""
    pair = Pair(A, dZ, direct)
    norms = per_sample.norms(A, dZ, direct), per_sample.norms(A, dZ)
    return per_sample.grads(A, dZ), norms, per_sample.gram(pair, pair), per_sample.moments(*pair)


def test_array_readouts_agree_with_the_transforms():
    J, params, X, Y, _, out, _ = solved("plain", "float32")
    for number, t in enumerate(jaxmlp.trace(J)(params, X, Y)):
        grads, (norms, without), gram, moments = read(t.A_prev, t.dZ, {"b": t.dZ})
        own = jax.tree.map(np.asarray, out["per_sample_grads"][number])
        np.testing.assert_allclose(grads["W"], own.W, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(norms, out["per_sample_norms"][:, number], rtol=1e-5)
        np.testing.assert_allclose(without, np.linalg.norm(own.W, axis=(1, 2)), rtol=1e-5)
        assert relative_error(gram, out["gradient_gram"][number]) < 1e-5
        assert relative_error(moments.mean["W"], own.W.mean(0)) < 1e-5
        assert relative_error(moments.second_moment["W"], (own.W**2).mean(0)) < 1e-5
        assert relative_error(moments.variance["b"], own.b.var(0, ddof=1)) < 1e-5


def test_half_precision_is_summed_in_float32():
    J, params, X, Y = problem((8, 16, 4), m=64, dtype=jnp.bfloat16)
    up = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    for transform in (jaxmlp.per_sample_norms(J), jaxmlp.clipped_grad(J, 1.0)):
        half, single = transform(params, X, Y), transform(up, X.astype(jnp.float32), Y)
        assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("bfloat16")}
        assert relative_error(flat(half), flat(single)) < 0.05


@pytest.mark.parametrize(
    ("names", "options", "error", "sentence"),
    [
        (("grads",), {}, ValueError, "unknown instrument 'grads'; did you mean 'grad'"),
        ("grad", {}, TypeError, "names must be a tuple"),
        ((), {}, ValueError, "no instrument; known: clipped_grad, grad, "),
        ((3,), {}, TypeError, "a name or a function"),
        (("grad", "grad"), {}, ValueError, "'grad' twice"),
        (("clipped_grad",), {}, ValueError, "needs max_norm"),
        (("clipped_grad",), {"max_norm": -1.0}, ValueError, "max_norm must be finite and above 0"),
        (("clipped_grad",), {"max_norm": np.nan}, ValueError, "max_norm must be finite and above"),
        (("grad",), {"max_norm": 1.0}, ValueError, "max_norm is for 'clipped_grad'"),
        (("grad",), {"microbatch_size": 0}, ValueError, "microbatch_size must be at least 1"),
        (("grad",), {"microbatch_size": 2.0}, TypeError, "microbatch_size must be an integer"),
        ((max,), {"microbatch_size": 2}, ValueError, "readout of your own"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(names, options, error, sentence):
    J, *_ = problem((3, 4, 2))
    with pytest.raises(error, match=sentence.replace("(", r"\(")):
        jaxmlp.instruments(J, names, **options)


def test_an_unknown_name_lists_all():
    J, *_ = problem((3, 4, 2))
    with pytest.raises(ValueError, match=", ".join(sorted(NAMES))):
        jaxmlp.instruments(J, ("norm of it",))


def test_a_plain_loss_is_told_the_recipe():
    with pytest.raises(TypeError, match=r"README.*zero probe"):
        jaxmlp.per_sample_norms(lambda params, X, Y: 0.0)


def test_transforms_compose_with_jit_and_vmap_over_params():
    J, _, X, Y = problem((3, 4, 2))
    each = [drawn(J.mlp, "lecun", np.float32, np.random.default_rng(seed)) for seed in range(3)]
    several = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    norms = jaxmlp.per_sample_norms(J, total=True)
    together = jax.jit(jax.vmap(norms, (0, None, None)))(several, X, Y)
    for i in range(3):
        alone = norms(each[i], X, Y)
        np.testing.assert_allclose(together[i], alone, rtol=1e-5)
