"""Which known mistakes make a wrong gradient: reconstruct it, step by step, and compare.

The search walks from the output to layer 1. Where the right step does not give the candidate's
numbers, every mistake of the table is tried in its place; those that do give them are carried on.
So several mistakes at once are found one after the other, as a student mends them.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxmlp.gradcheck.mistake import Flow, Mistake, Site
from jaxmlp.gradcheck.mistakes import FORWARDS, TABLE
from jaxmlp.gradcheck.naming import Arrays, split
from jaxmlp.gradcheck.tape import (
    ALL,
    Back,
    Record,
    Tape,
    backward_steps,
    below,
    forward_steps,
    leaves,
)
from jaxmlp.gradcheck.wrong_forwards import again

Matches = Callable[[str, np.ndarray], bool]  # whether the candidate's array of that name is this

WIDTH = 24  # ways that are carried on at once
UNKNOWN = Mistake("unknown", "none of the known mistakes gives it", weight=8.0)


class Diagnosis(NamedTuple):
    """Name a mistake that reproduces the candidate's numbers within rounding.

    mistake: its name in the table of `jaxmlp.gradcheck.mistakes`; layers: where it was made, lowest
    first; mend: what to write instead; steps: the arrays that it was made in, as "dW2" or "dA1".
    """

    mistake: str
    layers: tuple[int, ...]
    mend: str
    steps: tuple[str, ...] = ()


class Finding(NamedTuple):
    """What the search found.

    diagnoses: alternatives for the mistake nearest the output; further: what is left when the first
    of them is mended; stuck: the layer at which no known mistake goes on, 0 where all is explained.
    """

    diagnoses: tuple[Diagnosis, ...] = ()
    further: tuple[Diagnosis, ...] = ()
    stuck: int = 0


class Case(NamedTuple):
    """What is to be explained.

    given: the candidate's gradient by name, in any shapes; steps: its steps, each sample's own.
    matches: `matches(name, array)` for both, within rounding.
    """

    given: Arrays
    steps: Arrays
    matches: Matches


def diagnose(tapes: Iterable[Tape], case: Case) -> Finding:
    """Return the mistakes that explain the candidate with the least, from one of the tapes."""
    best = None
    for tape in tapes:
        for ways, enough in _searches(tape, case):
            if best is None or _rank(ways[0]) < _rank(best[0]):
                best = ways
            if best[0].number == 0 and _weight(best[0].made) < min(enough, 2):
                return _finding(best)
            if best[0].number == 0 and _weight(best[0].made) < enough:
                break
    return Finding() if best is None else _finding(best)


# --- a way through the network --------------------------------------------------------------------


class Made(NamedTuple):
    """A mistake at one place."""

    mistake: Mistake
    layer: int
    step: str
    words: tuple[tuple[str, str], ...] = ()


class State(NamedTuple):
    """The walk at one layer, and what was made wrong so far; number 0 is the end.

    off: how many of the given steps are others.
    """

    tape: Tape
    number: int
    back: Back
    back_above: Back | None = None
    made: tuple[Made, ...] = ()
    off: int = 0

    def site(self, case: Case) -> Site:
        return Site(self.tape, self.number, self.back, self.back_above, case.given, case.steps)


def _searches(tape: Tape, case: Case) -> Iterator[tuple[list[State], float]]:
    """The ways with the right forward pass, then with a mistaken one, nearest first.

    With each how much there may be to believe if the next, which costs more, is to be spared.
    """
    right = State(tape, len(tape.records), tape.top)
    first = _first_wrong(right, case)
    forward = _wrong_forward_step(tape, case)
    if first == 0 and not forward:
        return
    plain = _search([right], case, first + 1)
    if not forward:
        yield plain, 2
    has_forward_steps = any(not name.startswith("d") for name in case.steps)
    if forward or (first == right.number and not has_forward_steps):
        starts = list(_mistaken_starts(tape, case, forward))
        # Those that give the output's arrays; all of them only if nothing else is known
        top = [state for state in starts if _is_explained(state, case)]
        for some in (top, starts):
            if some:
                yield _search(some, case, right.number + 1), UNKNOWN.weight
    if forward:
        yield plain, 2


def _first_wrong(state: State, case: Case) -> int:
    """The layer nearest the output whose arrays are not right; 0 where all are."""
    while state.number and _is_explained(state, case):
        state = _below(state)
    return state.number


def _wrong_forward_step(tape: Tape, case: Case) -> str:
    """The first given step of the forward pass that is not right, or nothing."""
    wrong = [
        n
        for n, right in forward_steps(tape).items()
        if n in case.steps and not case.matches(n, right)
    ]
    return wrong[0] if wrong else ""


def _mistaken_starts(tape: Tape, case: Case, wrong: str) -> Iterator[State]:
    """Forward passes with a known mistake that give the steps which were given."""
    found = False
    for mistake in FORWARDS:
        assert mistake.forward is not None
        for other in mistake.forward(tape):
            if _wrong_forward_step(other.tape, case):
                continue
            found = True
            words = tuple(other.words.items())
            made = (Made(mistake, l, f"{other.letter}{l}", words) for l in other.layers)
            yield _start(other.tape, tuple(made))
    if wrong and not found:
        yield _start(_as_given(tape, case.steps), (_unknown(split(wrong)[1], wrong),))


def _start(tape: Tape, made: tuple[Made, ...]) -> State:
    return State(tape, len(tape.records), tape.top, made=made)


def _as_given(tape: Tape, steps: Arrays) -> Tape:
    """The tape with every Z and A as it was given."""

    def Z_of(number: int, record: Record, A_prev: np.ndarray):
        given = steps.get(f"Z{number}")
        return given if given is not None and given.shape == record.Z.shape else None

    def A_of(number: int, record: Record):
        given = steps.get(f"A{number}")
        fits = given is not None and given.shape == record.A.shape
        return (given, record.prime) if fits else None

    return again(tape, Z_of, A_of)


def _given(case: Case, step: str, right: np.ndarray) -> np.ndarray | None:
    """The step as it was given, if it was, in its shape."""
    given = case.steps.get(step)
    return given if given is not None and given.shape == right.shape else None


def _search(states: list[State], case: Case, look_from: int) -> list[State]:
    """Every layer in turn; the best ways, which end at 0 or at the layer where none goes on."""
    while states[0].number:
        groups: dict[tuple, list[State]] = {}
        for state in states:
            groups.setdefault((id(state.tape), id(state.back)), []).append(state)
        options = [new for same in groups.values() for new in _ways_on(same, case, look_from)]
        if not options:
            return states
        options = [option._replace(off=_steps_off(option, case)) for option in options]
        states = _all_below(sorted(options, key=_rank)[:WIDTH])
    return states


def _all_below(states: list[State]) -> list[State]:
    """The states one layer down; those of the same numbers share them."""
    found: dict[tuple, State] = {}
    for state in states:
        key = id(state.tape), id(state.back)
        found[key] = found[key] if key in found else _below(state)
    under = [found[id(state.tape), id(state.back)] for state in states]
    return [
        new._replace(made=old.made, off=old.off) for old, new in zip(states, under, strict=True)
    ]


def _ways_on(states: list[State], case: Case, look_from: int) -> Iterator[State]:
    """The options of states of the same numbers, which differ in what was made wrong before."""
    before = {made.mistake.name: made.mistake for state in states for made in state.made}
    for new in _options(states[0]._replace(made=()), case, look_from, tuple(before.values())):
        for state in states:
            yield new._replace(made=(*state.made, *new.made), off=state.off)


def _rank(state: State) -> tuple:
    # a step that was given and is not met speaks against a way, less than another mistake would
    return state.number, _weight(state.made) + 0.5 * state.off, len(state.made)


def _steps_off(state: State, case: Case) -> int:
    arrays = backward_steps(state.tape, state.number, state.back) if case.steps else {}
    return state.off + sum(not case.matches(n, x) for n, x in arrays.items() if n in case.steps)


def _weight(made: tuple[Made, ...]) -> float:
    """How much there is to believe: the same mistake in several layers is one."""
    return sum({(m.mistake.name, m.words): m.mistake.weight for m in made}.values())


def _below(state: State) -> State:
    if state.number == 1:
        return state._replace(number=0)
    back = below(state.tape, state.number, state.back)
    return state._replace(number=state.number - 1, back=back, back_above=state.back)


# --- one layer ------------------------------------------------------------------------------------


def _options(state: State, case: Case, look_from: int, before: tuple) -> list[State]:
    """The ways on that give this layer's arrays, with as few new mistakes as possible.

    A mistake too small to be told in its own layer may still show in the one below: so the layer
    `look_from`, above the first wrong one, is left by mistaken steps too. before: the mistakes
    that were made further up.
    """
    arrays = _leaves(state)
    wrong = _wrong(arrays, case)
    if not wrong and state.number != look_from:
        return [state]
    # A mistake in the arrays, or in the walk
    found = list(_with_leaves(state, arrays, wrong, case, TABLE))
    mistaken = list(_with_flows(state, case))
    found += [new for new in mistaken if _is_explained(new, case)]
    if found or not wrong:
        return found
    # One in the walk, and another in an array, or one that was made before
    for new in mistaken:
        arrays = _leaves(new)
        wrong = _wrong(arrays, case)
        table = TABLE if len(wrong) < len(arrays) else before
        found += _with_leaves(new, arrays, wrong, case, table)
    return found or list(_unexplained(state, case))


def _leaves(state: State, rows: slice = ALL) -> Arrays:
    return leaves(state.tape, state.number, state.back, rows=rows)


def _wrong(arrays: Arrays, case: Case) -> list[str]:
    return [name for name, array in arrays.items() if not case.matches(name, array)]


def _is_explained(state: State, case: Case) -> bool:
    """Whether the layer's arrays are given so; dW, which costs most, is computed last."""
    cheap = _leaves(state, rows=slice(0))
    del cheap[f"W{state.number}"]
    return not _wrong(cheap, case) and not _wrong(_leaves(state), case)


