"""Optimisers: an optax optimiser, a learning rate, or a name; and the call of optax at a step."""

import functools
import inspect
from typing import Any

import jax
import numpy as np
import optax

from jaxmlp import checks, named


def as_optimizer(optimizer: Any) -> optax.GradientTransformation:
    """Return an optax optimiser as it is, and gradient descent for a number, its learning rate."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    if isinstance(optimizer, optax.MultiSteps):
        # Its `gradient_transformation()` would not pass extra arguments to the inner optimiser
        init, update = optimizer.init, optimizer.update
        return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]
    if isinstance(optimizer, int | float | np.number | np.ndarray | jax.Array):
        return _sgd(checks.positive_number("the learning rate", optimizer))
    raise TypeError(
        f"optimizer must be an optax optimiser or a learning rate, got {optimizer!r}"
        f"{_hint(optimizer)}"
    )


# Equal numbers give the same object, so jit does not compile again
_sgd = functools.cache(optax.sgd)


def _hint(optimizer: Any) -> str:
    """Return advice for a function that was passed as an optimiser: how to make one of it."""
    if not inspect.isfunction(optimizer):
        return ""
    parameters = list(inspect.signature(optimizer).parameters)
    if len(parameters) == 1:
        return "; a schedule goes into an optimiser: optax.sgd(schedule)"
    package = "optax.contrib" if "contrib" in optimizer.__module__ else "optax"
    name = f"{package}." * optimizer.__module__.startswith("optax") + optimizer.__name__
    return f"; call it: {name}({'1e-3' if 'learning_rate' in parameters else '...'})"


# --- by name --------------------------------------------------------------------------------------


def _rate(value: Any) -> Any:
    """Return a learning rate; refuse a bad one. A traced one was checked before."""
    return (
        checks.positive_number("the learning rate", value) if checks.is_concrete(value) else value
    )


# `named.look_up` reads the names and the defaults of their parameters. Chosen: momentum 0.9
NAMED = {
    "sgd": lambda learning_rate: optax.sgd(_rate(learning_rate)),
    "momentum": lambda learning_rate, momentum=0.9: optax.sgd(_rate(learning_rate), momentum),
    "adam": lambda learning_rate: optax.adam(_rate(learning_rate)),
}


@functools.cache
def by_name(text: str) -> optax.GradientTransformation:
    """Return the optimiser of that name with its numbers; equal texts give the same object.

    Raises:
      ValueError: for an unknown name, and for numbers that do not fit.

    Example:
      >>> by_name("momentum:0.01:0.9") is by_name("momentum:0.01:0.9")
      True
    """
    return named.look_up("optimizer", text, NAMED)


def factory_by_name(name: str) -> Any:
    """Return the function of that name that makes an optimiser of a learning rate."""
    if name not in NAMED:
        hint = " (with learning_rates the name alone)" if ":" in name else ""
        raise checks.unknown_name(f"optimizer{hint}", name, NAMED)
    return NAMED[name]


def check_factory(factory: Any, learning_rate: float) -> None:
    """Refuse anything but a function that makes an optimiser of a learning rate."""
    made = factory(learning_rate) if callable(factory) else None
    if not isinstance(made, optax.GradientTransformation | optax.MultiSteps):
        raise TypeError(
            "with learning_rates, optimizer must be a function of the learning rate that returns "
            f"an optax optimiser, such as optax.adam (not called), got {factory!r}"
        )


def transform(optimizer: optax.GradientTransformation, grads, opt_state, params, **extra):
    """Return `(updates, opt_state)`; of `extra` the optimiser gets what it has arguments for."""
    update = optax.with_extra_args_support(optimizer).update
    parameters = inspect.signature(update).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        extra = {name: value for name, value in extra.items() if name in parameters}
    return update(grads, opt_state, params, **extra)
