"""Gradient flow at any depth: log10 magnitudes of every layer, measured by a walk on Scaled arrays.

`magnitudes` holds the rule of the walk. This module starts it, and puts its readings together.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmlp import activations, targets, walk
from jaxmlp.backprop import check_hand, output_derivatives
from jaxmlp.flow_report import FlowStatus, GradientFlow
from jaxmlp.layer import Params
from jaxmlp.magnitudes import BackwardReading, ForwardReading, measured, rule, scaled_input
from jaxmlp.numerics import split_norm
from jaxmlp.objective import Objective, check, divisor
from jaxmlp.scaled import Scaled, at, log2_of_largest, log10, scaled, times_power
from jaxmlp.storage import canonical


def gradient_flow(J: Objective, *, statistics: bool = True, recompute: bool = False) -> Callable:
    """Return the function that measures the gradient flow of J's network by hand, at any depth.

    Half-precision parameters are measured in float32.

    Args:
      J: the objective.
      statistics: whether to measure correlation, saturated and dead too; they are NaN otherwise.
      recompute: of n stacked layers keep the activations of about sqrt(n), and compute the others
        again on the way back. The numbers are the same; memory is saved for one more forward pass.

    Returns:
      `f(params, X, Y)` -> `GradientFlow`.

    Example:
      >>> import jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, *[32] * 500, 3), hidden="sigmoid"), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "lecun")
      >>> flow = gradient_flow(J)(params, jnp.ones((5, 2)), jnp.array([0, 1, 2, 2, 2]))
      >>> bool(-330 < flow.log10_delta[0] < -300)  # float64 itself ends at -308
      True
    """
    check_hand(J)

    def flow(params: Params, X: ArrayLike, Y: ArrayLike) -> GradientFlow:
        return _gradient_flow(J, statistics, recompute, *check(J, params, X, Y))

    return flow


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _gradient_flow(J: Objective, statistics: bool, recompute: bool, params, X, Y) -> GradientFlow:
    # Neighbours of equal shape become a stack, because a loop compiles as fast as one layer
    runs = dataclasses.replace(J.mlp, stack_from=1).runs
    params = [measured(_wide(layer)) for layer in canonical(runs, params)]
    magnitudes = rule(divisor(J, len(X)), statistics)
    begin: Any = (scaled_input(_wide(X)), None)
    (A, S), saved, ahead = walk.forward(magnitudes, runs, params, begin, recompute=recompute)
    start = output_derivative(J, S, A, Y)
    _, back = walk.backward(magnitudes, runs, params, saved, start, recompute=recompute)
    return flow_of(len(X), walk.in_line(runs, ahead), walk.in_line(runs, back))


def _wide(tree: Any) -> Any:
    """Return float32 for half precision."""
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)


def output_derivative(J: Objective, S: Scaled, A: Scaled, Y):
    """Return `(dA, dS, A)` of the output layer, computed so that no number overflows."""
    dtype = A.mantissa.dtype
    if J.loss.degree is not None and J.mlp.output != activations.softmax:
        # dA(c A, c Y) = c^degree dA(A, Y): bring A and Y to one exponent
        rows = targets.targets_as_rows(J.loss, Y, A.mantissa.shape[1], dtype)
        common = jnp.maximum(A.log2, log2_of_largest(rows))
        derivatives = J.loss.dA(at(A, common), times_power(rows, -common)), None
        k = common * J.loss.degree
    else:
        # The logits of a sigmoid may become infinite here. It and its loss are right at infinity
        derivatives = output_derivatives(J, at(S, jnp.zeros((), jnp.int32)), A.mantissa, Y)
        k = 0
    found = []
    for x in derivatives:
        if x is not None:
            r, x_log2 = split_norm(x)
            cause = jnp.where(r == 0, FlowStatus.LOSS_GRADIENT_ZERO, FlowStatus.OK)
            x = scaled(x, k, x_log2, cause)
        found.append(x)
    return (*found, A)


def flow_of(m: int, ahead: ForwardReading, back: BackwardReading, xp: Any = jnp) -> GradientFlow:
    """Return the flow from the readings of all layers, with a status for each layer.

    m: the number of samples. xp: numpy for readings that are no longer on the device.
    """
    # Norms over all samples become root mean squares over the samples
    rms = ahead.r.dtype.type(0.5 * math.log10(m))
    activation = log10(ahead.r, ahead.k, xp) - rms
    of_dS, grad_W, grad_b = log10(back.r, back.k, xp).T
    stream = of_dS - rms
    delta = stream + xp.log10(back.alpha)
    # The status: numbers that are no magnitudes count more than the cause of a zero
    magnitudes = xp.stack([stream, grad_W, activation])
    broken = xp.any(xp.isnan(magnitudes) | (magnitudes == xp.inf), axis=0)
    status = xp.where(broken, FlowStatus.NOT_FINITE, back.cause)
    # One layer above the range makes all numbers meaningless
    above = xp.any(ahead.above_range)
    status = xp.where(above, FlowStatus.FORWARD_ABOVE_RANGE, status).astype(xp.int8)
    delta, stream, grad_W, grad_b, activation = (
        xp.where(above, xp.nan, x) for x in (delta, stream, grad_W, grad_b, activation)
    )
    correlation, saturated, dead = ahead.statistics.T
    return GradientFlow(
        delta, grad_W, grad_b, activation, correlation, saturated, dead, status, stream
    )