def _with_flows(state: State, case: Case) -> Iterator[State]:
    """The state with a mistake in dA or dZ."""
    site = state.site(case)
    for mistake in TABLE:
        for flow in mistake.flow(site) if mistake.flow else ():
            if not _differs(flow, state):
                continue
            words = tuple(flow.words.items())
            new = state._replace(back=flow.back)
            yield new._replace(made=(*state.made, Made(mistake, flow.layer, flow.step, words)))
            if mistake.is_factor and state.back_above is not None:
                # a factor of dA[l] = dZ[l+1] @ W[l+1].T is one of dZ[l]
                made = Made(mistake, flow.layer + 1, f"dA{state.number}", words)
                yield new._replace(made=(*state.made, made))


def _differs(flow: Flow, state: State) -> bool:
    """Whether the step's numbers are others than the right ones."""
    new, old = flow.back, state.back
    if new.dZ.shape != old.dZ.shape or not np.isfinite(new.dZ).all():
        return False
    pairs = ((new.dZ, old.dZ), *(() if old.dS is old.dZ else ((new.dS, old.dS),)))
    return any(np.abs(x - y).max() > 1e-12 * np.abs(y).max() for x, y in pairs)


def _with_leaves(state, arrays: Arrays, wrong: list[str], case: Case, table) -> Iterator[State]:
    """The state if each wrong array of its layer is explained by a mistake in it alone."""
    site = state.site(case)
    choices = [list(_explanations(site, name, arrays[name], case, table)) for name in wrong]
    for made in _together(choices) if all(choices) else ():
        yield state._replace(made=(*state.made, *made))


