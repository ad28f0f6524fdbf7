"""Activations beyond the lecture, each with its source."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.scipy.special import erf as _erf
from jax.scipy.special import erfc as _erfc

from jaxmlp.activations.description import Activation
from jaxmlp.activations.lecture import EXP_ENDS, FLAT, GATE

# Klambauer et al. 2017, "Self-normalizing neural networks"
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
selu = Activation(
    "selu",
    jax.nn.selu,
    lambda Z, A: jnp.where(A > 0, _SELU_SCALE, A + _SELU_SCALE * _SELU_ALPHA).astype(A.dtype),
    kinks=(0,),
    asymptote=(0.0, _SELU_SCALE),
    threshold=EXP_ENDS,
)


# Hendrycks & Gimpel 2016, "Gaussian error linear units": z P(z), derivative P(z) + z p(z), with P
# and p the distribution function and density of a standard normal variable. gelu_tanh replaces
# P(z) by (1 + tanh(u)) / 2 with u = sqrt(2/pi) (z + 0.044715 z^3); the number is theirs.
_GELU_ENDS = 9.0  # beyond it z e^(-z^2 / 2) is below the rounding of 1: 9 e^-40.5 is 2e-17


def _d_gelu(Z, A):
    P, p = _erfc(-Z / math.sqrt(2)) / 2, jnp.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi)
    return P + Z * p


gelu = Activation(
    "gelu",
    functools.partial(jax.nn.gelu, approximate=False),
    _d_gelu,
    asymptote=GATE,
    threshold=_GELU_ENDS,
)


def _tanh_u(Z):
    """Return tanh(u) and the derivative of u.

    z is cut at 10, before z^3 can leave the range. There tanh(u) is 1 to rounding.
    """
    z, c = jnp.clip(Z, -10, 10), math.sqrt(2 / math.pi)
    return jnp.tanh(c * (z + 0.044715 * z**3)), c * (1 + 3 * 0.044715 * z**2)


def _d_gelu_tanh(Z, A):
    t, du = _tanh_u(Z)
    return (1 + t) / 2 + Z * ((1 - t) * (1 + t) / 2 * du)


gelu_tanh = Activation(
    "gelu_tanh",
    lambda Z: Z * (0.5 * (1 + _tanh_u(Z)[0])),
    _d_gelu_tanh,
    asymptote=GATE,
    threshold=_GELU_ENDS,
)


def _d_silu(Z, A):
    s = jax.nn.sigmoid(Z)
    return s + A * (1 - s)


silu = Activation("silu", jax.nn.silu, _d_silu, asymptote=GATE, threshold=EXP_ENDS)

erf = Activation(
    "erf",
    _erf,
    lambda Z, A: 2 / math.sqrt(math.pi) * jnp.exp(-(Z**2)),
    asymptote=FLAT,
    threshold=_GELU_ENDS,  # e^(-z^2) ends before it
)
sin = Activation("sin", jnp.sin, lambda Z, A: jnp.cos(Z))
# The derivative is not written (1 - |A|)^2: that has lost half its digits at z = 1e4 in float32.
# softsign has no asymptote here, because its derivative falls only as z^-2.
softsign = Activation("softsign", jax.nn.soft_sign, lambda Z, A: (1 / (1 + jnp.abs(Z))) ** 2)
hard_tanh = Activation(
    "hard_tanh",
    jax.nn.hard_tanh,
    lambda Z, A: (jnp.abs(Z) <= 1).astype(Z.dtype),
    kinks=(-1, 1),
    asymptote=FLAT,
    threshold=1.0,
)


def _d_mish(Z, A):
    t = jnp.tanh(jax.nn.softplus(Z))
    return t + Z * (1 - t) * (1 + t) * jax.nn.sigmoid(Z)


mish = Activation("mish", jax.nn.mish, _d_mish, asymptote=GATE, threshold=EXP_ENDS)
squared_relu = Activation(
    "squared_relu", lambda Z: jax.nn.relu(Z) ** 2, lambda Z, A: 2 * jax.nn.relu(Z)
)
