"""Per-sample quantities of any JAX model against `vmap(grad)` and NumPy in float64."""

import re

import equinox
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import problem, relative_error

from jaxmlp import per_sample
from jaxmlp.per_sample.any_model import readouts
from jaxmlp.per_sample.any_model.derivatives import Product

NAMES = (
    "grad", "per_sample_grads", "per_sample_norms", "per_sample_sq_norms", "moments", "noise_scale",
    "clipped_grad", "gradient_gram",
)  # fmt: skip
M = 6
MAX_NORM = 0.7


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape) / max(1, shape[0]) ** 0.5


X, Y = 2 * normal(M, 5), np.arange(M) % 3
TOKENS = 2 * normal(M, 4, 6)


def cross_entropy(logits, y):
    return jax.nn.logsumexp(logits) - logits[y]


# --- models: (loss of one sample, params, X, Y), and what explain must say ------------------------

MODELS = {}


def model(**says):
    """Register a model, and for each leaf (a part of its name) a part of what explain says."""

    def note(build):
        MODELS[build.__name__] = (build, says)
        return build

    return note


@model(W="factored", b="materialised enters `add`", gain="materialised enters `mul`")
def plain_functions():
    def loss(params, x, y):
        x = jnp.tanh(x @ params["W1"] + params["b1"])
        mean, variance = x.mean(), x.var()
        x = params["gain"] * (x - mean) / jnp.sqrt(variance + 1e-6) + params["b2"]
        return cross_entropy(x @ params["W3"], y)

    params = {"W1": normal(5, 7), "b1": normal(7), "gain": 1 + normal(7), "b2": normal(7, seed=1)}
    return loss, params | {"W3": normal(7, 3)}, X, Y


