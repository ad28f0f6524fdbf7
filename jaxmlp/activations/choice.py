"""One activation of several, which one a number says that is known at run time only."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxmlp.activations.description import Activation


class Choice(NamedTuple):
    """Stand for `several[which]` in one compiled program, for functions that go through `of_act`.

    A single function is given twice: compiled without a switch its last bits may be others.
    """

    several: tuple[Activation, ...]
    which: Any


def of_act(act: Activation | Choice, function: Callable, slopes: tuple, *args: Any) -> Any:
    """Return `function(act, slopes, *args)`, of the chosen one if act is a Choice.

    slopes: what the activation takes after its own arguments: PReLU's slope, else nothing. A
    Choice may hold PReLU, so that its other functions are given () instead.
    """
    if isinstance(act, Activation):
        return function(act, slopes, *args)
    branches = [
        functools.partial(function, one, slopes if one.slope is not None else ())
        for one in act.several
    ]
    return jax.lax.switch(act.which, branches * (2 if len(branches) == 1 else 1), *args)
