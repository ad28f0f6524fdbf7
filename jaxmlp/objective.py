"""The objective J(params, X, Y): the loss of a network, averaged over the samples."""

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
    """Compute the scalar `J(params, X, Y)`: the mean loss over the samples ("sse": the sum).

    It is plain JAX without any custom derivative rule. So `jax.grad(J)` is independent of the
    hand-written `jaxmlp.grad(J)` and can prove it. For half-precision parameters J is float32.

    Args:
      mlp: the network.
      loss: a name of `losses.names()`. "cross_entropy" needs a softmax output,
        "binary_cross_entropy" a sigmoid output; the others take any output.

    Calling it:
      params: what `mlp.init` returns, in any grouping of the layers; or a list of (W, b), which
        may be NumPy's: its gradient is a tuple of Layers.
      X: `(m, d_0)`, floating.
      Y: `(m, K)`; for "cross_entropy" also labels `(m,)`; with one output also `(m,)`.

    Raises:
      ValueError: for wrong shapes, labels out of range, NaN and infinity.
      TypeError: for a wrong dtype, and for what is no array.

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
    """Return J and A[L]. Nothing is checked; for use inside jit."""
    Z, A = forward(J.mlp, params, X)
    return mean_loss(J, Z, A, Y), A


def mean_loss(J: Objective, Z, A, Y) -> Inexact[Array, ""]:
    """Return the mean loss of the last layer's Z and A; sums are float32 or wider."""
    Z, A, Y = loss_inputs(J, Z, A, Y)
    return jnp.sum(J.loss.value(Z, A, Y)) / divisor(J, len(A))


def loss_inputs(J: Objective, Z, A, Y):
    """Return Z, A and the targets as rows, all in the dtype in which the loss is computed."""
    dtype = jnp.promote_types(Z.dtype, jnp.float32)
    return Z.astype(dtype), A.astype(dtype), targets.targets_as_rows(J.loss, Y, A.shape[1], dtype)


def divisor(J: Objective, m: int) -> int:
    """Return what the sum over m samples is divided by: m, or 1 if the loss is a sum."""
    return m if J.loss.reduction == "mean" else 1


def check(J: Objective, params, X, Y):
    """Return params as Layers, X and Y as JAX arrays; refuse what does not fit.

    Under a trace shapes and dtypes are checked, and values are not.
    """
    params = edge.as_layers(params)
    dtype = edge.checked_params(J.mlp, params)
    X = edge.checked_inputs(J.mlp.sizes[0], X, dtype)
    if Y is not None and _CHECKED_TARGETS.get((id(Y), J, X.shape[0])) is Y:
        return params, X, Y
    # The targets: their shape, then their values
    rows = edge.as_array("Y", Y)
    K = J.mlp.sizes[-1]
    targets.check_target_shape(J.loss, rows, X.shape[0], K)
    if checks.is_concrete(rows):
        parts = edge.local_values(rows) if isinstance(rows, jax.Array) else [rows]
        for part in parts:
            targets.check_target_values(J.loss, part, K)
    taken = edge.as_jax("Y", rows)
    if taken is Y and checks.is_concrete(Y):
        _CHECKED_TARGETS[id(Y), J, X.shape[0]] = Y
    return params, X, taken


# JAX arrays that were checked as targets. Nobody can change them, so they stay right
_CHECKED_TARGETS: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def require_objective(J: Any) -> Objective:
    """Return J; refuse anything but an Objective, such as a plain loss function."""
    if not isinstance(J, Objective):
        raise TypeError(
            f"expected a jaxmlp.Objective, got {J!r}: the hand-written pass needs the network's "
            "layers; make one with jaxmlp.Objective(mlp, loss). For a dense layer of another JAX "
            "model the README's recipe gets dZ with a zero probe added to Z and one jax.grad"
        )
    return J
