"""What may stand for an optimiser, and what optax is told at a step."""

import functools
import inspect
from typing import Any

import jax
import numpy as np
import optax

from jaxmlp import checks, named


def as_optimizer(optimizer: Any) -> optax.GradientTransformation:
    """Return an optax optimiser as it is, a number as gradient descent with that learning rate."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    if isinstance(optimizer, optax.MultiSteps):
        # not its `gradient_transformation()`, which keeps the extra arguments from the inner one
        init, update = optimizer.init, optimizer.update
        return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]
    if isinstance(optimizer, int | float | np.number | np.ndarray | jax.Array):
        return _sgd(checks.positive_number("the learning rate", optimizer))
    raise TypeError(
        f"optimizer must be an optax optimiser or a learning rate, got {optimizer!r}"
        f"{_hint(optimizer)}"
    )


# equal numbers give the same object, so that jit finds what it has compiled
_sgd = functools.cache(optax.sgd)


def _hint(optimizer: Any) -> str:
    """What a function in the place of an optimiser was probably meant to be."""
    if not inspect.isfunction(optimizer):
        return ""
    parameters = list(inspect.signature(optimizer).parameters)
    if len(parameters) == 1:
        return "; a schedule goes into an optimiser: optax.sgd(schedule)"
    home = "optax.contrib" if "contrib" in optimizer.__module__ else "optax"
    name = f"{home}." * optimizer.__module__.startswith("optax") + optimizer.__name__
    return f"; call it: {name}({'1e-3' if 'learning_rate' in parameters else '...'})"


# --- by name --------------------------------------------------------------------------------------


def _rate(value: Any) -> Any:
    """A learning rate; a traced one was checked before."""
    return (
        checks.positive_number("the learning rate", value) if checks.is_concrete(value) else value
    )


def _named_sgd(learning_rate: float) -> optax.GradientTransformation:
    return optax.sgd(_rate(learning_rate))


def _named_momentum(learning_rate: float, momentum: float = 0.9) -> optax.GradientTransformation:
    return optax.sgd(_rate(learning_rate), momentum=momentum)


def _named_adam(learning_rate: float) -> optax.GradientTransformation:
    return optax.adam(_rate(learning_rate))


NAMED = {"sgd": _named_sgd, "momentum": _named_momentum, "adam": _named_adam}


@functools.cache
def by_name(text: str) -> optax.GradientTransformation:
    """Return the optimiser of a name and its numbers; equal texts give the same object.

    Raises:
      ValueError: for an unknown name, and for numbers that do not fit.

    Example:
      >>> by_name("momentum:0.01:0.9") is by_name("momentum:0.01:0.9")
      True
    """
    return named.look_up("optimizer", text, NAMED)


def factory_by_name(name: str) -> Any:
    """Return the function of the learning rate of that name."""
    if name not in NAMED:
        hint = " (with learning_rates the name alone)" if ":" in name else ""
        raise checks.unknown_name(f"optimizer{hint}", name, NAMED)
    return NAMED[name]


def check_factory(factory: Any, learning_rate: float) -> None:
    """Refuse what does not make an optimiser of a learning rate."""
    made = factory(learning_rate) if callable(factory) else None
    if not isinstance(made, optax.GradientTransformation | optax.MultiSteps):
        raise TypeError(
            "with learning_rates, optimizer must be a function of the learning rate that returns "
            f"an optax optimiser, such as optax.adam (not called), got {factory!r}"
        )


def transform(optimizer: optax.GradientTransformation, grads, opt_state, params, **extra):
    """Return `(updates, opt_state)`, telling the optimiser as much of `extra` as it takes."""
    update = optax.with_extra_args_support(optimizer).update
    parameters = inspect.signature(update).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        extra = {name: value for name, value in extra.items() if name in parameters}
    return update(grads, opt_state, params, **extra)
