"""Losses: each with its derivative beside it, for one sample; the objective takes the mean.

Letters: `Z`, `A` the last layer's pre-activation and output `(m, K)`, `Y` the targets `(m, K)`.
Every function returns one row or one number for each sample, with no 1/m inside.

| loss of one sample | formula (sums over k) | dJ/dA | collapses with, to dJ/dZ |
|---|---|---|---|
| cross_entropy | `-sum y log a` | `-y/a` | softmax, `a sum(y) - y` |
| binary_cross_entropy | `-sum y log a + (1-y) log(1-a)` | `-y/a + (1-y)/(1-a)` | sigmoid, `a - y` |
| mse, sse | `sum (a - y)^2` | `2 (a - y)` | |
| half_squared_error | `1/2 sum (a - y)^2` | `a - y` | linear, `a - y` |
| norm | `|a - y|` | `(a - y)/|a - y|`, 0 at 0 | |

PyTorch, Keras and scikit-learn divide the squared error by K too; the notes (F1) and `mse` here
do not. `sse` is the sum over samples, m times `mse`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmlp import named, numerics
from jaxmlp.activations import Activation, linear, sigmoid, softmax

TARGETS = ("numbers", "probabilities", "distribution")
REDUCTIONS = ("mean", "sum")


@dataclasses.dataclass(frozen=True)
class Loss:
    """Describe a loss of one sample.

    Args:
      name: what `Objective` calls it.
      value: `value(Z, A, Y) -> (m,)`, in plain JAX.
      dA: `dA(A, Y) -> (m, K)`, the derivative in the output.
      dZ: `dZ(Z, A, Y) -> (m, K)`, where output activation and loss collapse; else None and the
        general chain `dA * act'(Z)` (with softmax its Jacobian) applies.
      collapses_with: the output activation that `dZ` is for.
      outputs: the output activations that the loss accepts; None for any.
      targets: "numbers"; "probabilities", each in [0, 1]; or a "distribution", whose rows sum to 1
        and which may also be given as labels.
      reduction: "mean" or "sum" over the samples.
      degree: the integer k where `dA(c A, c Y) = c^k dA(A, Y)` for c > 0; None where there is none.
        Such a derivative can be taken of values far out of range, scaled into it.
    """

    name: str
    value: Callable = dataclasses.field(repr=False)
    dA: Callable = dataclasses.field(repr=False)
    dZ: Callable | None = dataclasses.field(default=None, repr=False)
    collapses_with: Activation | None = None
    outputs: tuple[Activation, ...] | None = None
    targets: str = "numbers"
    reduction: str = "mean"
    degree: int | None = None

    def __post_init__(self):
        if self.targets not in TARGETS:
            raise ValueError(
                f"loss {self.name!r}: targets must be in {TARGETS}, got {self.targets!r}"
            )
        if self.reduction not in REDUCTIONS:
            raise ValueError(
                f"loss {self.name!r}: reduction must be in {REDUCTIONS}, got {self.reduction!r}"
            )
        for act in (self.collapses_with, *(self.outputs or ())):
            if not isinstance(act, Activation | None):
                raise TypeError(f"loss {self.name!r}: outputs must be Activations, got {act!r}")
        for field in ("value", "dA", *(["dZ"] if self.dZ is not None else [])):
            if not callable(getattr(self, field)):
                raise TypeError(f"loss {self.name!r}: {field} must be a function")
        if not isinstance(self.degree, int | None) or isinstance(self.degree, bool):
            raise TypeError(
                f"loss {self.name!r}: degree must be an integer or None, got {self.degree!r}"
            )
        if self.outputs is not None:
            object.__setattr__(self, "outputs", tuple(self.outputs))

    def __reduce__(self):
        return named.reduced(self, get)


def _ratio(a, b):
    """a / b, and 0 where a is 0, whatever b."""
    return jnp.where(a == 0, 0, a / jnp.where(a == 0, 1, b))


# B5: E = -sum t log y, dE/dy = -t/y, and with softmax a - y. From logits, so that nothing
# overflows at +-1e4; the row sum of Y is 1 for a distribution, and the derivative is true for any.
cross_entropy = Loss(
    "cross_entropy",
    value=lambda Z, A, Y: -jnp.sum(Y * jax.nn.log_softmax(Z), axis=1),
    dA=lambda A, Y: _ratio(-Y, A),
    dZ=lambda Z, A, Y: A * jnp.sum(Y, axis=1, keepdims=True) - Y,
    collapses_with=softmax,
    outputs=(softmax,),
    targets="distribution",
)

# A2, A3: a - y with sigmoid. Written (1 - y) a - y (1 - a) with 1 - a = sigmoid(-z), because
# a - y is 0 in float32 for every logit above 17, where the derivative is not.
binary_cross_entropy = Loss(
    "binary_cross_entropy",
    value=lambda Z, A, Y: (
        -jnp.sum(Y * jax.nn.log_sigmoid(Z) + (1 - Y) * jax.nn.log_sigmoid(-Z), axis=1)
    ),
    dA=lambda A, Y: _ratio(-Y, A) + _ratio(1 - Y, 1 - A),
    dZ=lambda Z, A, Y: (1 - Y) * A - Y * jax.nn.sigmoid(-Z),
    collapses_with=sigmoid,
    outputs=(sigmoid,),
    targets="probabilities",
)

# F1
mse = Loss(
    "mse",
    value=lambda Z, A, Y: jnp.sum((A - Y) ** 2, axis=1),
    dA=lambda A, Y: 2 * (A - Y),
    degree=1,
)
sse = dataclasses.replace(mse, name="sse", reduction="sum")
half_squared_error = Loss(
    "half_squared_error",
    value=lambda Z, A, Y: jnp.sum((A - Y) ** 2, axis=1) / 2,
    dA=lambda A, Y: A - Y,
    dZ=lambda Z, A, Y: A - Y,
    collapses_with=linear(),
    degree=1,
)


# The norm is scaled before it is squared, and its derivative at 0 is 0, not NaN.
norm = Loss(
    "norm",
    value=lambda Z, A, Y: numerics.norm(A - Y, axis=1),
    dA=lambda A, Y: _ratio(A - Y, numerics.norm(A - Y, axis=1)[:, None]),
    degree=0,
)

_LOSSES = {
    loss.name: loss
    for loss in (cross_entropy, binary_cross_entropy, mse, half_squared_error, sse, norm)
}


def names() -> tuple[str, ...]:
    """Return the names that `get` knows."""
    return tuple(_LOSSES)


def get(loss: str | Loss) -> Loss:
    """Return the loss of that name; a `Loss` comes back as it is.

    Raises:
      ValueError: for an unknown name (the nearest is suggested).
      TypeError: for anything that is neither a name nor a Loss.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"a loss must be a name or a Loss, got {loss!r}")
    return named.look_up("loss", loss, _LOSSES)


def collapses(loss: Loss, output: Activation) -> bool:
    """Whether output activation and loss collapse to the loss's own `dZ`."""
    return loss.dZ is not None and loss.collapses_with == output


def check_output(loss: Loss, output: Activation) -> None:
    """Refuse an output activation that the loss cannot take, or one that only has its name.

    The activations are compared and not their names: the formulas hold for that very function.
    """
    if loss.outputs is None or output in loss.outputs:
        return
    needed = [act.name for act in loss.outputs]
    if output.name in needed:
        raise ValueError(
            f"{loss.name} needs the output activations.{output.name}, but the MLP's is another "
            f"Activation of the name {output.name!r}"
        )
    raise ValueError(
        f"{loss.name} needs a {' or '.join(needed)} output, but the MLP's is {output.name}"
    )
