"""Which known mistake makes a wrong gradient: reconstruct it, step by step, and compare."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jaxmlp.gradcheck.mistakes import TABLE, Flow, Mistake, Site
from jaxmlp.gradcheck.naming import Arrays
from jaxmlp.gradcheck.tape import Tape, leaves

Matches = Callable[[str, np.ndarray], bool]  # whether the candidate's array of that name is this
Made = tuple[tuple[int, str], ...]  # layer and step of every place where the mistake was made


class Diagnosis(NamedTuple):
    """Name a mistake that reproduces the candidate's numbers within rounding.

    mistake: its name in the table of `jaxmlp.gradcheck.mistakes`; layers: where it was made, lowest
    first; mend: what to write instead; steps: the arrays that it was made in, as "dW2" or "dA1".
    """

    mistake: str
    layers: tuple[int, ...]
    mend: str
    steps: tuple[str, ...] = ()


def diagnose(tape: Tape, given: Arrays, matches: Matches) -> tuple[Diagnosis, ...]:
    """Return every mistake that, made in one layer or in several, gives the candidate's numbers.

    Those made in the fewest steps come first.

    Args:
      given: the candidate's gradient by name, in any shapes.
      matches: `matches(name, array)`, within rounding.
    """
    walk = [_start(tape)]
    while walk[-1].number > 1:
        walk.append(_below(tape, walk[-1]))
    right = {state.number: (state, _leaves(tape, state)) for state in walk}
    wrong = [l for l in right if not all(matches(name, x) for name, x in right[l][1].items())]
    if not wrong:
        return ()
    # a mistake too small to be told in its own layer may still show in the one below
    search = Search(tape, given, matches, right, min(wrong[0] + 1, len(right)))
    found = [d for mistake in TABLE for d in (*search.arrays(mistake), *search.walks(mistake))]
    return tuple(sorted(dict.fromkeys(found), key=lambda d: len(d.steps)))


class State(NamedTuple):
    """The walk at one layer, and the steps in which the mistake has been made so far."""

    number: int
    dA: np.ndarray
    dZ: np.ndarray
    dZ_above: np.ndarray | None
    made: Made


class Search(NamedTuple):
    """The right walk, and ways to leave it.

    right: state and arrays by the layer's number; highest: the layer where the mistake may begin.
    """

    tape: Tape
    given: Arrays
    matches: Matches
    right: dict[int, tuple[State, Arrays]]
    highest: int

    def arrays(self, mistake: Mistake) -> Iterator[Diagnosis]:
        """The mistake made in dW, db or slope alone, while the walk is right."""
        made = []
        for state, arrays in self.right.values() if mistake.leaf else ():
            site = self._site(state)
            for name, right in arrays.items():
                if self.matches(name, right):
                    continue
                assert mistake.leaf is not None
                if not any(self.matches(name, x) for x in mistake.leaf(site, name, right)):
                    return
                made.append((state.number, f"d{name}"))
        if made:
            yield _diagnosis(mistake, tuple(made))

    def walks(self, mistake: Mistake) -> Iterator[Diagnosis]:
        """The mistake made in dA or dZ, and carried on to the layers below."""
        if mistake.flow is None:
            return
        found = self._ways(mistake)
        fewest = min(map(len, found), default=0)
        for made in (made for made in found if len(made) == fewest):
            yield _diagnosis(mistake, made)
            if mistake.is_factor and all(layer < len(self.right) for layer, _ in made):
                # a factor of dA[l] = dZ[l+1] @ W[l+1].T is one of dZ[l]
                yield _diagnosis(mistake, tuple((l + 1, f"dA{l}") for l, _ in made))

    def _ways(self, mistake: Mistake, patience: int = 64) -> list[Made]:
        """Depth first, the right step before the mistaken one, which may be too small to tell."""
        found, open_states = [], [self.right[self.highest][0]]
        visits = patience + 8 * len(self.right)
        while open_states and visits:
            visits -= 1
            state = open_states.pop()
            for option in self._options(state, mistake):
                if state.number > 1:
                    open_states.append(_below(self.tape, option))
                elif option.made:
                    found.append(option.made)
        return found

    def _options(self, state: State, mistake: Mistake) -> list[State]:
        """The ways on that give this layer's arrays, the right one last."""
        if state.number < self.highest - 1 and self._fits(state):
            return [state]
        assert mistake.flow is not None
        flows = [flow for flow in mistake.flow(self._site(state)) if _differs(flow, state)]
        wrong = [
            state._replace(dA=flow.dA, dZ=flow.dZ, made=(*state.made, (flow.layer, flow.step)))
            for flow in flows
        ]
        return [option for option in [*wrong, state] if self._fits(option)]

    def _fits(self, state: State) -> bool:
        arrays = _leaves(self.tape, state) if state.made else self.right[state.number][1]
        return all(self.matches(name, array) for name, array in arrays.items())

    def _site(self, state: State) -> Site:
        return Site(self.tape, state.number, state.dA, state.dZ, state.dZ_above, self.given)


def _start(tape: Tape) -> State:
    return State(len(tape.records), tape.dA, tape.dZ, None, ())


def _below(tape: Tape, state: State) -> State:
    record, below = tape.records[state.number - 1], tape.records[state.number - 2]
    dA = state.dZ @ record.layer.W.T
    return State(state.number - 1, dA, dA * below.slope_Z, state.dZ, state.made)


def _leaves(tape: Tape, state: State) -> Arrays:
    return leaves(tape, state.number, state.dA, state.dZ)


def _differs(flow: Flow, state: State) -> bool:
    """Whether the step's numbers are others than the right ones."""
    if flow.dZ.shape != state.dZ.shape or not np.isfinite(flow.dZ).all():
        return False
    return bool(np.abs(flow.dZ - state.dZ).max() > 1e-12 * np.abs(state.dZ).max())


def _diagnosis(mistake: Mistake, made: Made) -> Diagnosis:
    layers = tuple(sorted({layer for layer, _ in made}))
    l, below = (layers[0], layers[0] - 1) if len(layers) == 1 else ("[l]", "[l-1]")
    mend = mistake.mend.format(l=l, below=below)
    return Diagnosis(mistake.name, layers, mend, tuple(step for _, step in made))
