"""The activations of the lecture (its formulas D1 to D12), softmax's Jacobian (B2) included."""

import functools
import sys

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import named
from jaxmlp.activations.description import Activation
from jaxmlp.checks import finite_number

# Asymptotes: the slopes for z -> -inf and z -> +inf
FLAT, GATE = (0.0, 0.0), (0.0, 1.0)
EXP_ENDS = 40.0  # beyond it z e^-z is below float64's rounding of 1: 40 e^-40 is 1.7e-16


def linear(a: float = 1.0, b: float = 0.0) -> Activation:
    """Return `a z + b`, derivative `a` (D1); the identity by default."""
    return _linear(finite_number("a", a), finite_number("b", b))


@functools.cache
def _linear(a: float, b: float) -> Activation:
    if (a, b) == (1.0, 0.0):
        fn, derivative = lambda Z: Z, lambda Z, A: jnp.ones_like(A)
    else:
        fn, derivative = lambda Z: a * Z + b, lambda Z, A: jnp.full_like(A, a)
    # Beyond |b/a| 2^53, b is below float64's rounding of a z (53 bits). With a = 0, fn is constant
    threshold = min(abs(b / a) * 2.0**53, sys.float_info.max) if a else 0.0
    return Activation(
        named.label(linear, a, b),
        fn,
        derivative,
        homogeneous=b == 0.0,
        asymptote=(a, a),
        threshold=threshold,
    )


# D2, D3: the derivative is 0 everywhere, also at the jump, so nothing below them learns.
step = Activation(
    "step",
    lambda Z: jnp.heaviside(Z, 0.5),
    lambda Z, A: jnp.zeros_like(A),
    kinks=(0,),
    asymptote=FLAT,
)
sign = Activation("sign", jnp.sign, lambda Z, A: jnp.zeros_like(A), kinks=(0,), asymptote=FLAT)

# D4
piecewise_linear = Activation(
    "piecewise_linear",
    lambda Z: jnp.where(Z <= -0.5, 0, jnp.where(Z >= 0.5, 1, Z + 0.5)).astype(Z.dtype),
    lambda Z, A: (jnp.abs(Z) < 0.5).astype(Z.dtype),
    kinks=(-0.5, 0.5),
    asymptote=FLAT,
    threshold=0.5,
)

# D5: the derivative is at most 1/4, at z = 0.
sigmoid = Activation(
    "sigmoid", jax.nn.sigmoid, lambda Z, A: A * (1 - A), asymptote=FLAT, threshold=EXP_ENDS
)

# D6: 1 - A^2 is written as a product, because the difference cancels near |A| = 1.
tanh = Activation(
    "tanh", jnp.tanh, lambda Z, A: (1 - A) * (1 + A), asymptote=FLAT, threshold=EXP_ENDS / 2
)


def relu(threshold: float = 0.0) -> Activation:
    """Return `z` if `z > T` else 0, with derivative 1 or 0 (D7). At `z = T` both are 0."""
    return _relu(finite_number("threshold", threshold))


@functools.cache
def _relu(T: float) -> Activation:
    if T == 0.0:
        gate = lambda Z, A: (A > 0).astype(A.dtype)  # noqa: E731
        return Activation("relu", jax.nn.relu, gate, (0,), homogeneous=True, asymptote=GATE)
    return Activation(
        named.label(relu, T),
        lambda Z: jnp.where(Z > T, Z, 0),
        lambda Z, A: (Z > T).astype(Z.dtype),
        kinks=(T,),
        asymptote=GATE,
        threshold=abs(T),
    )


def leaky_relu(slope: float = 0.01, threshold: float = 0.0) -> Activation:
    """Return `z` if `z >= T` else `s z`, with derivative 1 or s (D8).

    The notes write `z > T`; `jax.nn.leaky_relu` and this function write `z >= T`. With T = 0 the
    functions are the same, and only the derivative at exactly 0 differs: here it is 1.
    """
    return _leaky_relu(finite_number("slope", slope), finite_number("threshold", threshold))


@functools.cache
def _leaky_relu(s: float, T: float) -> Activation:
    # With T = 0 and s > 0, A has the sign of Z, so the derivative does not need Z.
    upper = (lambda Z, A: A >= 0) if T == 0.0 and s > 0 else (lambda Z, A: Z >= T)
    return Activation(
        named.label(leaky_relu, s, T),
        lambda Z: jnp.where(Z >= T, Z, s * Z),
        lambda Z, A: jnp.where(upper(Z, A), 1, s).astype(A.dtype),
        kinks=(T,),
        homogeneous=T == 0.0,
        asymptote=(s, 1.0),
        threshold=abs(T),
    )


# D9: the derivative in z is 1 or the slope; that in the slope is min(z, 0), which
# `layer.backward` sums over the units. 0.25 is the start of He et al. 2015, "Delving deep into
# rectifiers".
prelu = Activation(
    "prelu",
    lambda Z, slope=0.25: jnp.where(Z > 0, Z, slope * Z),
    lambda Z, A, slope=0.25: jnp.where(Z > 0, 1, slope).astype(Z.dtype),
    kinks=(0,),
    homogeneous=True,
    slope=0.25,
)


def elu(alpha: float = 1.0) -> Activation:
    """Return `alpha (e^z - 1)` below 0 and `z` above, with derivative `A + alpha` or 1 (D10)."""
    return _elu(finite_number("alpha", alpha))


@functools.cache
def _elu(alpha: float) -> Activation:
    # With alpha < 0, A is positive on both sides of 0, so the gate must read Z.
    gate = (lambda Z, A: A > 0) if alpha > 0 else (lambda Z, A: Z > 0)
    return Activation(
        named.label(elu, alpha),
        lambda Z: jax.nn.elu(Z, alpha),
        lambda Z, A: jnp.where(gate(Z, A), 1, A + alpha),
        kinks=() if alpha == 1.0 else (0,),
        asymptote=GATE,
        threshold=EXP_ENDS,
    )


# D11: the derivative is sigmoid(z) = 1 - e^-A. expm1 keeps its digits when A is tiny.
softplus = Activation(
    "softplus", jax.nn.softplus, lambda Z, A: -jnp.expm1(-A), asymptote=GATE, threshold=EXP_ENDS
)

# D12: it is not elementwise, so its derivative is the product below. For output layers only.
softmax = Activation("softmax", jax.nn.softmax)


def softmax_vjp(A: Float[Array, "m K"], dA: Float[Array, "m K"]) -> Float[Array, "m K"]:
    """Return dZ = dA . J for the softmax Jacobian J_ik = a_i (delta_ik - a_k) of each sample (B2).

    The product `a * (dA - sum(a dA))` needs no (K, K) matrix.
    """
    return A * (dA - jnp.sum(A * dA, axis=1, keepdims=True))