@model(kernel="factored", bias="materialised", scale="materialised enters `mul`")
def flax_linen():
    class Network(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            x = flax.linen.LayerNorm()(flax.linen.gelu(flax.linen.Dense(7)(x)))
            return flax.linen.Dense(3)(x)

    network = Network()
    params = jax.jit(network.init)(jax.random.key(0), X[0])
    return lambda params, x, y: cross_entropy(network.apply(params, x), y), params, X, Y


@model(kernel="factored", bias="materialised", scale="materialised enters `mul`")
def flax_nnx():
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(5, 7, rngs=rngs)
            self.norm = nnx.LayerNorm(7, rngs=rngs)
            self.output = nnx.Linear(7, 3, rngs=rngs)

        def __call__(self, x):
            return self.output(self.norm(nnx.relu(self.hidden(x))))

    graph, params = nnx.split(Network(nnx.Rngs(0)))
    return lambda params, x, y: cross_entropy(nnx.merge(graph, params)(x), y), params, X, Y


@model(weight="factored A (1, ", bias="materialised enters `add`")
def equinox_mlp():
    network = equinox.nn.MLP(5, 3, 7, 2, key=jax.random.key(0))
    params, static = equinox.partition(network, equinox.is_inexact_array)
    return lambda params, x, y: cross_entropy(equinox.combine(params, static)(x), y), params, X, Y


@model(output="factored A (4, 8), dZ (4, 6)", proj="factored A (4, 6), dZ (4, 8)")
def equinox_attention():
    attention = equinox.nn.MultiheadAttention(2, 6, qk_size=4, vo_size=4, key=jax.random.key(0))
    params, static = equinox.partition(attention, equinox.is_inexact_array)

    def loss(params, x, y):
        tokens = equinox.combine(params, static)(x, x, x)
        return cross_entropy(tokens.mean(0)[:3], y)

    return loss, params, TOKENS, Y


@model(heads="factored A (4, 6), dZ (4, 6); norms by products", out="factored A (4, 6)",
       read="factored A (1, 6), dZ (1, 3)")  # fmt: skip
def attention_of_einsums():
    def loss(params, x, y):
        q, k, v = (jnp.einsum("td,dhk->thk", x, W) for W in jnp.split(params["heads"], 3, axis=1))
        weights = jax.nn.softmax(jnp.einsum("thk,shk->hts", q, k))
        heads = jnp.einsum("hts,shk->thk", weights, v)
        tokens = x + jnp.einsum("thk,hkd->td", heads, params["out"])
        return cross_entropy(params["read"] @ tokens.mean(0), y)

    heads = {"heads": normal(6, 6, 3), "out": normal(2, 3, 6), "read": normal(3, 6)}
    return loss, heads, TOKENS, Y


@model(w="factored", b="materialised")
def nested_dicts():
    def loss(params, x, y):
        for layer in ("linear_0", "linear_1"):
            x = jnp.sin(jnp.dot(x, params["mlp/~/" + layer]["w"]) + params["mlp/~/" + layer]["b"])
        return cross_entropy(x, y)

    sizes = {"linear_0": (5, 7), "linear_1": (7, 3)}
    params = {f"mlp/~/{k}": {"w": normal(*s), "b": normal(s[1])} for k, s in sizes.items()}
    return loss, params, X, Y


@model(shared="materialised is used 2 times", only="factored")
def shared_weights():
    def loss(params, x, y):
        return cross_entropy(params["shared"] @ jnp.tanh(x @ params["shared"]) @ params["only"], y)

    return loss, {"shared": normal(5, 5), "only": normal(5, 3)}, X, Y


@model(disjoint="factored A (1, 5), dZ (1, 5), A (1, 5)", overlapping="materialised is used 2")
def slices_of_stacks():
    def loss(params, x, y):
        for i in (0, 2):
            x = jnp.tanh(x @ params["disjoint"][i].T)
        both = params["overlapping"]
        return cross_entropy(both[:3] @ x + both[1:] @ x, y)

    return loss, {"disjoint": normal(3, 5, 5), "overlapping": normal(4, 5)}, X, Y


@model(kernel="materialised enters a convolution", W="factored")
def convolution():
    def loss(params, x, y):
        x = jax.lax.conv(x[None, None], params["kernel"], (1, 1), "VALID")
        return cross_entropy(jnp.tanh(x).ravel() @ params["W"], y)

    return loss, {"kernel": normal(2, 1, 2, 3), "W": normal(24, 3)}, TOKENS, Y


@model(table="materialised is looked up (gather)", W="factored A (4, 6), dZ (4, 3)")
def embedding():
    def loss(params, x, y):
        return cross_entropy(jnp.tanh(params["table"][x] @ params["W"]).sum(0), y)

    ids = np.arange(4 * M).reshape(M, 4) * 5 % 7  # integers, as the labels are
    return loss, {"table": normal(7, 6), "W": normal(6, 3)}, ids, Y


@model(stack="materialised enters a loop (scan)", branch="materialised enters a branch (cond)",
       W="factored")  # fmt: skip
def loops_and_branches():
    def loss(params, x, y):
        x, _ = jax.lax.scan(lambda x, W: (jnp.tanh(W @ x), None), x, params["stack"])
        x = jax.lax.cond(y > 0, lambda W: x @ W, lambda W: x + W[0], params["branch"])
        return cross_entropy(x @ params["W"], y)

    return loss, {"stack": normal(3, 5, 5), "branch": normal(5, 5), "W": normal(5, 3)}, X, Y


@model(inside="factored", outside="factored", bias="materialised")
def jit_and_remat():
    @jax.jit
    def layer(W, b, x):
        return jnp.tanh(x @ W.T + b)

    @jax.checkpoint
    def block(params, x):
        x = layer(params["inside_1"], params["bias"], x)
        return layer(params["inside_2"], params["bias"][::-1], x)

    def loss(params, x, y):
        return cross_entropy(block(params, x) @ params["outside"], y)

    params = {"inside_1": normal(7, 5), "inside_2": normal(7, 7), "bias": normal(7)}
    return loss, params | {"outside": normal(7, 3)}, X, Y


@jax.custom_vjp
def dense(W, x):
    return x @ W


# the rule says twice the derivative in W, and that of x through the sign of W
dense.defvjp(
    lambda W, x: (x @ W, (W, x)),
    lambda saved, g: (2 * jnp.outer(saved[1], g), jnp.sign(saved[0]) @ g),
)


@model(rule="materialised enters a custom derivative rule", below="factored")
def a_rule_that_is_not_the_derivative():
    def loss(params, x, y):
        return cross_entropy(dense(params["rule"], jnp.tanh(x @ params["below"])), y)

    return loss, {"rule": normal(7, 3), "below": normal(5, 7)}, X, Y


@model(stopped="factored the loss does not use it", unused="factored the loss does not use it",
       partly="materialised enters `mul`", W="factored", batched="materialised enters a batched",
       product="materialised is multiplied by another", scalar="materialised")  # fmt: skip
def odd_uses():
    def loss(params, x, y):
        x = x @ jax.lax.stop_gradient(params["stopped"])
        x = (x @ params["partly"]) * params["partly"][0, 0]
        x = jnp.einsum("gi,gij->gj", jnp.stack([x, x**2], 1), params["batched"]).ravel()
        x = x @ (params["product_1"] @ params["product_2"])
        return params["scalar"] * cross_entropy(x @ params["W"], y)

    params = {name: normal(5, 5, seed=i) for i, name in enumerate(("stopped", "partly", "unused"))}
    params |= {"batched": normal(5, 2, 1), "product_1": normal(5, 2), "product_2": normal(2, 5)}
    return loss, params | {"W": normal(5, 3), "scalar": np.array(1.3)}, X, Y


@model(swapped="factored A (1, 24), dZ (1, 3)", strided="factored A (1, 5), dZ (1, 3), A (1, 4)",
       outer="factored A (6, 1), dZ (6, 2)", mapped="factored A (4, 6), dZ (4, 6)")  # fmt: skip
def odd_products():
    def loss(params, x, y):
        axes = ((1, 0), (0, 2)), ((), ())  # two axes are summed over, in another order
        z = jax.lax.dot_general(x, params["swapped"], axes)
        z = z + x[0, :5] @ params["strided"][::2, :3][::-1] + x[:, 0] @ params["strided"][1::2, 3:]
        heads = jax.vmap(lambda W: x @ W)(params["mapped"])
        return cross_entropy(jnp.sin(z), y) + jnp.tensordot(x[1], params["outer"], 0).std() + (
            heads.std())  # fmt: skip

    shapes = {"swapped": (6, 3, 4), "strided": (9, 6), "outer": (2,), "mapped": (2, 6, 3)}
    return loss, {name: normal(*shape) for name, shape in shapes.items()}, TOKENS, Y


@model(W="factored")
def integer_pixels():
    def loss(params, x, y):  # JAX multiplies integers and floats as they are
        return cross_entropy(jnp.tanh(x @ params["W1"]) @ params["W2"], y)

    pixels = np.arange(5 * M).reshape(M, 5) * 7 % 11
    return loss, {"W1": normal(5, 7), "W2": normal(7, 3)}, pixels, Y


# --- the definition -------------------------------------------------------------------------------


def of_dtype(tree, dtype):
    return jax.tree.map(
        lambda x: jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None), tree
    )


