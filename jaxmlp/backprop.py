"""Backpropagation by hand: the gradient, as a rule for the walk over the layers.

Each sample's own derivative of its own loss travels back, with no 1/m inside. At layer l the pair
`(A[l-1], dZ[l])` is enough for every gradient quantity. A readout computes one from it. The steps
are those of the lecture (E3):

    dZ[L] = A[L] - Y                          if loss and output activation collapse
    dW[l] = A[l-1].T @ dZ[l] / m              db[l] = mean over samples of dZ[l]
    dA[l-1] = dZ[l] @ W[l].T                  dZ[l-1] = dA[l-1] * act'(Z[l-1])

`layer.backward` does these steps for one layer, and `walk` loops over the layers. Nothing here
calls autodiff, so agreement with `jax.grad` proves the gradient.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxmlp import activations, losses, report, walk
from jaxmlp import layer as arithmetic
from jaxmlp.layer import Layer, Pair, Params, Saved, Spec
from jaxmlp.loss_checking import check_loss
from jaxmlp.mlp import MLP
from jaxmlp.objective import Objective, check, divisor, loss_inputs, mean_loss, require_objective
from jaxmlp.storage import canonical, counts_of, grouped_like, in_container_of, regroup
from jaxmlp.walk import Rule

# --- the rule and the walk ------------------------------------------------------------------------


def rule(readout: Callable[[Pair, Layer], Any]) -> Rule:
    """Return the rule whose reading is `readout(pair, layer)` at every layer on the way back."""

    def forward(spec: Spec, layer: Layer, carry):
        passed = arithmetic.forward(spec, layer, *carry)
        return (passed.A, passed.S), arithmetic.saved(spec, carry[0], passed), None

    def backward(spec: Spec, layer: Layer, saved: Saved, carry):
        dA, dS, A = carry
        back = arithmetic.backward(spec, layer, saved, A, dA, dS)
        return handed_down(spec, back), readout(back.pair, layer)

    return Rule(forward, backward)


def handed_down(spec: Spec, back: arithmetic.Backward):
    """Return what travels on to the layer below: `(dA, dS, A)`, dS only through a residual."""
    return back.dA, (None if spec.residual is None else back.dS), back.pair.A


class Walked(NamedTuple):
    """Hold the result of one walk.

    value: J. A_L: the output. readings, saved: one entry for each run (a plain layer or a stack).
    dX: each sample's own derivative in its input x.
    """

    value: Float[Array, ""]
    A_L: Float[Array, "m K"]
    readings: list
    saved: list
    dX: Float[Array, "m d_0"]


def walked(
    J: Objective,
    params: Params,
    X: Float[Array, "m d_0"],
    Y: Array,
    readout: Callable,
    *,
    recompute: bool = False,
) -> Walked:
    """Walk forwards and back and read every layer. Nothing is checked.

    params: stored as `mlp.init` stores them. readout: `readout(pair, layer)`.
    """
    lecture, runs = rule(readout), J.mlp.runs
    (A, Z), saved, _ = walk.forward(lecture, runs, params, (X, None), recompute=recompute)
    start = (*output_derivatives(J, Z, A, Y), A)
    (dX, _, _), readings = walk.backward(lecture, runs, params, saved, start, recompute=recompute)
    return Walked(mean_loss(J, Z, A, Y), A, readings, saved, dX)


def output_derivatives(J: Objective, Z, A, Y):
    """Return `(dA[L], None)`, or `(None, dZ[L])` if dZ is computed without dA * act'.

    That is so in two cases. If loss and output activation collapse, one formula gives dZ and avoids
    0/0. Softmax is not elementwise, so its Jacobian takes the place of act'. The pair is
    `(dA, dS)`, because the output layer is plain and its S is Z.
    """
    dtype = A.dtype
    Z, A, Y = loss_inputs(J, Z, A, Y)
    if losses.collapses(J.loss, J.mlp.output):
        return None, J.loss.dZ(Z, A, Y).astype(dtype)
    dA = J.loss.dA(A, Y)
    if J.mlp.output == activations.softmax:
        return None, activations.softmax_vjp(A, dA).astype(dtype)
    return dA.astype(dtype), None


# --- the gradient ---------------------------------------------------------------------------------


def gradient(pair: Pair, divisor: int) -> Layer:
    """Return the layer's gradient of the mean loss: `dW = A.T @ dZ / m`, `db = mean(dZ)`."""
    return jax.tree.map(lambda total: (total / divisor).astype(pair.dZ.dtype), summed(*pair))


