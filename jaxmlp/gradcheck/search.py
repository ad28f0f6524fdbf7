"""Which known mistakes make a wrong gradient: reconstruct it, step by step, and compare.

The search walks from the output to layer 1. Where the right step does not give the candidate's
numbers, every known mistake is tried in its place, and those that do give them are carried on. So
several mistakes at once are found one after the other, as a student mends them.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Set
from typing import NamedTuple

import numpy as np

from jaxmlp.gradcheck.edits import IN_ARRAYS, explanations
from jaxmlp.gradcheck.forwards import again, forwards
from jaxmlp.gradcheck.judge import Given
from jaxmlp.gradcheck.mistakes import FACTORS, MENDS, UNKNOWN, Diagnosis, Made, diagnoses, weight
from jaxmlp.gradcheck.names import Arrays, split
from jaxmlp.gradcheck.steps import of_step
from jaxmlp.gradcheck.tape import Place, Tape, backward_steps, below, forward_steps, leaves, top

BEAM = 24  # ways that are carried on at once
ANY = set(MENDS)  # mistakes
BELIEVED = 2  # mistakes: a way with fewer ends the search


class Finding(NamedTuple):
    """What the search found.

    diagnoses: alternatives for the mistake nearest the output; further: what is left when the first
    of them is mended; stuck: the layer at which no known mistake goes on, 0 if all is explained.
    """

    diagnoses: tuple[Diagnosis, ...] = ()
    further: tuple[Diagnosis, ...] = ()
    stuck: int = 0


class Case(NamedTuple):
    """What is to be explained.

    given: the candidate's gradient by name, in any shapes; steps: its steps, each sample's own.
    """

    given: dict[str, Given]
    steps: dict[str, Given]

    def matches(self, name: str, array: np.ndarray) -> bool:
        """Whether the candidate's array or step is this one, within rounding, or missing."""
        one = self.given.get(name) or self.steps.get(name)
        return one is None or one.matches(array)

    def step(self, name: str, right: np.ndarray) -> np.ndarray | None:
        """A given step, if it has the shape of the right one."""
        one = self.steps.get(name)
        return one.raw if one is not None and one.raw.shape == right.shape else None


class Way(NamedTuple):
    """A place of the walk, and the mistakes that lead there.

    off: how many of the given steps differ from those of the way.
    """

    place: Place
    made: tuple[Made, ...] = ()
    off: int = 0

    @property
    def weight(self) -> float:
        """How much there is to believe: the same mistake in several layers is one."""
        different = {(made.mistake, made.words) for made in self.made}
        return sum(weight(mistake) for mistake, _ in different)

    @property
    def rank(self) -> tuple:
        # A given step that differs speaks against a way, but less than another mistake would
        return self.weight + 0.5 * self.off, len(self.made)


class Walked(NamedTuple):
    """The ways of one search, the best first; stuck: the layer that none explains, or 0."""

    ways: list[Way]
    stuck: int

    @property
    def rank(self) -> tuple:
        return self.stuck, *self.ways[0].rank


def diagnose(tapes: Iterable[Tape], case: Case) -> Finding:
    """Return the mistakes that explain the candidate with the least, from one of the tapes."""
    best = None
    for tape in tapes:
        for walked, enough in _searches(tape, case):
            if best is None or walked.rank < best.rank:
                best = walked
            price = np.inf if best.stuck else best.ways[0].weight
            if price < min(enough, BELIEVED):
                return _finding(best)
            if price < enough:
                break
    return Finding() if best is None else _finding(best)


def _searches(tape: Tape, case: Case) -> Iterator[tuple[Walked, float]]:
    """Yield the ways with the right forward pass and with a mistaken one, the likelier first.

    With each comes the weight below which the next search, which costs more, is not needed.
    """
    output = top(tape)
    first = _first_wrong(output, case)
    forward = _wrong_forward_step(tape, case)
    if first == 0 and not forward:
        return
    plain = _search([Way(output)], case, first + 1)
    if not forward:
        yield plain, BELIEVED
    has_forward_steps = any(not name.startswith("d") for name in case.steps)
    if forward or (first == output.number and not has_forward_steps):
        starts = list(_mistaken_starts(tape, case, forward))
        # Those that give the output's arrays; all of them only if nothing else is known
        good = [way for way in starts if _is_explained(way.place, case)]
        for some in (good, starts):
            if some:
                yield _search(some, case, output.number + 1), weight(UNKNOWN)
    if forward:
        yield plain, BELIEVED