def gradients(loss, params, X, Y):
    """Return each sample's loss, and its gradient of each leaf, `(m, entries)`, in float64."""
    each = jax.jit(jax.vmap(jax.value_and_grad(loss), (None, 0, 0)))
    losses, grads = each(params, X, Y)
    flat = [np.asarray(g, np.float64).reshape(len(g), -1) for g in jax.tree.leaves(grads)]
    return np.asarray(losses, np.float64), flat


def expected(grads, max_norm=MAX_NORM):
    """Return every quantity by its definition, as lists over the leaves."""
    m, every = len(grads[0]), np.concatenate(grads, axis=1)
    sizes = np.linalg.norm(every, axis=1)
    weights = np.minimum(1, max_norm / np.where(sizes == 0, 1, sizes))
    norms = np.stack([np.linalg.norm(g, axis=1) for g in grads], axis=1)
    return {
        "grad": [g.mean(0) for g in grads],
        "per_sample_grads": grads,
        "per_sample_norms": [norms],
        "per_sample_sq_norms": [norms**2],
        "mean": [g.mean(0) for g in grads],
        "second_moment": [(g**2).mean(0) for g in grads],
        "variance": [g.var(0, ddof=1) for g in grads],
        "trace_covariance": [every.var(0, ddof=1).sum()],
        "squared_gradient_norm": [(every.mean(0) ** 2).sum()],
        "simple": [every.var(0, ddof=1).sum() / (every.mean(0) ** 2).sum()],
        "clipped_grad": [weights @ g / m for g in grads],
        "gradient_gram": [g @ g.T for g in grads],
    }


