"""Activations: each function with its hand-derived derivative beside it.

`derivative(Z, A)` is written in the saved output `A = fn(Z)` if `Z` is then not needed.
At a kink every derivative is what JAX's autodiff of `fn` gives:

| activation | kink | derivative there |
|---|---|---|
| relu, squared_relu, prelu | 0 | the lower branch (0, 0, the slope), as `jax.nn.relu` |
| leaky_relu | 0 | the upper branch (1), as `jax.nn.leaky_relu` |
| elu, selu | 0 | the lower branch (alpha; scale * alpha), as `jax.nn.elu` and `jax.nn.selu` |
| hard_tanh | -1, 1 | 1, as `jax.nn.hard_tanh` |
| piecewise_linear | -1/2, 1/2 | 0 |
| step, sign | 0 | 0, as everywhere |
| softsign | none | smooth: 1 at 0 |
"""

from jaxmlp.activations.beyond import (
    erf,
    gelu,
    gelu_tanh,
    hard_tanh,
    mish,
    selu,
    silu,
    sin,
    softsign,
    squared_relu,
)
from jaxmlp.activations.by_name import get, names
from jaxmlp.activations.checking import check_derivative
from jaxmlp.activations.description import Activation, derivative_needs_z
from jaxmlp.activations.lecture import (
    elu,
    leaky_relu,
    linear,
    piecewise_linear,
    prelu,
    relu,
    sigmoid,
    sign,
    softmax,
    softmax_vjp,
    softplus,
    step,
    tanh,
)

__all__ = [
    "Activation",
    "check_derivative",
    "derivative_needs_z",
    "elu",
    "erf",
    "gelu",
    "gelu_tanh",
    "get",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "mish",
    "names",
    "piecewise_linear",
    "prelu",
    "relu",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softmax",
    "softmax_vjp",
    "softplus",
    "softsign",
    "squared_relu",
    "step",
    "tanh",
]
