"""Models without jaxmlp: the loss of one sample, and `init`; four are for 8 x 8 digits."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

try:
    import equinox
    import flax.linen
    from flax import nnx
except ModuleNotFoundError:
    raise SystemExit("this experiment needs more: pip install -e '.[interop]'") from None

CLASSES = 10


class Model(NamedTuple):
    """Hold a model: the loss of one sample, `loss(params, x, y)`, and `init(key) -> params`."""

    name: str
    loss: Callable
    init: Callable


def all_models(width: int) -> list[Model]:
    """Return every model."""
    builders = (equinox_mlp, flax_layer_norm, flax_attention, plain_convolution)
    return [build(width) for build in builders]


def cross_entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y)


def equinox_mlp(width: int) -> Model:
    """Return an Equinox MLP 64-width-width-10. Its arrays are params, the rest is static."""

    def parts(key):
        mlp = equinox.nn.MLP(64, CLASSES, width, 2, key=key)
        return equinox.partition(mlp, equinox.is_inexact_array)

    static = parts(jax.random.key(0))[1]

    def loss(params, x, y):
        return cross_entropy(equinox.combine(params, static)(x), y)

    return Model("MLP (Equinox)", loss, lambda key: parts(key)[0])


class LayerNormNetwork(nnx.Module):
    """64-width-width-10 with a layer norm before each ReLU."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.first = nnx.Linear(64, width, rngs=rngs)
        self.second = nnx.Linear(width, width, rngs=rngs)
        self.output = nnx.Linear(width, CLASSES, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        for linear, norm in zip((self.first, self.second), self.norms, strict=True):
            x = nnx.relu(norm(linear(x)))
        return self.output(x)


def flax_layer_norm(width: int) -> Model:
    def parts(key):
        return nnx.split(LayerNormNetwork(width, nnx.Rngs(key)))

    graph = parts(jax.random.key(0))[0]

    def loss(params, x, y):
        return cross_entropy(nnx.merge(graph, params)(x), y)

    return Model("layer norm (Flax NNX)", loss, lambda key: parts(key)[1])


class AttentionBlock(flax.linen.Module):
    """Take the rows of a digit as 8 tokens: one block of attention, one hidden layer."""

    width: int

    @flax.linen.compact
    def __call__(self, x):
        place = self.param("place", flax.linen.initializers.normal(0.1), (8, self.width))
        tokens = flax.linen.Dense(self.width)(x.reshape(8, 8)) + place
        tokens += flax.linen.MultiHeadDotProductAttention(num_heads=4)(
            flax.linen.LayerNorm()(tokens)
        )
        hidden = flax.linen.gelu(flax.linen.Dense(2 * self.width)(flax.linen.LayerNorm()(tokens)))
        tokens += flax.linen.Dense(self.width)(hidden)
        return flax.linen.Dense(CLASSES)(tokens.mean(0))


def flax_attention(width: int) -> Model:
    block = AttentionBlock(width)

    def loss(params, x, y):
        return cross_entropy(block.apply(params, x), y)

    return Model("attention (Flax)", loss, lambda key: block.init(key, jnp.zeros(64)))


def plain_convolution(width: int) -> Model:
    """Return 16 filters of 3 x 3 and a hidden layer; the filters' gradients are materialised."""
    he = jax.nn.initializers.he_normal()

    def init(key):
        keys = jax.random.split(key, 3)
        return {
            "filters": he(keys[0], (3, 3, 1, 16)).transpose(3, 2, 0, 1),
            "W1": he(keys[1], (16 * 6 * 6, width)),
            "b1": jnp.zeros(width),
            "W2": he(keys[2], (width, CLASSES)),
            "b2": jnp.zeros(CLASSES),
        }

    def loss(params, x, y):
        x = jax.lax.conv(x.reshape(1, 1, 8, 8), params["filters"], (1, 1), "VALID")
        x = jax.nn.relu(jax.nn.relu(x).ravel() @ params["W1"] + params["b1"])
        return cross_entropy(x @ params["W2"] + params["b2"], y)

    return Model("convolution (functions)", loss, init)


def dense(sizes: tuple[int, ...], name: str) -> Model:
    """Return a tanh network in plain functions."""
    shapes = list(itertools.pairwise(sizes))
    draw = jax.nn.initializers.lecun_normal()

    def init(key):
        keys = jax.random.split(key, len(shapes))
        return [
            (draw(k, shape), jnp.zeros(shape[1])) for k, shape in zip(keys, shapes, strict=True)
        ]

    def loss(params, x, y):
        for W, b in params[:-1]:
            x = jnp.tanh(x @ W + b)
        W, b = params[-1]
        return cross_entropy(x @ W + b, y)

    return Model(name, loss, init)