def _explanations(site: Site, name: str, right, case: Case, table) -> Iterator[Made]:
    for mistake in table:
        for leaf in mistake.leaf(site, name, right) if mistake.leaf else ():
            if case.matches(name, leaf.array):
                yield Made(mistake, site.number, f"d{name}", tuple(leaf.words.items()))
                break


def _together(choices: list[list[Made]]) -> list[tuple[Made, ...]]:
    """One explanation for each array, the same mistake in all of them first."""
    return sorted(itertools.product(*(some[:4] for some in choices)), key=_weight)[:WIDTH]


def _unexplained(state: State, case: Case) -> Iterator[State]:
    """Go on where no known mistake does: from dZ as it was given, or if another array is right."""
    l, back = state.number, state.back
    given, dA = _given(case, f"dZ{l}", back.dZ), _given(case, f"dA{l}", back.dA)
    if given is not None and not case.matches(f"dZ{l}", back.dZ):
        is_dA = dA is not None and not case.matches(f"dA{l}", back.dA)
        made = _unknown(l + 1, f"dA{l}") if is_dA else _unknown(l, f"dZ{l}")
        dS = given / state.tape.records[l - 1].alpha
        back = Back(back.dA if dA is None else dA, given, dS, given)
        state = state._replace(back=back, made=(*state.made, made))
    arrays = _leaves(state)
    wrong = _wrong(arrays, case)
    found = list(_with_leaves(state, arrays, wrong, case, TABLE))
    goes_on = l > 1 and _is_explained(_below(state), case)
    if found:
        yield from found
    elif given is not None or goes_on or len(wrong) < len(arrays):
        made = tuple(_unknown(l, f"d{name}") for name in wrong)
        yield state._replace(made=(*state.made, *made))


def _unknown(layer: int, step: str) -> Made:
    return Made(UNKNOWN, layer, step, (("step", step),))


# --- in words -------------------------------------------------------------------------------------


def _finding(ways: list[State]) -> Finding:
    """The best ways as alternatives of the first mistake, and what comes after the very best."""
    least = _rank(ways[0])[:2]
    chains = [_diagnoses(way.made) for way in ways if _rank(way)[:2] == least]
    chains = [chain for chain in chains if chain]
    firsts = dict.fromkeys(chain[0] for chain in sorted(chains, key=lambda c: len(c[0].steps)))
    further = next((chain[1:] for chain in chains if chain[0] == next(iter(firsts))), ())
    return Finding(tuple(firsts), tuple(further), ways[0].number)


def _diagnoses(made: tuple[Made, ...]) -> list[Diagnosis]:
    """One for each mistake, that nearest the output first."""
    groups: dict[tuple, list[Made]] = {}
    for one in made:
        groups.setdefault((one.mistake.name, one.words), []).append(one)
    return [_diagnosis(group) for group in groups.values()]


def _diagnosis(group: list[Made]) -> Diagnosis:
    layers = tuple(sorted({made.layer for made in group}))
    l = layers[0]
    places = {"l": l, "below": l - 1, "above": l + 1}
    if len(layers) > 1:
        places = {"l": "[l]", "below": "[l-1]", "above": "[l+1]"}
    mend = group[0].mistake.mend.format(**places, **dict(group[0].words))
    return Diagnosis(group[0].mistake.name, layers, mend, tuple(made.step for made in group))