def summed(A: Float[Array, "m d_in"], dZ: Float[Array, "m d_out"], direct: Mapping) -> Layer:
    """Return the sum of the samples' own gradients of one layer; half precision adds in float32."""
    wide = jnp.promote_types(dZ.dtype, jnp.float32)
    dW = jnp.matmul(A.T, dZ, preferred_element_type=wide)
    return Layer(dW, **{name: jnp.sum(each, axis=0, dtype=wide) for name, each in direct.items()})


def grad(J: Objective, argnums: int | tuple[int, ...] = 0) -> Callable:
    """Return the function that computes the gradient of J by hand, like `jax.grad(J, argnums)`.

    Args:
      J: the objective.
      argnums: 0 for the parameters, 1 for X, or a tuple of both.

    Returns:
      `f(params, X, Y)`. For 0 it returns the gradient of the mean loss, in the pytree and dtype of
      params; for 1 `dJ/dX = dZ[1] @ W[1].T / m`, shape (m, d_0); for a tuple, a tuple of them.

    Example:
      >>> import jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3)), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "he")
      >>> grads = grad(J)(params, jnp.ones((5, 2)), jnp.arange(5) % 3)
      >>> grads[1].b.shape
      (3,)
    """
    value_and_gradient_of = value_and_grad(J, argnums)

    def hand_grad(params: Params, X: ArrayLike, Y: ArrayLike):
        return value_and_gradient_of(params, X, Y)[1]

    return hand_grad


def value_and_grad(J: Objective, argnums: int | tuple[int, ...] = 0) -> Callable:
    """Return the function for J and its gradient by hand, like `jax.value_and_grad(J, argnums)`.

    Arguments and errors are those of `grad` and `Objective`.

    Returns:
      `f(params, X, Y)` -> `(value, grad)`.
    """
    check_hand(J)
    if argnums not in (0, 1, (0, 1), (1, 0), (0,), (1,)) or isinstance(argnums, bool | float):
        raise ValueError(f"argnums must be 0 (params), 1 (X) or (0, 1), got {argnums!r}")

    def hand_value_and_grad(params: Params, X: ArrayLike, Y: ArrayLike):
        return _value_and_grad(J, argnums, *check(J, params, X, Y))

    return hand_value_and_grad


@functools.partial(jax.jit, static_argnums=(0, 1))
def _value_and_grad(J: Objective, argnums, params, X, Y):
    value, _, grads, dX = value_and_gradient(J, params, X, Y)
    if isinstance(argnums, tuple):
        return value, tuple((grads, dX)[i] for i in argnums)
    return value, (grads, dX)[argnums]


def value_and_gradient(
    J: Objective, params: Params, X: Float[Array, "m d_0"], Y: Array, *, recompute: bool = False
):
    """Return `(J, A[L], dJ/dparams, dJ/dX)` of one walk. Nothing is checked; for use inside jit."""
    divide_by, runs = divisor(J, X.shape[0]), J.mlp.runs
    readout = lambda pair, _: gradient(pair, divide_by)  # noqa: E731
    found = walked(J, canonical(runs, params), X, Y, readout, recompute=recompute)
    grads = in_container_of(params, grouped_like(params, runs, found.readings))
    return found.value, found.A_L, grads, found.dX / divide_by


def check_hand(J: Any) -> None:
    """Refuse anything but an Objective, and a derivative that is missing or wrong."""
    require_objective(J)
    check_derivatives(J.mlp)
    check_loss(J.loss, J.mlp.output, J.mlp.sizes[-1])


