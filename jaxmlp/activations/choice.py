"""One of several activations, chosen by a number that is known only when the program runs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxmlp.activations.description import Activation


class Choice(NamedTuple):
    """Stand for `several[which]` in one compiled program; `of_act` calls functions of it."""

    several: tuple[Activation, ...]
    which: Any


def of_act(act: Activation | Choice, function: Callable, slopes: tuple, *args: Any) -> Any:
    """Return `function(act, slopes, *args)`; if act is a Choice, of the activation chosen.

    slopes: `(slope,)` for PReLU, else (). If a Choice holds PReLU, its other activations get ().
    """
    if isinstance(act, Activation):
        return function(act, slopes, *args)
    branches = [
        functools.partial(function, one, slopes if one.slope is not None else ())
        for one in act.several
    ]
    # One branch is given twice: without a switch it may be compiled to other last bits
    return jax.lax.switch(act.which, branches * (2 if len(branches) == 1 else 1), *args)