def errors(out, grads):
    """Return the relative error of each quantity, that of the worst leaf."""
    out, wanted, worst = dict(out), expected(grads), {}
    for name in ("moments", "noise_scale"):
        out |= out.pop(name)._asdict() if name in out else {}
    for name, value in out.items():
        leaves = list(value) if name == "gradient_gram" else jax.tree.leaves(value)
        assert len(leaves) == len(wanted[name])
        pairs = zip(leaves, wanted[name], strict=True)
        worst[name] = max(relative_error(np.reshape(a, r.shape), r) for a, r in pairs)
    return worst


def check(name, names, dtype, tolerance, **options):
    """Compare with the definition, leaf by leaf, relative to the leaf; return f's results."""
    loss, params, X, Y = MODELS[name][0]()
    params, X = of_dtype((params, X), dtype)
    options |= {"max_norm": MAX_NORM} if "clipped_grad" in names else {}
    losses, grads = gradients(loss, params, X, Y)
    value, out = per_sample.of(loss, names, **options)(params, X, Y)
    assert relative_error(value, losses.mean()) < tolerance
    worst = errors(out, grads)
    assert max(worst.values()) < tolerance, worst
    return params, out, grads


THOROUGH = ("plain_functions", "attention_of_einsums", "odd_uses")  # the others compile less


@pytest.mark.parametrize("name", MODELS)
def test_equals_vmap_of_grad_leaf_by_leaf(name):
    names = NAMES if name in THOROUGH else ("grad", "per_sample_grads", "per_sample_norms")
    with jax.enable_x64(True):
        params, out, grads = check(name, names, jnp.float64, 1e-10)
    assert jax.tree.structure(out["grad"]) == jax.tree.structure(params)
    of_samples = jax.tree.map(lambda p: (M, *p.shape), params)
    assert jax.tree.map(jnp.shape, out["per_sample_grads"]) == of_samples
    assert out["per_sample_norms"].shape == (M, len(grads))
    planted = [np.asarray(g) * (1 + 1e-9) for g in jax.tree.leaves(out["grad"])]
    assert errors({"grad": planted}, grads)["grad"] > 1e-10


@pytest.mark.parametrize("name", ["convolution", "embedding"])
def test_microbatches_add_up_and_line_up_also_when_the_last_is_smaller(name):
    with jax.enable_x64(True):
        check(name, NAMES, jnp.float64, 1e-10, microbatch_size=4)


def test_float32_is_right_to_its_rounding():
    _, out, _ = check("embedding", NAMES, jnp.float32, 1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype("float32")}


def test_float32_in_microbatches_stays_float32_under_x64():
    names = ("grad", "moments", "noise_scale")
    with jax.enable_x64(True):
        _, out, _ = check("convolution", names, jnp.float32, 1e-5, microbatch_size=3)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype("float32")}


# --- the MLP itself -------------------------------------------------------------------------------


def test_the_mlp_has_the_numbers_of_its_own_instruments():
    with jax.enable_x64(True):
        J, params, X, Y = problem((5, 7, 3), hidden="prelu", dtype=jnp.float64)
        names = ("grad", "per_sample_norms", "noise_scale", "gradient_gram")

        def loss(params, x, y):
            return J(params, x[None], y[None])

        ours = per_sample.of(loss, names)(params, X, Y)
        theirs = per_sample.instruments(J, names)(params, X, Y)
    (value, ours), (J_value, theirs) = ours, theirs
    assert relative_error(value, J_value) < 1e-14
    layers = [slice(0, 3), slice(3, 5)]  # W, b, slope; W, b
    norms = np.stack(
        [np.hypot.reduce(np.asarray(ours["per_sample_norms"])[:, of], axis=1) for of in layers], 1
    )
    assert relative_error(norms, theirs["per_sample_norms"]) < 1e-12
    gram = np.stack([np.asarray(ours["gradient_gram"])[of].sum(0) for of in layers])
    assert relative_error(gram, theirs["gradient_gram"]) < 1e-12
    for name in ("grad", "noise_scale"):
        assert type(ours[name]) is type(theirs[name])
        pairs = zip(jax.tree.leaves(ours[name]), jax.tree.leaves(theirs[name]), strict=True)
        assert max(relative_error(a, b) for a, b in pairs) < 1e-12


