"""Descriptions known by a name with numbers, such as `leaky_relu:0.1`; they pickle as that name."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxmlp.checks import unknown_name


def label(factory: Callable, *arguments: float) -> str:
    """Return the name from which `look_up` makes the same description.

    Arguments that have their default value at the end are left out.

    Example:
      >>> def linear(a=1.0, b=0.0): ...
      >>> label(linear, 1.0, 0.0), label(linear, 2.0, 0.0), label(linear, 1.0, -0.5)
      ('linear', 'linear:2', 'linear:1:-0.5')
    """
    defaults = [parameter.default for parameter in inspect.signature(factory).parameters.values()]
    while arguments and arguments[-1] == defaults[len(arguments) - 1]:
        arguments = arguments[:-1]
    return ":".join([factory.__name__, *(str(value).removesuffix(".0") for value in arguments)])


def look_up(kind: str, text: str, known: Mapping[str, Any], meant: Mapping[str, str] = {}) -> Any:
    """Return what `text` names: an entry of `known`, or what a factory in it makes of numbers.

    Args:
      kind: the word for it in error messages, such as "loss".
      text: a name. After a factory's name come its numbers, each behind a colon.
      known: descriptions and factories by name.
      meant: names that other libraries use, and what they are called here.

    Raises:
      ValueError: for an unknown name, an argument that is not a number, too many or too few
        arguments, and numbers that the factory refuses.
    """
    name, *arguments = text.split(":")
    if name not in known:
        raise unknown_name(kind, name, known, meant)
    entry = known[name]
    if not callable(entry):
        if arguments:
            raise ValueError(f"{kind} {name!r} takes no arguments, got {text!r}")
        return entry
    # A factory: as many numbers as it has parameters, or fewer if they have defaults
    parameters = inspect.signature(entry).parameters
    required = sum(p.default is p.empty for p in parameters.values())
    if not required <= len(arguments) <= len(parameters):
        form = ":".join([name, *parameters])
        raise ValueError(f"{kind} {text!r} has {len(arguments)} arguments, expected {form}")
    try:
        return entry(*map(_number, parameters, arguments))
    except ValueError as error:
        raise ValueError(f"{kind} {text!r}: {error}") from None


def _number(parameter: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{parameter} must be a number, got {text!r}") from None


def is_known(description: Any, get: Callable[[Any], Any]) -> bool:
    """Return whether `get` finds an equal description under this one's name."""
    try:
        return get(description.name) == description
    except (TypeError, ValueError):
        return False


def reduced(description: Any, get: Callable[[Any], Any]) -> tuple[Callable, tuple]:
    """Return what `__reduce__` must return: `get` and the name if that finds it, else the fields.

    The descriptions of this package hold lambdas, which do not pickle. Their names do.
    """
    if is_known(description, get):
        return get, (description.name,)
    fields = dataclasses.fields(description)
    return type(description), tuple(getattr(description, field.name) for field in fields)
