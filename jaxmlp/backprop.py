"""Backpropagation by hand: one walk from the last layer to the first, many readouts.

The walk carries `dZ`, each sample's own derivative of its own loss (no 1/m inside). At layer l
the pair `(A[l-1], dZ[l])` gives every gradient quantity; a readout turns it into one. The steps
are those of the lecture (E3):

    dZ[L] = A[L] - Y                          where loss and output activation collapse
    dW[l] = A[l-1].T @ dZ[l] / m              db[l] = mean over samples of dZ[l]
    dA[l-1] = dZ[l] @ W[l].T                  dZ[l-1] = dA[l-1] * act'(Z[l-1])

Nothing here calls autodiff, so that comparing with `jax.grad` is a proof.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import activations, losses
from jaxmlp.activations import Activation
from jaxmlp.mlp import Segment, layer_forward, segments
from jaxmlp.objective import Objective, check, divisor, loss_inputs, mean_loss, require_objective
from jaxmlp.storage import Layer, count, is_stacked, slopes


class Step(NamedTuple):
    """What the walk knows at one layer; derivatives are each sample's own."""

    A_prev: Float[Array, "m d_in"]
    Z: Any  # as A; None in a stack whose derivative does without
    A: Float[Array, "m d_out"]
    dA: Float[Array, "m d_out"]
    dZ: Float[Array, "m d_out"]
    dslope: Any  # (m,), PReLU's; None elsewhere
    layer: Layer


class Walk(NamedTuple):
    """What one walk brings home: J, the output, the readings and the saved `A[l-1]`, both grouped
    like params, and each sample's own dJ/dX."""

    value: Float[Array, ""]
    A_L: Float[Array, "m K"]
    readings: tuple[Any, ...]
    inputs: tuple[Any, ...]
    dX: Float[Array, "m d_0"]


# --- the walk -------------------------------------------------------------------------------------


def walk(J: Objective, params, X, Y, readout: Callable[[Step], Any], keep_Z: bool = False) -> Walk:
    """Go forward, saving; then backward, reading out `(A[l-1], dZ[l])` at every layer.

    Args:
      readout: `readout(step)` -> any pytree of arrays; in a stack it runs inside a loop.
      keep_Z: save Z also where the derivative can do without it.
    """
    parts = segments(J.mlp, params)
    saved, A = [], X
    for part in parts:
        kept = _forward(part, A, keep_Z)
        saved.append(kept)
        A = kept.A
    Z = saved[-1].Z
    value = mean_loss(J, Z, A, Y)
    dA, dZ = output_derivatives(J, Z, A, Y)

    readings = []
    for part, kept in zip(reversed(parts), reversed(saved), strict=True):
        dA, reading = _backward(part, kept, dA, readout, dZ)
        readings.append(reading)
        dZ = None  # given at the output only
    inputs = [kept.A_prev for kept in saved]
    return Walk(
        value, A, _by_entry(params, parts, readings[::-1]), _by_entry(params, parts, inputs), dA
    )


def output_derivatives(J: Objective, Z, A, Y):
    """Return dA[L], and dZ[L] where it is not `dA * act'(Z)`: collapsed, or behind a softmax."""
    dtype = A.dtype
    Z, A, Y = loss_inputs(J, Z, A, Y)
    dA = J.loss.dA(A, Y)
    dZ = None
    if losses.collapses(J.loss, J.mlp.output):
        dZ = J.loss.dZ(Z, A, Y).astype(dtype)
    elif J.mlp.output == activations.softmax:
        dZ = activations.softmax_vjp(A, dA).astype(dtype)
    return dA.astype(dtype), dZ


class _Saved(NamedTuple):
    """What the way forward keeps of a segment: A_prev and Z (of all layers of a stack), and the
    segment's output A."""

    A_prev: Array
    Z: Array | None
    A: Array


def _forward(part: Segment, A, keep_Z: bool) -> _Saved:
    if part.count is None:
        return _Saved(A, *layer_forward(part.activation, part.layer, A))
    keep_Z = (
        keep_Z or activations.derivative_needs_z(part.activation) or part.layer.slope is not None
    )

    def body(A_prev, layer):
        Z, A = layer_forward(part.activation, layer, A_prev)
        return A, (A_prev, Z if keep_Z else None)

    A, (A_prev, Z) = jax.lax.scan(body, A, part.layer)
    return _Saved(A_prev, Z, A)