# --- what is not formed, what is kept -------------------------------------------------------------


def lowered(names, t=None, **options):
    """The program for a weight (30, 40) and 50 samples, as text."""

    def loss(params, x, y):
        return jnp.tanh(x @ params["W"]).sum() * y

    params, x = {"W": jnp.ones((30, 40))}, jnp.ones((50, 30) if t is None else (50, t, 30))
    return jax.jit(per_sample.of(loss, names, **options)).lower(params, x, jnp.ones(50)).as_text()


@pytest.mark.parametrize("t", [None, 3])
def test_gradients_of_a_weight_are_formed_only_if_they_are_asked_for(t):
    cheap = ("grad", "per_sample_norms", "moments", "noise_scale", "clipped_grad")
    assert "tensor<50x30x40x" not in lowered(cheap, t, max_norm=1.0)
    assert "tensor<50x30x40x" in lowered(("per_sample_grads",), t)


def test_remat_goes_on_recomputing_and_precision_is_kept():
    loss, params, X, Y = MODELS["jit_and_remat"][0]()
    f = per_sample.of(loss, ("grad",))
    assert re.search(r"\b(remat2?|checkpoint)\[", str(jax.make_jaxpr(f)(params, X, Y)))

    def precise(params, x, y):
        return jnp.tanh(jnp.dot(x, params["W"], precision="highest")).sum()

    f = per_sample.of(precise, ("grad",))
    text = str(jax.make_jaxpr(f)({"W": normal(5, 3)}, X, Y))
    assert text.count("dot_general[") == text.count("(Precision.HIGHEST, Precision.HIGHEST)") > 0


# --- numbers at the edges of a dtype --------------------------------------------------------------


def float64(product):
    """The gradients `(m, d_in, d_out)` in NumPy float64."""
    return np.einsum("mti,mto->mio", *(np.asarray(x, np.float64) for x in product[:2]))


def float32_product(A, dZ):
    return Product(jnp.asarray(A, jnp.float32), jnp.asarray(dZ, jnp.float32))


def norms_of(A, dZ):
    return readouts.norms_of(Product(A, dZ))


def test_norms_are_right_if_the_products_of_positions_cancel():
    dZ = normal(5, 8, 16)
    dZ[1:] -= dZ[1:].mean(1, keepdims=True)  # all tokens are nearly alike: G is nearly 0
    product = float32_product(1 + 1e-4 * normal(5, 8, 16, seed=1), dZ)
    assert readouts.products_are_smaller(8, 16, 16)
    expected = np.linalg.norm(float64(product), axis=(1, 2))
    assert expected[1:].max() < 1e-2 * expected[0]
    norms = jax.jit(norms_of)(*product[:2])
    np.testing.assert_allclose(norms, expected, rtol=1e-4)  # A itself holds 1e-4 to eps / 1e-4
    A, dZ = (np.asarray(x) for x in product[:2])
    squares = ((A @ A.swapaxes(1, 2)) * (dZ @ dZ.swapaxes(1, 2))).sum((1, 2))
    assert np.abs(np.sqrt(np.abs(squares)) / expected - 1).max() > 1e-2  # the products alone


@pytest.mark.parametrize(("t", "d"), [(1, 6), (3, 6), (3, 2)])
def test_norms_neither_underflow_nor_overflow(t, d):
    sizes = np.array([1e-25, 1.0, 1e25])[:, None, None]
    A, dZ = sizes * normal(3, t, d), 1e-6 * normal(3, t, d, seed=1) / sizes**0.5
    A[1, 0], dZ[1, 0] = 1e-20 * A[1, 0], 1e20 * dZ[1, 0]  # positions of very unequal parts
    product = float32_product(A, dZ)
    expected = np.linalg.norm(float64(product), axis=(1, 2))
    np.testing.assert_allclose(jax.jit(norms_of)(*product[:2]), expected, rtol=1e-5)


