"""Losses, each with its derivative beside it. They are those of one sample.

`Z` and `A` are the last layer's pre-activation and output, `Y` the targets, all `(m, K)`. Every
function returns one number or one row for each sample, with no 1/m inside; the objective takes the
mean. A loss may collapse with an output activation: then one short formula gives dJ/dZ.

| loss of one sample | formula (sums over k) | dJ/dA | collapses with, dJ/dZ |
|---|---|---|---|
| cross_entropy | `-sum y log a` | `-y/a` | softmax, `a sum(y) - y` |
| binary_cross_entropy | `-sum y log a + (1-y) log(1-a)` | `-y/a + (1-y)/(1-a)` | sigmoid, `a - y` |
| mse, sse | `sum (a - y)^2` | `2 (a - y)` | |
| half_squared_error | `1/2 sum (a - y)^2` | `a - y` | linear, `a - y` |
| norm | `|a - y|` | `(a - y)/|a - y|`, 0 at 0 | |

PyTorch, Keras and scikit-learn also divide the squared error by K; the lecture notes (F1) and
`mse` here do not. `sse` is the sum over the samples, m times `mse`.
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
      name: its name for `Objective`.
      value: `value(Z, A, Y) -> (m,)`, in plain JAX.
      dA: `dA(A, Y) -> (m, K)`, the derivative in the output.
      dZ: `dZ(Z, A, Y) -> (m, K)`, the derivative in Z if the output activation is
        `collapses_with`. For any other it is `dA * act'(Z)`, or dA times softmax's Jacobian.
      collapses_with: the output activation for which `dZ` holds.
      outputs: the output activations that the loss accepts; None for any.
      targets: "numbers"; "probabilities", each in [0, 1]; or a "distribution": its rows sum to 1,
        and it may also be given as labels.
      reduction: "mean" or "sum" over the samples.
      degree: the integer k if `dA(c A, c Y) = c^k dA(A, Y)` for every c > 0, else None. With it the
        derivative is known for values beyond the range: they are scaled into it first.
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
        # The functions, and the activations that they are for
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
    """Return a / b, and 0 if a is 0, also for b = 0."""
    return jnp.where(a == 0, 0, a / jnp.where(a == 0, 1, b))


# B5: E = -sum t log y, dE/dy = -t/y. The value is computed from the logits Z, because log(A) is
# -inf for logits of -1e4. dZ is right for any row sum of Y; for a distribution it is A - Y.
cross_entropy = Loss(
    "cross_entropy",
    value=lambda Z, A, Y: -jnp.sum(Y * jax.nn.log_softmax(Z), axis=1),
    dA=lambda A, Y: _ratio(-Y, A),
    dZ=lambda Z, A, Y: A * jnp.sum(Y, axis=1, keepdims=True) - Y,
    collapses_with=softmax,
    outputs=(softmax,),
    targets="distribution",
)

# A2, A3: with a sigmoid dZ is a - y. It is written (1 - y) a - y (1 - a), with
# 1 - a = sigmoid(-z): in float32 a is exactly 1 for every logit above 17, and for y = 1 a - y
# would be 0 although the derivative is not.
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


# `numerics.norm` scales before it squares, and its derivative at 0 is 0 and not NaN.
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
    """Return the loss of that name; a `Loss` is returned as it is.

    Raises:
      ValueError: for an unknown name (a near one is suggested).
      TypeError: for anything that is neither a name nor a Loss.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"a loss must be a name or a Loss, got {loss!r}")
    return named.look_up("loss", loss, _LOSSES)


def collapses(loss: Loss, output: Activation) -> bool:
    """Return whether the loss's `dZ` holds for this output activation."""
    return loss.dZ is not None and loss.collapses_with == output


def check_output(loss: Loss, output: Activation) -> None:
    """Refuse an output activation that the loss cannot take, or another one of the same name.

    The loss's formulas hold for one function, so the Activations are compared and not their names.
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
