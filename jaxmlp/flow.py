"""Gradient flow: how large the derivatives are at each layer, as log10."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp.backprop import Step, check_hand, gradient, walk
from jaxmlp.numerics import norm
from jaxmlp.objective import Objective, check, divisor


class GradientFlow(NamedTuple):
    """Report magnitudes as log10, arrays of length L, layer 1 first.

    log10_delta: rms over the samples of the norm of each sample's own `dZ[l]`.
    log10_grad_W, log10_grad_b: Frobenius norm of the gradient of the mean loss; NaN without bias.
    log10_activation: rms over the samples of the norm of `A[l]`.
    """

    log10_delta: Float[Array, " L"]
    log10_grad_W: Float[Array, " L"]
    log10_grad_b: Float[Array, " L"]
    log10_activation: Float[Array, " L"]


def gradient_flow(J: Objective) -> Callable:
    """Return the function that measures the gradient flow of J's network by hand.

    Returns:
      `f(params, X, Y)` -> `GradientFlow`.

    Example:
      >>> import jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, *[32] * 20, 3), hidden="sigmoid"), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "lecun")
      >>> flow = gradient_flow(J)(params, jnp.ones((5, 2)), jnp.array([0, 1, 2, 2, 2]))
      >>> bool(flow.log10_delta[0] < flow.log10_delta[-1] - 10)  # it vanishes
      True
    """
    check_hand(J)

    def flow(params, X, Y):
        return _gradient_flow(J, *check(J, params, X, Y))

    return flow


@functools.partial(jax.jit, static_argnums=0)
def _gradient_flow(J: Objective, params, X, Y) -> GradientFlow:
    m = X.shape[0]
    measure = functools.partial(_magnitudes, m=m, divisor=divisor(J, m))
    readings = walk(J, params, X, Y, measure).readings
    return jax.tree.map(lambda *xs: jnp.concatenate([jnp.atleast_1d(x) for x in xs]), *readings)


def _magnitudes(step: Step, m: int, divisor: int) -> GradientFlow:
    grads = gradient(step, divisor)
    rms = jnp.sqrt(jnp.asarray(m, step.dZ.dtype))
    nothing = jnp.asarray(jnp.nan, step.dZ.dtype)
    return GradientFlow(
        jnp.log10(norm(step.dZ) / rms),
        jnp.log10(norm(grads.W)),
        nothing if grads.b is None else jnp.log10(norm(grads.b)),
        jnp.log10(norm(step.A) / rms),
    )