@pytest.mark.parametrize("t", [1, 3])
def test_variance_is_right_for_nearly_identical_samples_and_never_negative(t):
    A, dZ = (3 + normal(t, 4) + 1e-4 * normal(8, t, 4, seed=k) for k in (1, 2))
    product = float32_product(1e20 * A, 1e-22 * dZ)
    G = float64(product)
    moments = jax.jit(lambda *pair: readouts.moments_of(Product(*pair)))(*product[:2])
    assert relative_error(moments.variance, G.var(0, ddof=1)) < 1e-3
    deviation = jax.jit(lambda *pair: readouts.deviation_of(Product(*pair)))(*product[:2])
    assert relative_error(deviation, np.linalg.norm(G - G.mean(0))) < 1e-3
    g = np.asarray(G, np.float32)
    naive = (g**2).sum(0) - 8 * g.mean(0) ** 2
    assert relative_error(naive, ((G - G.mean(0)) ** 2).sum(0)) > 1e-1


def test_noise_of_identical_samples_is_nothing():
    loss, params, X, Y = MODELS["embedding"][0]()
    X, Y = np.repeat(X[:1], 7, 0), np.repeat(Y[:1], 7)
    _, out = per_sample.of(loss, ("grad", "noise_scale", "moments"), microbatch_size=3)(
        params, X, Y
    )
    assert 0 <= out["noise_scale"].simple < 1e-12
    pairs = zip(*map(jax.tree.leaves, (out["moments"].variance, out["grad"])), strict=True)
    for variance, mean in pairs:
        assert 0 <= variance.min() <= variance.max() < 1e-12 * jnp.abs(mean).max() ** 2


# --- half precision -------------------------------------------------------------------------------


def test_half_precision_activations_have_the_gradients_of_vmap_of_grad():
    def loss(params, x, y):
        x, W, V = (a.astype(jnp.bfloat16) for a in (x, params["W"], params["V"]))
        return cross_entropy((jnp.tanh(x @ W) @ V).sum(0).astype(jnp.float32), y)

    params, X = of_dtype(({"W": normal(6, 5), "V": normal(5, 3)}, TOKENS), jnp.float32)
    losses, grads = gradients(loss, params, X, Y)
    value, out = per_sample.of(loss, NAMES[:4])(params, X, Y)
    assert relative_error(value, losses.mean()) < 1e-6
    worst = errors(out, grads)
    assert max(worst.values()) < 4 * 2**-8, worst  # rounding of bfloat16
    assert per_sample.explain(loss, params, X[0], Y[0]).leaves[1].factored


def test_half_precision_is_summed_in_float32():
    def loss(params, x, y):
        return x @ params["W"] + params["b"]

    params = {"W": jnp.ones(2, jnp.bfloat16), "b": jnp.ones((), jnp.bfloat16)}
    X = jnp.ones((1000, 2), jnp.bfloat16)  # bfloat16 counts to 256
    value, out = per_sample.of(loss, ("grad", "moments"), microbatch_size=300)(params, X, X)
    assert (value, value.dtype) == (3, jnp.bfloat16)
    assert (out["grad"]["W"] == 1).all()
    assert (out["grad"]["b"], out["moments"].variance["b"]) == (1, 0)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(jnp.bfloat16)}


# --- how it is called -----------------------------------------------------------------------------


def test_data_are_any_pytrees_and_keys_are_the_samples_own():
    def loss(params, x, y):
        kept = jax.random.bernoulli(x["key"], 0.5, (7,))
        return cross_entropy(jnp.where(kept, x["pixels"] @ params["W"], 0) @ params["V"], x["Y"])

    params = of_dtype({"W": normal(5, 7), "V": normal(7, 3)}, jnp.float32)
    data = {"pixels": jnp.asarray(X), "Y": Y, "key": jax.random.split(jax.random.key(0), M)}
    _, grads = gradients(lambda p, x, y: loss(p, x, None), params, data, Y)
    _, out = per_sample.of(loss, ("grad",), microbatch_size=4)(params, data, None)
    assert max(errors(out, grads).values()) < 1e-5


