"""Checks of the arguments of `instruments` and `of`: names, options, number of samples."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jaxmlp import checks

SPREAD = ("moments", "gradient_moments", "noise_scale")


def label(name: str | Callable) -> str:
    """Return the name under which an instrument's result is returned."""
    return name if isinstance(name, str) else getattr(name, "__name__", repr(name))


def check_names(names: Any, known: Iterable[str], arguments: str) -> tuple:
    """Return names as a tuple; refuse an unknown name, one given twice, and what is no readout.

    arguments: those of a user's readout, for the error message.
    """
    if isinstance(names, str) or callable(names) or not isinstance(names, Sequence):
        raise TypeError(f"names must be a tuple of instruments, got {names!r}")
    if not names:
        raise ValueError(f"names holds no instrument; known: {', '.join(sorted(known))}")
    for name in names:
        if not callable(name) and not isinstance(name, str):
            raise TypeError(f"an instrument is a name or a function {arguments}, got {name!r}")
        if isinstance(name, str) and name not in known:
            raise checks.unknown_name("instrument", name, known)
    labels = [label(name) for name in names]
    twice = sorted({each for each in labels if labels.count(each) > 1})
    if twice:
        raise ValueError(f"each instrument must be named once, got {twice[0]!r} twice")
    return tuple(names)


def check_microbatch_size(names: tuple, microbatch_size: Any) -> None:
    """Refuse a size below 1, and any size together with a user's readout."""
    if microbatch_size is None:
        return
    checks.integer("microbatch_size", microbatch_size, at_least=1)
    users = [label(name) for name in names if callable(name)]
    if users:
        raise ValueError(
            f"microbatch_size cannot be combined with a readout of your own ({users[0]}): how its "
            "readings of several microbatches belong together is not known"
        )


def check_max_norm(names: tuple, max_norm: Any) -> None:
    """Refuse a max_norm that is missing, not used, or not above 0."""
    if "clipped_grad" not in names:
        if max_norm is not None:
            raise ValueError("max_norm is for 'clipped_grad', which is not among the names")
    elif max_norm is None:
        raise ValueError("'clipped_grad' needs max_norm, the largest norm that is left as it is")
    elif checks.is_concrete(max_norm) and float(max_norm) != math.inf:
        checks.positive_number("max_norm", max_norm)


def refuse_one_sample(names: tuple, m: int) -> None:
    """Refuse instruments that need a variance if there is only 1 sample."""
    spread = [name for name in names if isinstance(name, str) and name in SPREAD]
    if m == 1 and spread:
        raise ValueError(f"{spread[0]} needs at least 2 samples: one sample has no variance")
