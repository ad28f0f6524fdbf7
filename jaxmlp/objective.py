"""The objective J(params, X, Y): a network and a loss, averaged over the samples."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlp import checks, losses, targets
from jaxmlp.mlp import MLP, as_array, as_jax, check_inputs, check_params, forward


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
      params: what `mlp.init` made, in any grouping of its layers.
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

    def __call__(self, params, X, Y) -> Float[Array, ""]:
        return _value(self, *check(self, params, X, Y))


@functools.partial(jax.jit, static_argnames="J")
def _value(J: Objective, params, X, Y):
    return value_and_output(J, params, X, Y)[0]


def value_and_output(J: Objective, params, X, Y):
    """Return J and A[L]; unchecked, for use inside jit."""
    Z, A = forward(J.mlp, params, X)
    return mean_loss(J, Z, A, Y), A


def mean_loss(J: Objective, Z, A, Y) -> Float[Array, ""]:
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
    dtype = check_params(J.mlp, params)
    X = check_inputs(J.mlp, X, dtype)
    Y = as_array("Y", Y)
    K = J.mlp.sizes[-1]
    targets.check_target_shape(J.loss, Y, X.shape[0], K)
    if checks.is_concrete(Y):
        targets.check_target_values(J.loss, np.asarray(Y), K)
    return params, X, as_jax("Y", Y)


def require_objective(J: Any) -> Objective:
    """Refuse a plain loss function where an Objective belongs."""
    if not isinstance(J, Objective):
        raise TypeError(
            f"expected a jaxmlp.Objective, got {J!r}: the hand-written pass needs the network's "
            "layers; make one with jaxmlp.Objective(mlp, loss). For a dense layer of another JAX "
            "model the README's recipe gets dZ with a zero probe added to Z and one jax.grad"
        )
    return J