def test_totals_jit_and_vmap_over_networks():
    loss, params, X, Y = MODELS["slices_of_stacks"][0]()
    names = ("per_sample_norms", "per_sample_sq_norms", "clipped_grad")
    f = per_sample.of(loss, names, max_norm=0.1, total=True)
    _, grads = gradients(loss, params, X, Y)
    norms = np.linalg.norm(np.concatenate(grads, axis=1), axis=1)
    both = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), of_dtype(params, jnp.float32))
    _, out = jax.jit(jax.vmap(f, (0, None, None)))(both, X, Y)
    assert relative_error(out["per_sample_norms"][0], norms) < 1e-5
    assert relative_error(out["per_sample_sq_norms"][0], norms**2) < 1e-5
    first = jax.tree.leaves(jax.tree.map(lambda g: g[0], out["clipped_grad"]))
    assert np.linalg.norm(np.concatenate([g.ravel() for g in first])) < 0.1 + 1e-6
    assert (norms > 0.1).all()


def test_norms_can_be_differentiated_once_more():
    loss, params, X, Y = MODELS["attention_of_einsums"][0]()
    params, X = of_dtype((params, X), jnp.float32)

    def penalty(norms):
        return jax.jit(jax.grad(lambda params: norms(params, X, Y).sum()))(params)

    def by_definition(*args):
        grads = jax.vmap(jax.grad(loss), (None, 0, 0))(*args)
        return jnp.stack([jnp.sqrt((g**2).sum((1, 2, 3)[: g.ndim - 1])) for g in grads.values()], 1)

    f = per_sample.of(loss, ("per_sample_norms",))
    ours, theirs = penalty(lambda *args: f(*args)[1]["per_sample_norms"]), penalty(by_definition)
    for name in params:
        assert relative_error(ours[name], theirs[name]) < 1e-5


def test_an_empty_parameter_has_empty_gradients_of_norm_0():
    def loss(params, x, y):
        return (x @ params["W"]).sum() + (x @ params["empty"]).sum()

    params = {"W": jnp.ones((5, 3)), "empty": jnp.ones((5, 0))}
    _, out = per_sample.of(loss, ("per_sample_norms", "moments", "gradient_gram"))(params, X, Y)
    assert out["moments"].variance["empty"].shape == (5, 0)
    assert (out["per_sample_norms"][:, 1] == 0).all()
    assert (out["per_sample_norms"][:, 0] > 0).all()


def test_readouts_of_your_own_see_A_and_dZ_of_each_product():
    def sizes(A, dZ):
        return {"A": A.shape, "largest": jnp.abs(dZ).max()}

    for name, shapes in (("slices_of_stacks", [(M, 5)] * 2), ("embedding", [(M, 4, 6)])):
        loss, params, X, Y = MODELS[name][0]()
        _, out = per_sample.of(loss, (sizes,))(params, X, Y)
        assert [tuple(map(int, reading["A"])) for reading in out["sizes"]] == shapes


# --- what explain says ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_explain_says_of_each_leaf_what_becomes_of_it_and_why(name):
    build, says = MODELS[name]
    loss, params, X, Y = build()
    told = per_sample.explain(loss, params, X[0], Y[0])
    assert [leaf.shape for leaf in told.leaves] == [p.shape for p in jax.tree.leaves(params)]
    for leaf in told.leaves:
        part = next(part for part in says if part in leaf.name)
        how = f"{'factored' if leaf.factored else 'materialised'} {leaf.why}"
        assert how.startswith(says[part]), leaf


def test_explain_counts_bytes_and_prints_a_table():
    loss, params, X, Y = MODELS["attention_of_einsums"][0]()
    told = per_sample.explain(loss, of_dtype(params, jnp.float32), X[0], Y[0], num_samples=128)
    assert [leaf.num_bytes for leaf in told.leaves] == [3 * 4 * 12 * 4, 4 * 12 * 4, 9 * 4]
    head, *rows = str(told).splitlines()
    assert head.split() == ["leaf", "shape", "gradients", "bytes,", "128", "samples", "why"]
    assert rows[2].split()[:6] == ["['read']", "(3,", "6)", "factored", "4,608", "A"]
    assert "1 sample " in repr(told._replace(num_samples=1))


