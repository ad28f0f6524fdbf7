"""The checker that the import hook applies: array shapes only, because jaxmlp refuses wrong kinds
in its own words, which the tests read."""

import inspect
import typing

import beartype
import jaxtyping


def check_shapes(fn):
    hints = dict(inspect.get_annotations(fn))
    fn.__annotations__ = {name: hint for name, hint in hints.items() if _is_shape(hint)}
    return beartype.beartype(fn)


def _is_shape(hint) -> bool:
    options = typing.get_args(hint) or (hint,)
    return any(isinstance(o, type) and issubclass(o, jaxtyping.AbstractArray) for o in options)
