"""Descriptions known by name: `leaky_relu:0.1` reads back, and pickles as its name."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxmlp.checks import unknown_name


def label(factory: Callable, *arguments: float) -> str:
    """Return the name that `look_up` reads back; arguments at their defaults are left out.

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
      kind: what the errors call it.
      text: a name; behind a factory's name its numbers, each after a colon.
      known: descriptions and factories by name.
      meant: what is suggested for a name that is not known but used elsewhere.

    Raises:
      ValueError: for an unknown name, an argument that is no number or one too many, and
        for numbers that the factory refuses.
    """
    name, *arguments = text.split(":")
    if name not in known:
        raise unknown_name(kind, name, known, meant)
    entry = known[name]
    if not callable(entry):
        if arguments:
            raise ValueError(f"{kind} {name!r} takes no arguments, got {text!r}")
        return entry
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
    """Whether `get` returns this very description for its name."""
    try:
        return get(description.name) == description
    except (TypeError, ValueError):
        return False


def reduced(description: Any, get: Callable[[Any], Any]) -> tuple[Callable, tuple]:
    """Return what `__reduce__` must: the name if `get` knows it, else the fields one by one.

    The functions of the library are lambdas, which do not pickle.
    """
    if is_known(description, get):
        return get, (description.name,)
    fields = dataclasses.fields(description)
    return type(description), tuple(getattr(description, field.name) for field in fields)
