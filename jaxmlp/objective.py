"""The objective J(params, X, Y): a network and a loss, averaged over the samples."""

import dataclasses
import functools
import weakref
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxmlp import checks, edge, losses, targets
from jaxmlp.layer import Params
from jaxmlp.mlp import MLP, forward


@dataclasses.dataclass(frozen=True)
class Objective:
    """Make the scalar `J(params, X, Y)`: the mean loss over the samples ("sse": the sum).

    Plain JAX without any custom rule, so `jax.grad(J)` is an independent reference for the
    hand-written `jaxmlp.grad(J)`. The value is float32 for half-precision parameters.

    Args:
      mlp: the network.
      loss: a name of `losses.names()`. "cross_entropy" needs a softmax output,
        "binary_cross_entropy" a sigmoid one; the others take any.

    Calling it:
      params: what `mlp.init` made, in any grouping of its layers; or a list of (W, b), in NumPy
        too, whose gradient comes as Layers.
      X: `(m, d_0)`, floating. Y: `(m, K)`; for the cross-entropy also labels `(m,)`; with one
      output also `(m,)`.

    Raises:
      ValueError: for wrong shapes, labels, NaN or infinity; TypeError: for wrong kinds.

    Example:
      >>> J = Objective(MLP((2, 4, 3)), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0), "he")
      >>> float(J(params, jnp.zeros((5, 2)), jnp.arange(5) % 3))  # log 3
      1.0986123085021973
    """

    mlp: MLP
    loss: Any

    def __post_init__(self):
        if not isinstance(self.mlp, MLP):
            raise TypeError(f"mlp must be an MLP, got {self.mlp!r}")
        loss = losses.get(self.loss)
        losses.check_output(loss, self.mlp.output)
        object.__setattr__(self, "loss", loss)

    def __hash__(self):
        return hash((self.mlp, self.loss.name))

    def __call__(self, params: Params, X: ArrayLike, Y: ArrayLike) -> Float[Array, ""]:
        return _value(self, *check(self, params, X, Y))


@functools.partial(jax.jit, static_argnames="J")
def _value(J: Objective, params, X, Y):
    return value_and_output(J, params, X, Y)[0]


def value_and_output(J: Objective, params: Params, X: Inexact[Array, "m d_0"], Y: Array):
    """Return J and A[L]; unchecked, for use inside jit."""
    Z, A = forward(J.mlp, params, X)
    return mean_loss(J, Z, A, Y), A


def mean_loss(J: Objective, Z, A, Y) -> Inexact[Array, ""]:
    """Return the loss of the last layer's Z and A, averaged; sums in float32 at least."""
    Z, A, Y = loss_inputs(J, Z, A, Y)
    return jnp.sum(J.loss.value(Z, A, Y)) / divisor(J, len(A))


def loss_inputs(J: Objective, Z, A, Y):
    """Z, A and the targets as rows, all in the precision that the loss is computed in."""
    dtype = jnp.promote_types(Z.dtype, jnp.float32)
    return Z.astype(dtype), A.astype(dtype), targets.targets_as_rows(J.loss, Y, A.shape[1], dtype)


def divisor(J: Objective, m: int) -> int:
    """What the sum over m samples is divided by: m, or 1 for a loss that is itself a sum."""
    return m if J.loss.reduction == "mean" else 1


def check(J: Objective, params, X, Y):
    """Refuse what does not fit; return X and Y as JAX arrays. Values only where concrete."""
    params = edge.as_layers(params)
    dtype = edge.checked_params(J.mlp, params)
    X = edge.checked_inputs(J.mlp.sizes[0], X, dtype)
    if Y is not None and _TARGETS.get((id(Y), J, X.shape[0])) is Y:
        return params, X, Y
    rows = edge.as_array("Y", Y)
    K = J.mlp.sizes[-1]
    targets.check_target_shape(J.loss, rows, X.shape[0], K)
    if checks.is_concrete(rows):
        parts = edge.local_values(rows) if isinstance(rows, jax.Array) else [rows]
        for part in parts:
            targets.check_target_values(J.loss, part, K)
    taken = edge.as_jax("Y", rows)
    if taken is Y and checks.is_concrete(Y):
        _TARGETS[id(Y), J, X.shape[0]] = Y
    return params, X, taken


# JAX arrays that were looked at as targets: nobody can change them
_TARGETS: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def require_objective(J: Any) -> Objective:
    """Refuse a plain loss function where an Objective belongs."""
    if not isinstance(J, Objective):
        raise TypeError(
            f"expected a jaxmlp.Objective, got {J!r}: the hand-written pass needs the network's "
            "layers; make one with jaxmlp.Objective(mlp, loss). For a dense layer of another JAX "
            "model the README's recipe gets dZ with a zero probe added to Z and one jax.grad"
        )
    return J