def _backward(part: Segment, kept, dA, readout, dZ=None):
    """Return dA of the layer below and the reading; for a stack one reading with a leading n."""
    A_prev, Z, A = kept
    if part.count is None:
        step = _step(part.activation, part.layer, A_prev, Z, A, dA, dZ)
        return step.dZ @ part.layer.W.T, readout(step)

    def body(carry, kept):
        dA, A = carry
        layer, A_prev, Z = kept
        step = _step(part.activation, layer, A_prev, Z, A, dA)
        return (step.dZ @ layer.W.T, A_prev), readout(step)

    (dA, _), readings = jax.lax.scan(body, (dA, A), (part.layer, A_prev, Z), reverse=True)
    return dA, readings


def _step(act: Activation, layer: Layer, A_prev, Z, A, dA, dZ=None) -> Step:
    """Complete the Step of one layer: dZ = dA * act'(Z), and PReLU's dA . min(Z, 0)."""
    slope = slopes(layer)
    if dZ is None:
        assert act.derivative is not None  # check_hand has refused it
        dZ = dA * act.derivative(Z, A, *slope)
    dslope = jnp.sum(dA * jnp.minimum(Z, 0), axis=1) if slope else None
    return Step(A_prev, Z, A, dA, dZ, dslope, layer)


def _by_entry(params, parts: list[Segment], readings: list) -> tuple:
    """Group the readings of the segments like params: one for each of its entries."""
    entries: list[list] = [[] for _ in params]
    for part, reading in zip(parts, readings, strict=True):
        lone = is_stacked(params[part.entry]) and part.count is None
        entries[part.entry].append(jax.tree.map(lambda x: x[None], reading) if lone else reading)
    return tuple(group[0] if len(group) == 1 else _joined(group) for group in entries)


def _joined(group: list):
    """One reading of the runs of a stacked entry."""
    if len({str(jax.tree.map(lambda x: x.shape[1:], reading)) for reading in group}) > 1:
        raise ValueError(
            "a readout must return equal shapes for all layers of a stacked run, got "
            + " and ".join(str(jax.tree.map(lambda x: x.shape[1:], r)) for r in group)
        )
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *group)


# --- the gradient ---------------------------------------------------------------------------------


def gradient(step: Step, divisor: int) -> Layer:
    """Read the layer's gradient of the mean loss: `dW = A.T @ dZ / m`, `db = mean(dZ)`."""
    total = summed(step.A_prev, step.dZ, step.dslope, step.layer)
    return jax.tree.map(lambda x: (x / divisor).astype(step.dZ.dtype), total)


def summed(A_prev, dZ, dslope, layer: Layer) -> Layer:
    """Sum the samples' own gradients of one layer, half precision in float32."""
    total = jnp.promote_types(dZ.dtype, jnp.float32)
    dW = jnp.matmul(A_prev.T, dZ, preferred_element_type=total)
    db = None if layer.b is None else jnp.sum(dZ, axis=0, dtype=total)
    ds = None if layer.slope is None else jnp.sum(dslope, dtype=total)
    return Layer(dW, db, ds)


def grad(J: Objective, argnums: int | tuple[int, ...] = 0) -> Callable:
    """Return the function that computes the gradient of J by hand, as `jax.grad(J, argnums)`.

    Args:
      J: the objective.
      argnums: 0 for the parameters, 1 for X, or a tuple of both.

    Returns:
      `f(params, X, Y)` -> for 0 the gradient of the mean loss, in the pytree and dtype of params;
      for 1 `dJ/dX = dZ[1] @ W[1].T / m`, shape (m, d_0); a tuple of them for a tuple.

    Example:
      >>> import jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3)), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "he")
      >>> grads = grad(J)(params, jnp.ones((5, 2)), jnp.arange(5) % 3)
      >>> grads[1].b.shape
      (3,)
    """
    both = value_and_grad(J, argnums)

    def hand_grad(params, X, Y):
        return both(params, X, Y)[1]

    return hand_grad