def check_derivatives(mlp: MLP) -> None:
    """Refuse a network with an activation whose derivative is missing or wrong."""
    if not isinstance(mlp, MLP):
        raise TypeError(f"mlp must be an MLP, got {mlp!r}")
    for act in dict.fromkeys(mlp.activations):
        if act.derivative is None and act != activations.softmax:
            raise ValueError(
                f"activation {act.name!r} has no derivative: the hand-written pass needs "
                "Activation(name, fn, derivative) with derivative(Z, A) -> dA/dZ"
            )
        activations.check_derivative(act)


# --- every intermediate ---------------------------------------------------------------------------


class LayerTrace(NamedTuple):
    """Hold every intermediate of one layer (E2, E3).

    A_prev: `(m, d_in)`, the input. Z, S, U, A: `(m, d_out)`; S is Z after the residual sum, or Z
    without one; U is S after the norm, or S without one.
    dA, dU, dS, dZ: `(m, d_out)`, each sample's own derivative of its own loss (no 1/m).
    dW: `(d_in, d_out)`, db: `(d_out,)`, dslope, dalpha: `()`, derivatives of the mean loss; None if
    the layer has no such parameter.
    """

    A_prev: Array
    Z: Array
    A: Array
    dA: Array
    dZ: Array
    dW: Array
    db: Array | None
    dslope: Array | None = None
    dalpha: Array | None = None
    S: Array | None = None
    U: Array | None = None
    dU: Array | None = None
    dS: Array | None = None

    def __repr__(self):
        return report.text_of(self, _shown)

    def _repr_html_(self):
        return report.html_of(self, _shown)


def _shown(t: LayerTrace) -> report.Shown:
    return report.Shown("LayerTrace", report.arrays(t._asdict()))


def trace(J: Objective) -> Callable:
    """Return the function that lists every intermediate of backpropagation, layer 1 first.

    Returns:
      `f(params, X, Y)` -> list of L `LayerTrace`, however the layers are stored. At the output
      `dA` is always the derivative of the loss, `-Y/A` for the cross-entropy, also if `dZ = A - Y`
      was computed without it.

    Example:
      >>> import jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3)), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "he")
      >>> [t.dZ.shape for t in trace(J)(params, jnp.ones((5, 2)), jnp.arange(5) % 3)]
      [(5, 4), (5, 3)]
    """
    check_hand(J)

    def hand_trace(params: Params, X: ArrayLike, Y: ArrayLike) -> list[LayerTrace]:
        params, X, Y = check(J, params, X, Y)
        entries = _trace(J, params, X, Y)
        return list(regroup(entries, counts_of(params), (None,) * J.mlp.num_layers))

    return hand_trace


@functools.partial(jax.jit, static_argnums=0)
def _trace(J: Objective, params, X, Y):
    divide_by, runs = divisor(J, X.shape[0]), J.mlp.runs

    def forward(spec: Spec, layer: Layer, carry):
        passed = arithmetic.forward(spec, layer, *carry)
        return (passed.A, passed.S), arithmetic.saved(spec, carry[0], passed), passed

    def backward(spec: Spec, layer: Layer, saved: Saved, carry):
        dA, dS, A = carry
        back = arithmetic.backward(spec, layer, saved, A, dA, dS)
        return handed_down(spec, back), (saved.A_prev, dA, back, gradient(back.pair, divide_by))

    # Both ways, with everything as readings
    tracing, stored = Rule(forward, backward), canonical(runs, params)
    (A, Z), saved, passed = walk.forward(tracing, runs, stored, (X, None))
    start = (*output_derivatives(J, Z, A, Y), A)
    _, returned = walk.backward(tracing, runs, stored, saved, start)
    # The output's dA, which the walk does not need if the loss gives dZ
    _, A, Y = loss_inputs(J, Z, A, Y)
    returned[-1] = (returned[-1][0], J.loss.dA(A, Y).astype(X.dtype), *returned[-1][2:])
    entries = [
        LayerTrace(
            *(A_prev, f.Z, f.A, dA, back.pair.dZ, g.W, g.b, g.slope, g.alpha),
            *(f.S, f.U, back.dU, back.dS),
        )
        for f, (A_prev, dA, back, g) in zip(passed, returned, strict=True)
    ]
    return grouped_like(params, runs, entries)
