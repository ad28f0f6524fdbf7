"""What is right, how exactly that can be said in each precision, and by which route."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxmlp import losses
from jaxmlp.compare import magnitude
from jaxmlp.gradcheck import numeric, references
from jaxmlp.gradcheck.names import cast, dtype_of, eps_of, is_layered, listed, split
from jaxmlp.gradcheck.numbers import size
from jaxmlp.gradcheck.references import FLOAT64, Reference
from jaxmlp.gradcheck.rounding import Rounding, rounding
from jaxmlp.gradcheck.tape import Tape, forward
from jaxmlp.objective import Objective
from jaxmlp.storage import count, layers


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """The references for one J at one set of arguments.

    J: under test; plain: what autodiff differentiates, J or the caller's reference. trusted:
    whether autodiff of it is independent of rules of the user's own. narrow: the precision that J
    computes in, should it cast to less than float64. tape, rounding: of an Objective alone.
    by_sum: the tape of `dZ = A - Y` where rows of Y sum to 1 up to rounding only and J's own
    derivative is `A sum(Y) - Y`.
    """

    J: Any
    plain: Callable
    args: tuple
    right: Reference
    trusted: bool
    narrow: np.dtype
    notes: tuple[str, ...]
    disputes: tuple[str, ...]
    tape: Tape | None = None
    by_sum: Tape | None = None
    rounding: Rounding | None = None

    @property
    def layered(self) -> bool:
        return is_layered(self.args[0])

    @functools.cached_property
    def num_layers(self) -> int:
        """L, or the number of arrays outside of networks: what the rounding error grows with."""
        return sum(map(count, self.args[0])) if self.layered else len(self.right.gradient)

    @property
    def tapes(self) -> list[Tape]:
        """Those that are right."""
        return [tape for tape in (self.tape, self.by_sum) if tape is not None]

    @property
    def zeros(self) -> set[str]:
        """The arrays that are exactly zero and have to be: of a network only those below act' = 0,
        as that of a step."""
        zero = {name for name, array in self.right.gradient.items() if not array.any()}
        if self.tape is None:
            return zero
        flat = [r.prime is not None and not r.prime.any() for r in self.tape.records]
        return {name for name in zero if any(flat[split(name)[1] - 1 :])}

    def floor(self, dtype) -> float:
        """The relative difference that rounding makes anywhere: eps sqrt(L)."""
        return max(map(eps_of, (dtype, self.narrow))) * self.num_layers**0.5

    def errors(self, dtype) -> dict[str, float]:
        """What rounding in dtype does to each array, relative; inf where dtype cannot tell."""
        dtype = max((np.dtype(dtype), self.narrow), key=eps_of)
        names = list(self.right.arrays)
        if self.right.dtype != FLOAT64:
            return references.errors_of_moving(self.plain, self.args, self.right)
        try:
            found = [dict.fromkeys(names, 0.0)]
            if dtype != FLOAT64:
                found += [references.errors_of_autodiff(self.plain, self.args, dtype, self.right)]
            if self.rounding is None:
                found += [references.errors_nearby(self.plain, self.args, dtype, self.right)]
        except (TypeError, ValueError, NotImplementedError):  # J does not run in this dtype
            return dict.fromkeys(names, np.inf)
        if self.rounding is not None:
            eps, growth = eps_of(dtype), self.rounding.growth
            found += [
                {name: eps * (growth[name] / size(self.right.arrays[name])) for name in names}
            ]
        return {name: max(errors[name] for errors in found) for name in names}


def establish(J: Callable, args: tuple, reference: Callable | None) -> Truth:
    """Return the references; what J itself refuses raises."""
    plain = J if reference is None else reference
    right, notes = _autodiff(plain, args)
    inside = references.look_inside(plain, args, right.dtype)
    own_rules = inside.own_rules if inside else ()
    narrow = np.dtype(inside.narrow) if inside and inside.narrow else right.dtype
    if inside and inside.narrow:
        notes += (f"J casts to {inside.narrow} inside: the reference is no better than that",)
    disputes = tuple(_not_finite(right))
    if reference is not None:
        disputes += _reference_disputes(J, plain, args, right, own_rules)
        if rules := _rules(J, args, right.dtype):
            notes += (f"J holds a rule of your own, {rules}: judged by the reference instead",)
    elif own_rules:
        notes += (
            f"J holds a rule of your own, {', '.join(own_rules)}: autodiff of J is the rule under "
            "test, so the numeric route judges; reference= takes a plain function",
        )
    truth = Truth(
        J, plain, args, right, reference is not None or not own_rules, narrow, notes, disputes
    )
    return _with_tape(truth) if isinstance(J, Objective) and right.dtype == FLOAT64 else truth


def _autodiff(J: Callable, args: tuple) -> tuple[Reference, tuple[str, ...]]:
    try:
        return references.autodiff(J, args, FLOAT64), ()
    except Exception as error:  # whatever J makes of float64; its own dtype then raises, or runs
        own = dtype_of(args[0])
        if own == FLOAT64:
            raise
        right = references.autodiff(J, args, own)
        reason = (str(error).splitlines() or [""])[0]
        note = f"J does not run in float64 ({type(error).__name__}: {reason}): compared in {own}"
        return right, (note,)


def _not_finite(right: Reference) -> Iterator[str]:
    if not np.isfinite(right.value):
        yield f"J is {right.value} here: there is no gradient to compare with"
        return
    names = [name for name, array in right.gradient.items() if not np.isfinite(array).all()]
    if names:
        yield f"J is finite here, but its gradient by autodiff is not, in {listed(names)}"


def _rules(J: Callable, args: tuple, dtype) -> str:
    inside = references.look_inside(J, args, dtype)
    return ", ".join(inside.own_rules) if inside else ""


def _reference_disputes(J, plain, args, right: Reference, own_rules) -> tuple[str, ...]:
    found = []
    if not np.isfinite(right.value):
        return ()
    if own_rules:
        found.append(f"the reference holds a rule of its own, {', '.join(own_rules)}")
    with jax.enable_x64(right.dtype == FLOAT64):
        value = float(J(*(cast(args, right.dtype))))
    if not abs(value - right.value) <= max(1e-6, 1e3 * eps_of(right.dtype)) * abs(right.value):
        found.append(f"J is {value:.10g} here, but the reference {right.value:.10g}")
    return tuple(found)


def _with_tape(truth: Truth) -> Truth:
    with jax.enable_x64(True), np.errstate(all="ignore"):
        params, X, Y = cast(truth.args, FLOAT64)
        plain = layers(jax.tree.map(np.asarray, params))
        tape = forward(truth.J, plain, X, Y)
        growth = rounding(truth.J, plain, X, Y, tape)
        by_sum = None
        off = np.abs(tape.Y.sum(axis=1) - 1).max(initial=0)
        if truth.J.loss == losses.cross_entropy and off > 4 * eps_of(FLOAT64):
            by_sum = tape._replace(dZ=tape.records[-1].A - tape.Y)
    return dataclasses.replace(truth, tape=tape, by_sum=by_sum, rounding=growth)


# --- the second route -----------------------------------------------------------------------------

Lines = dict[str, list[numeric.Line]]


@dataclasses.dataclass(frozen=True, eq=False)
class Sight:
    """The numeric derivative of J along one random direction of one array."""

    line: numeric.Line
    seen: numeric.Seen

    @property
    def direction(self) -> np.ndarray:
        return self.line.direction

    def difference(self, gradient: np.ndarray) -> float:
        """`|<gradient, v> - derivative|`, relative to the length of gradient * v."""
        error = abs(np.vdot(gradient, self.direction) - self.seen.derivative)
        return float(error / self.size(gradient))

    def resolution(self, gradient: np.ndarray, doubt: float = 0.0) -> float:
        """How far that difference may be off: by the route's own error, and a doubt of each entry
        of the gradient."""
        error = max(8 * self.seen.error, doubt * float(np.linalg.norm(self.direction)))
        return float(error / self.size(gradient))

    def size(self, gradient: np.ndarray) -> float:
        terms = gradient * self.direction
        k = magnitude(terms)
        length = np.ldexp(np.linalg.norm(np.ldexp(terms, -k)), k)
        return max(float(length), abs(self.seen.derivative), np.finfo(float).tiny)


def sights(truth: Truth, names: list[str], directions: int) -> dict[str, list[Sight]]:
    """Return for each array the derivatives along some directions that could be seen."""
    if truth.narrow != FLOAT64:
        return {name: [] for name in names}
    with jax.enable_x64(True):
        args = cast(truth.args, FLOAT64)
        lines = {name: numeric.lines(truth.J, args, name, directions) for name in names}
        found = _looked(truth.J, lines)
    return {
        name: [
            Sight(line, seen)
            for line, seen in zip(lines[name], found[name], strict=True)
            if not _is_blind(seen)
        ]
        for name in names
    }


def _looked(J: Callable, lines: Lines) -> dict[str, list[numeric.Seen]]:
    """By complex step where that is known to be right, then by differences, then by a complex
    step that the differences confirm."""
    by_step = numeric.complex_is_right(J)
    first = numeric.complex_step if by_step else numeric.central
    found = {name: list(map(first, own)) for name, own in lines.items()}
    blind = {name: lines[name] for name, seen in found.items() if any(map(_is_blind, seen))}
    if by_step:
        return found | {name: list(map(numeric.central, own)) for name, own in blind.items()}
    if isinstance(J, Objective) or not _confirmed(lines, found, set(blind)):
        return found
    return found | {name: list(map(numeric.complex_step, own)) for name, own in blind.items()}


def _is_blind(seen: numeric.Seen) -> bool:
    return not seen.route or not seen.error <= 0.02 * abs(seen.derivative)


def _confirmed(lines: Lines, found: dict[str, list[numeric.Seen]], blind: set[str]) -> bool:
    """Whether the complex step agrees with the differences wherever they see."""
    pairs = [
        (numeric.complex_step(line), seen)
        for name in (found.keys() - blind if blind else ())
        for line, seen in zip(lines[name], found[name], strict=True)
    ]
    return bool(pairs) and all(
        step.route and abs(step.derivative - seen.derivative) <= 8 * seen.error
        for step, seen in pairs
    )
