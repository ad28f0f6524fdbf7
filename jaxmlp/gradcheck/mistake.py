"""What a mistake is: a row of the table, what it may know of its place, and what it makes there."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jaxmlp.gradcheck.naming import Arrays
from jaxmlp.gradcheck.tape import Back, Record, Tape, onto_stream, skipped

Words = dict[str, str]  # what the mend says besides the layer, as {"other": "sigmoid"}


class Site(NamedTuple):
    """Where the walk stands: layer `number`, with dA come from above and the right dU, dS, dZ.

    back_above: those of layer `number + 1`, None at the output. given: the candidate's gradient;
    steps: its steps, each sample's own.
    """

    tape: Tape
    number: int
    back: Back
    back_above: Back | None
    given: Arrays
    steps: Arrays

    @property
    def dA(self) -> np.ndarray:
        return self.back.dA

    @property
    def dZ(self) -> np.ndarray:
        return self.back.dZ

    @property
    def dA_above(self) -> np.ndarray | None:
        return self.back_above and self.back_above.dA

    @property
    def dZ_above(self) -> np.ndarray | None:
        return self.back_above and self.back_above.dZ

    @property
    def skip(self) -> np.ndarray | None:
        """dS of the layer above if it has a residual."""
        return None if self.back_above is None else skipped(self.above, self.back_above)

    @property
    def record(self) -> Record:
        return self.tape.records[self.number - 1]

    @property
    def above(self) -> Record:
        return self.tape.records[self.number]

    @property
    def is_output(self) -> bool:
        return self.number == len(self.tape.records)


class Leaf(NamedTuple):
    """What a mistake makes of one array of the gradient."""

    array: np.ndarray
    words: Words = {}  # noqa: RUF012


class Flow(NamedTuple):
    """What a mistake makes of the derivatives at a layer, and the layer whose step it sits in."""

    back: Back
    layer: int
    step: str
    words: Words = {}  # noqa: RUF012


class Forward(NamedTuple):
    """The tape that a mistake in the forward pass makes, and the layers and steps it sits in."""

    tape: Tape
    layers: tuple[int, ...]
    letter: str
    words: Words = {}  # noqa: RUF012


class Mistake(NamedTuple):
    """A row of the table: a name, and a mend that may speak of layer `{l}` and the one `{below}`.

    leaf: in one array alone; flow: in the walk, and so in all below; forward: before it. is_factor:
    whether it multiplies by a number. weight: what it costs to believe it, in mistakes.
    """

    name: str
    mend: str
    leaf: Callable[[Site, str, np.ndarray], Iterator[Leaf]] | None = None
    flow: Callable[[Site], Iterator[Flow]] | None = None
    forward: Callable[[Tape], Iterator[Forward]] | None = None
    is_factor: bool = False
    weight: float = 1.0


def at_own_layer(site: Site, dU: np.ndarray, words: Words | None = None) -> Flow:
    """The step `dU = dA * act'(U)`, of a plain layer dZ, with another dU."""
    back = onto_stream(site.record, site.dA, dU, site.skip)
    letter = "dZ" if back.dZ is dU else "dU"
    return Flow(back, site.number, f"{letter}{site.number}", words or {})


def through(site: Site, dA: np.ndarray, words: Words | None = None) -> Flow:
    """The step `dA[l-1] = dZ[l] @ W[l].T` of the layer above with another dA."""
    back = onto_stream(site.record, dA, dA * site.record.prime, site.skip)
    return Flow(back, site.number + 1, f"dA{site.number}", words or {})