# --- what is refused ------------------------------------------------------------------------------


def mean_of_squares(params, x, y):
    return ((x @ params["W"] - y) ** 2).mean()


FINE = {"loss": mean_of_squares, "names": ("grad",), "params": {"W": normal(5, 3)}, "X": X, "Y": Y}


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        (
            {"params": {"W": np.ones((5, 3), int)}},
            TypeError,
            r"params\['W'\] is int64, which has no",
        ),
        (
            {"params": {"W": np.ones((5, 3), bool)}},
            TypeError,
            r"params\['W'\] is bool, which has no",
        ),
        (
            {"params": {"W": "relu"}},
            TypeError,
            r"leaf of params must be an array, but .* is 'relu'",
        ),
        ({"params": {}}, ValueError, "params holds no array"),
        ({"loss": lambda p, x, y: x @ p["W"]}, ValueError, r"returns an array of shape \(3,\)"),
        (
            {"loss": lambda p, x, y: (p["W"].sum(), x)},
            TypeError,
            r"one number.*it returns PyTreeDef",
        ),
        ({"loss": lambda p, x, y: y}, TypeError, "must return a floating number .* got int"),
        (
            {"loss": lambda p, x, y: (x @ p["W"] - jax.lax.pmean(x @ p["W"], "batch")).sum()},
            ValueError,
            "must be of one sample, but it uses statistics of the batch.* axis name: batch",
        ),
        ({"X": X[:4]}, ValueError, "X holds 4 samples, but Y holds 6"),
        (
            {"X": {"a": X, "b": X[1:]}},
            ValueError,
            r"X\['a'\] holds 6 samples, but X\['b'\] holds 5",
        ),
        ({"X": 1.0}, ValueError, "X must be an array that leads with the .*, got 1.0"),
        ({"Y": list(Y)}, ValueError, r"Y\[0\] must be an array that leads"),
        ({"X": X[:0], "Y": Y[:0]}, ValueError, "X and Y hold no samples"),
        ({"X": None, "Y": None}, ValueError, "X and Y hold no array"),
        ({"X": X[:1], "Y": Y[:1], "names": ("moments",)}, ValueError, "at least 2 samples"),
        ({"X": X[:1], "Y": Y[:1], "names": ("noise_scale",)}, ValueError, "at least 2 samples"),
        ({"names": ("norms",)}, ValueError, "unknown instrument 'norms'"),
        ({"names": "grad"}, TypeError, "names must be a tuple of instruments, got 'grad'"),
        ({"names": ()}, ValueError, "names holds no instrument"),
        ({"names": (3,)}, TypeError, r"a name or a function \(A, dZ\), got 3"),
        ({"names": ("grad", "grad")}, ValueError, "named once, got 'grad' twice"),
        ({"names": ("clipped_grad",)}, ValueError, "'clipped_grad' needs max_norm"),
        ({"names": ("clipped_grad",), "max_norm": 0.0}, ValueError, "max_norm must be .* above 0"),
        ({"max_norm": 1.0}, ValueError, "max_norm is for 'clipped_grad'"),
        ({"microbatch_size": 0}, ValueError, "microbatch_size must be at least 1"),
        ({"names": (jnp.add,), "microbatch_size": 2}, ValueError, "microbatch_size cannot be comb"),
    ],
)
def test_is_refused_in_a_sentence(given, error, sentence):
    given = FINE | given
    loss, names, params, X, Y = (given.pop(name) for name in FINE)
    with pytest.raises(error, match=sentence):
        per_sample.of(loss, names, **given)(params, X, Y)


def test_explain_refuses_what_of_refuses():
    with pytest.raises(TypeError, match="which has no gradient"):
        per_sample.explain(mean_of_squares, {"W": np.ones((5, 3), int)}, X[0], Y[0])
