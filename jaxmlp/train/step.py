"""One update of the parameters with any optax optimiser, such as `W <- W - lr * dJ/dW` (G1)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float

from jaxmlp import checks, targets
from jaxmlp.backprop import check_hand, value_and_gradient
from jaxmlp.compare import relative_difference
from jaxmlp.numerics import tree_norm
from jaxmlp.objective import Objective, check, require_objective, value_and_output
from jaxmlp.train.optimizers import as_optimizer, transform

GRADIENTS = ("hand", "jax", "compare")


class Metrics(NamedTuple):
    """Report one step. All numbers are those of the parameters before the update.

    loss: J. accuracy: the share of samples classified right, NaN for a regression. gradient_norm:
    over all parameters. relative_difference: `(L,)`, of the hand-written gradient and `jax.grad`;
    None unless both are computed.
    """

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    relative_difference: Float[Array, " L"] | None = None


def train_step(
    J: Objective, optimizer: optax.GradientTransformation | float, gradient: str = "hand"
) -> Callable:
    """Return the jitted `step(params, opt_state, X, Y) -> (params, opt_state, Metrics)`.

    With `optax.sgd(lr)` the step is `W <- W - lr * dJ/dW` (G1).

    Args:
      J: the objective.
      optimizer: any optax optimiser, or a positive number, the learning rate of `optax.sgd`. The
        caller makes the state: `optimizer.init(params)`.
      gradient: "hand", "jax" or "compare". "compare" computes both, updates with the hand-written
        one, and reports the largest relative difference of each layer in the metrics.

    Raises:
      ValueError: for another `gradient`, and for a learning rate that is not positive and finite.
        The step itself raises as `Objective` does.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmlp import MLP
      >>> J = Objective(MLP((2, 4, 3)), "cross_entropy")
      >>> params, optimizer = J.mlp.init(jax.random.key(0)), optax.adam(1e-2)
      >>> step = train_step(J, optimizer, gradient="compare")
      >>> X, Y = jax.random.normal(jax.random.key(1), (9, 2)), jnp.arange(9) % 3
      >>> params, opt_state, metrics = step(params, optimizer.init(params), X, Y)
      >>> bool((metrics.relative_difference < 1e-5).all())
      True
    """
    optimizer = as_optimizer(optimizer)
    check_gradient(J, gradient)

    def step(params, opt_state, X, Y):
        params, X, Y = check(J, params, X, Y)
        return _jitted_update(J, optimizer, gradient, params, opt_state, X, Y)

    return step


def update(
    J: Objective, optimizer, gradient: str, params, opt_state, X, Y, *, recompute: bool = False
):
    """Return the parameters and the state after one step, and its Metrics. Pure; no checks."""
    value, A, grads, difference = _gradient(J, gradient, params, X, Y, recompute)

    updates, opt_state = transformed(
        J, optimizer, gradient, recompute, value, grads, params, opt_state, X, Y
    )
    metrics = Metrics(value, accuracy_of(J, A, Y), tree_norm(grads), difference)
    return optax.apply_updates(params, updates), opt_state, metrics


def transformed(
    J: Objective, optimizer, gradient, recompute, value, grads, params, opt_state, X, Y
):
    """Return the updates that the optimiser makes of a gradient, and its state."""

    # optax's line searches pass these arguments by name, and refuse a function without them
    def value_fn(params, obj_fn=None, grad_fn=None):
        return value_and_output(J, params, X, Y)[0]

    def grad_fn(params, _):
        return _gradient(J, gradient, params, X, Y, recompute)[2]

    extra = {"value": value, "grad": grads}
    extra |= {"value_fn": value_fn, "obj_fn": value_fn, "grad_fn": grad_fn}
    return transform(optimizer, grads, opt_state, params, **extra)


_jitted_update = functools.partial(jax.jit, static_argnums=(0, 1, 2))(update)


def _gradient(J: Objective, gradient: str, params, X, Y, recompute: bool):
    """Return J, A[L], the gradient, and the relative difference of the two if both are computed."""
    if gradient != "hand":
        auto = jax.value_and_grad(lambda p: value_and_output(J, p, X, Y), has_aux=True)
        (value, A), reference = auto(params)
        if gradient == "jax":
            return value, A, reference, None
    value, A, grads, _ = value_and_gradient(J, params, X, Y, recompute=recompute)
    difference = relative_difference(grads, reference) if gradient == "compare" else None
    return value, A, grads, difference


def evaluate(J: Objective, params, X, Y):
    """Return J and the accuracy. Pure; no checks."""
    value, A = value_and_output(J, params, X, Y)
    return value, accuracy_of(J, A, Y)


def accuracy_of(J: Objective, A, Y):
    """Return the share of samples that the outputs A classify right; NaN for a regression."""
    rows = targets.targets_as_rows(J.loss, Y, A.shape[1], A.dtype)
    return targets.accuracy(J.loss, J.mlp.output, A, rows)


def check_gradient(J: Any, gradient: str) -> None:
    """Refuse an unknown `gradient`, and a J for which it cannot be computed."""
    if gradient not in GRADIENTS:
        raise checks.unknown_name("gradient", str(gradient), GRADIENTS)
    if gradient == "jax":
        require_objective(J)
    else:
        check_hand(J)