def value_and_grad(J: Objective, argnums: int | tuple[int, ...] = 0) -> Callable:
    """Return the function for J and its gradient by hand, as `jax.value_and_grad(J, argnums)`.

    Args, errors: see `grad` and `Objective`.

    Returns:
      `f(params, X, Y)` -> `(value, grad)`.
    """
    check_hand(J)
    if argnums not in (0, 1, (0, 1), (1, 0), (0,), (1,)) or isinstance(argnums, bool | float):
        raise ValueError(f"argnums must be 0 (params), 1 (X) or (0, 1), got {argnums!r}")

    def hand_value_and_grad(params, X, Y):
        return _value_and_grad(J, argnums, *check(J, params, X, Y))

    return hand_value_and_grad


@functools.partial(jax.jit, static_argnums=(0, 1))
def _value_and_grad(J: Objective, argnums, params, X, Y):
    value, _, grads, dX = value_and_gradient(J, params, X, Y)
    if isinstance(argnums, tuple):
        return value, tuple((grads, dX)[i] for i in argnums)
    return value, (grads, dX)[argnums]


def value_and_gradient(J: Objective, params, X, Y):
    """Return `(J, A[L], dJ/dparams, dJ/dX)` of one walk; unchecked, for use inside jit."""
    m = divisor(J, X.shape[0])
    seen = walk(J, params, X, Y, functools.partial(gradient, divisor=m))
    return seen.value, seen.A_L, like(params, seen.readings), seen.dX / m


def like(params, readings: tuple):
    """Return the readings in the container that params came in."""
    return jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(readings))


def check_hand(J: Any) -> None:
    """Refuse what is no Objective, and activations without a hand-written derivative."""
    require_objective(J)
    for act in J.mlp.activations:
        if act.derivative is None and act != activations.softmax:
            raise ValueError(
                f"activation {act.name!r} has no derivative: the hand-written pass needs "
                "Activation(name, fn, derivative) with derivative(Z, A) -> dA/dZ"
            )


# --- every intermediate ---------------------------------------------------------------------------


class LayerTrace(NamedTuple):
    """Hold every intermediate of one layer (E2, E3); derivatives are of the mean loss.

    A_prev `(m, d_in)`; Z, A, dA, dZ `(m, d_out)`; dW `(d_in, d_out)`; db `(d_out,)` or None;
    dslope `()` or None.
    """

    A_prev: Array
    Z: Array
    A: Array
    dA: Array
    dZ: Array
    dW: Array
    db: Array | None
    dslope: Array | None = None


def trace(J: Objective) -> Callable:
    """Return the function that lists every intermediate of the walk, layer 1 first.

    Returns:
      `f(params, X, Y)` -> list of L `LayerTrace`, whatever the storage. At the output `dA` is
      dJ/dA, also where `dZ` came from the collapsed form: `-Y/A/m` for the cross-entropy.

    Example:
      >>> import jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3)), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "he")
      >>> [t.dZ.shape for t in trace(J)(params, jnp.ones((5, 2)), jnp.arange(5) % 3)]
      [(5, 4), (5, 3)]
    """
    check_hand(J)

    def hand_trace(params, X, Y):
        entries = _trace(J, *check(J, params, X, Y))
        return each_layer(params, entries)

    return hand_trace


def each_layer(params, entries: tuple) -> list:
    """Split what is grouped like params into one for each of the layers 1..L."""
    return [
        entry if not is_stacked(layer) else jax.tree.map(lambda x: x[i], entry)  # noqa: B023
        for layer, entry in zip(params, entries, strict=True)
        for i in range(count(layer))
    ]


@functools.partial(jax.jit, static_argnums=0)
def _trace(J: Objective, params, X, Y):
    m = divisor(J, X.shape[0])

    def everything(step: Step) -> LayerTrace:
        return LayerTrace(step.A_prev, step.Z, step.A, step.dA / m, step.dZ / m, *gradient(step, m))

    return walk(J, params, X, Y, everything, keep_Z=True).readings