def _first_wrong(place: Place, case: Case) -> int:
    """The layer nearest the output whose arrays are not right; 0 if all are."""
    while _is_explained(place, case):
        if place.number == 1:
            return 0
        place = below(place)
    return place.number


def _wrong_forward_step(tape: Tape, case: Case) -> str:
    """The first given step of the forward pass that is not right, or ""."""
    wrong = (name for name, x in forward_steps(tape).items() if not case.matches(name, x))
    return next(wrong, "")


def _mistaken_starts(tape: Tape, case: Case, wrong: str) -> Iterator[Way]:
    """Forward passes with a known mistake that give the steps which were given."""
    found = False
    for other in forwards(tape):
        if not _wrong_forward_step(other.tape, case):
            found, words = True, tuple(other.words.items())
            made = (Made(other.mistake, l, f"{other.step}{l}", words) for l in other.layers)
            yield Way(top(other.tape), tuple(made))
    if wrong and not found:
        right = forward_steps(tape)
        given = {name: case.step(name, x) for name, x in right.items()}
        given = {name: x for name, x in given.items() if x is not None}
        yield Way(top(again(tape, steps=given)), (_unknown(split(wrong)[1], wrong),))


# --- the walk -------------------------------------------------------------------------------------


def _search(ways: list[Way], case: Case, look_from: int) -> Walked:
    """Go from layer to layer, down to the first or to the one where no way goes on."""
    for number in range(ways[0].place.number, 0, -1):
        # Ways that meet at one place share the search for what goes on from it
        groups: dict[Place, list[Way]] = {}
        for way in ways:
            groups.setdefault(way.place, []).append(way)
        options = []
        for start, same in groups.items():
            before = {made.mistake for way in same for made in way.made}
            for place, made in _options(start, case, look_from, before):
                off = _steps_off(place, case)
                options += [Way(place, (*way.made, *made), way.off + off) for way in same]
        if not options:
            return Walked(ways, number)
        # The best go on, and those that met stay together
        ways = sorted(options, key=lambda way: way.rank)[:BEAM]
        if number > 1:
            under = {place: below(place) for place in {way.place for way in ways}}
            ways = [way._replace(place=under[way.place]) for way in ways]
    return Walked(ways, 0)


def _steps_off(place: Place, case: Case) -> int:
    arrays = backward_steps(place) if case.steps else {}
    return len(_wrong(arrays, case))


# --- one layer ------------------------------------------------------------------------------------

Option = tuple[Place, tuple[Made, ...]]


def _options(place: Place, case: Case, look_from: int, before: set[str]) -> list[Option]:
    """The ways on that give this layer's arrays, with as few new mistakes as possible.

    A mistake too small to be told in its own layer may still show in the one below: so the layer
    `look_from`, above the first wrong one, is left by mistaken steps too. before: the mistakes
    that were made further up.
    """
    arrays = leaves(place)
    wrong = _wrong(arrays, case)
    if not wrong and place.number != look_from:
        return [(place, ())]
    # A mistake in the arrays, or in a step of the way back
    found = [(place, made) for made in _in_arrays(place, arrays, wrong, case, ANY)]
    known = before & IN_ARRAYS
    mistaken = list(_in_steps(place, arrays, case, bool(known)))
    found += [way for way, seen in mistaken if all(seen) and _is_explained(way[0], case)]
    if found or not wrong:
        return found
    # One in a step, and another in an array, or one that was made before
    for (new, made), _ in mistaken:
        arrays = leaves(new)
        wrong = _wrong(arrays, case)
        some = ANY if len(wrong) < len(arrays) else known
        found += [(new, (*made, *more)) for more in _in_arrays(new, arrays, wrong, case, some)]
    return found or list(_unexplained(place, case))


def _wrong(arrays: Arrays, case: Case) -> list[str]:
    return [name for name, array in arrays.items() if not case.matches(name, array)]


def _is_explained(place: Place, case: Case) -> bool:
    """Whether the layer's arrays are the given ones."""
    return not _wrong(leaves(place), case)


def _in_steps(
    place: Place, arrays: Arrays, case: Case, every: bool
) -> Iterator[tuple[Option, list[bool]]]:
    """The places with a mistake in dA or dZ, and which arrays of the layer may be right there.

    every: also those at which no array can be.
    """
    glances = [_glance(place, name, case.given.get(name)) for name in arrays]
    dZ = case.step(f"dZ{place.number}", place.dZ)
    for flow in of_step(place, arrays, case.given, dZ):
        if flow.place.dZ.shape != place.dZ.shape:
            continue
        seen = [glance(flow.place.dZ) for glance in glances]
        if not (every or any(seen)) or not _differs(flow.place, place):
            continue
        words, number = tuple(flow.words.items()), place.number
        plain = flow.step == "dU" and flow.place.dZ is flow.place.dU
        step = f"{'dZ' if plain else flow.step}{number}"
        layer = number + 1 if flow.step == "dA" else number
        yield (flow.place, (Made(flow.mistake, layer, step, words),)), seen
        if flow.mistake in FACTORS and place.above is not None:
            # A factor of dA[l] = dZ[l+1] @ W[l+1].T is one of dZ[l]
            yield (flow.place, (Made(flow.mistake, number + 1, f"dA{number}", words),)), seen


def _glance(place: Place, name: str, given: Given | None) -> Callable[[np.ndarray], bool]:
    """Return whether a dZ may give an array, by one entry of it; True of what is no dW or db."""
    field, n = split(name)[0], place.tape.divisor
    if given is None or given.at is None or field not in "Wb":
        return lambda dZ: True
    *row, column = given.at
    if field == "b":
        return lambda dZ: given.may_be(dZ[:, column].sum() / n)
    A = place.record.A_prev[:, row[0]] / n
    return lambda dZ: given.may_be(A @ dZ[:, column])


def _differs(new: Place, old: Place) -> bool:
    """Whether a step's numbers differ from the right ones."""
    if not np.isfinite(new.dZ).all():
        return False
    pairs = (new.dZ, old.dZ), (new.dS, old.dS)
    # 1e-12: the two are computed in other orders, which rounds by some eps
    return any(np.abs(x - y).max() > 1e-12 * np.abs(y).max() for x, y in pairs)


def _in_arrays(
    place: Place, arrays: Arrays, wrong: list[str], case: Case, known: Set[str]
) -> list[tuple[Made, ...]]:
    """One explanation for each wrong array, the same mistake in all of them first."""
    choices = []
    for name in wrong:
        found = explanations(place, name, arrays[name], case.given[name], known)
        if not found:
            return []
        choices.append(
            [Made(one, place.number, f"d{name}", tuple(of.items())) for one, of in found.items()]
        )
    # Four alternatives for one array are enough: their combinations grow fast
    together = itertools.product(*(some[:4] for some in choices))
    return sorted(together, key=lambda made: Way(place, made).weight)[:BEAM]


def _unexplained(place: Place, case: Case) -> Iterator[Option]:
    """Go on where no known mistake does: from dZ as it was given, or if another array is right."""
    # The steps that were given
    l, made = place.number, ()
    dZ, dA = case.step(f"dZ{l}", place.dZ), case.step(f"dA{l}", place.dA)
    if dZ is not None and not case.matches(f"dZ{l}", place.dZ):
        is_dA = dA is not None and not case.matches(f"dA{l}", place.dA)
        made = (_unknown(l + 1, f"dA{l}") if is_dA else _unknown(l, f"dZ{l}"),)
        dA, dS = place.dA if dA is None else dA, dZ / place.record.alpha
        place = dataclasses.replace(place, dA=dA, dU=dZ, dS=dS, dZ=dZ)
    # Its arrays, by known mistakes or as unknown ones
    arrays = leaves(place)
    wrong = _wrong(arrays, case)
    found = _in_arrays(place, arrays, wrong, case, ANY)
    if found:
        yield from ((place, (*made, *more)) for more in found)
        return
    is_right_below = l > 1 and _is_explained(below(place), case)
    if dZ is not None or len(wrong) < len(arrays) or is_right_below:
        yield place, (*made, *(_unknown(l, f"d{name}") for name in wrong))


def _unknown(layer: int, step: str) -> Made:
    return Made(UNKNOWN, layer, step, (("step", step),))


# --- in words -------------------------------------------------------------------------------------


def _finding(walked: Walked) -> Finding:
    """The best ways as alternatives of the first mistake, and what comes after the very best."""
    least = walked.ways[0].rank[0]
    chains = [diagnoses(way.made) for way in walked.ways if way.rank[0] == least]
    chains = [chain for chain in chains if chain]
    firsts = dict.fromkeys(chain[0] for chain in sorted(chains, key=lambda c: len(c[0].steps)))
    further = next((chain[1:] for chain in chains if chain[0] == next(iter(firsts))), ())
    return Finding(tuple(firsts), tuple(further), walked.stuck)
