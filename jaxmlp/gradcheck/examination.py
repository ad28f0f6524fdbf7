"""One candidate before one truth: every array compared by itself, and a diagnosis."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxmlp.gradcheck import answers, wholes
from jaxmlp.gradcheck.answers import Answer
from jaxmlp.gradcheck.certificate import (
    Certificate,
    Row,
    Verdict,
    environment,
    order,
)
from jaxmlp.gradcheck.names import Arrays, cast, dtype_of, eps_of, listed, split
from jaxmlp.gradcheck.numbers import Numbers, error, flushed, numbers, size
from jaxmlp.gradcheck.precision import SAFETY, Precision
from jaxmlp.gradcheck.references import FLOAT64
from jaxmlp.gradcheck.tape import backward
from jaxmlp.gradcheck.truth import Sight, Truth, sights
from jaxmlp.storage import layers

ROUTED = 32  # arrays that the second route looks at; of more, so many at equal distances
NAN = float("nan")
ZERO = "exactly zero here: nothing was tested"
LOST = "lost in cancellation here"
DOUBTFUL = "autodiff and complex step differ here, and J's differences are too coarse to tell"


@dataclasses.dataclass(frozen=True, eq=False)
class Examination:
    """One candidate before one truth; every part is computed once, when it is asked for."""

    candidate: Callable
    truth: Truth
    rtol: float | None

    def certificate(self) -> Certificate:
        """The verdicts; `explanation.explained` adds notes and diagnoses."""
        return Certificate(
            tuple(map(self._row, self.truth.right.gradient)),
            steps=tuple(self._step_rows()),
            value=self._value_row(),
            disputes=(*self.truth.disputes, *self._disputed()),
            notes=(*self.truth.notes, *self.answer.notes),
            dtype=str(self.own.dtype),
            **environment(),
        )

    # --- what the candidate says ------------------------------------------------------------------

    @functools.cached_property
    def answer(self) -> Answer:
        return self._asked(self.truth.args)

    @functools.cached_property
    def exact_answer(self) -> Answer | None:
        """The answer to the same question in float64; None where the candidate cannot."""
        if self.truth.right.dtype != FLOAT64:
            return None
        try:
            with jax.enable_x64(True):
                answer = self._asked(cast(self.truth.args, FLOAT64))
        except Exception:  # a candidate for one dtype alone
            return None
        exact = answer.gradient and answer.dtype == FLOAT64
        return answer if exact and not self._is_coarse(answer) else None

    def _is_coarse(self, answer: Answer) -> bool:
        """Whether float64 arrays hold the errors of float32 on the way."""
        right = self.truth.right.gradient
        known = self.truth.trusted and self.rtol is None and self.truth.right.dtype == FLOAT64
        if not known or answer.dtype != FLOAT64 or answer.gradient.keys() != right.keys():
            return False
        # A look that costs nothing, before float32 is asked what it does
        pairs = [(x, right[name]) for name, x in answer.gradient.items()]
        errors = [error(x, r) for x, r in pairs if x.shape == r.shape]
        if len(errors) < len(right) or not 1e-10 < max(errors) < 1e-3:
            return False
        coarse = Precision(self.truth, np.dtype(np.float32), None)
        tolerances = {name: coarse.tolerance(name) for name in right}
        differences = wholes.step_of_differences(answer.gradient, self.truth.right.value)
        return differences is None and wholes.holds_float32(answer.gradient, right, tolerances)

    def _asked(self, args: tuple) -> Answer:
        if self.truth.layered:  # one for each of 1..L, also if `init` stacks them
            args = (type(args[0])(layers(args[0])), *args[1:])
        copies = jax.tree.map(lambda x: x.copy() if isinstance(x, np.ndarray) else x, args)
        result = self.candidate(*copies)
        answer = answers.read(result, self.truth.args[0])
        if not all(map(_equal, jax.tree.leaves(copies), jax.tree.leaves(args))):
            note = "the candidate changed its arguments in place (undone here): it should not"
            answer = answer._replace(notes=(*answer.notes, note))
        right = self.truth.right.gradient
        shapes = {name: array.shape for name, array in right.items()}
        agrees = lambda n, x: numbers(x, right[n], 1.0).difference <= 1e-2  # noqa: E731
        if self.truth.layered and answers.in_columns(answer.gradient, shapes, agrees):
            answer = answers.to_rows(answer)
        settled = {n: answers.settled(x, shapes[n]) for n, x in answer.gradient.items()}
        return answer._replace(gradient=settled)

    @functools.cached_property
    def own(self) -> Precision:
        """The candidate's: the coarsest dtype among parameters and gradients, and on the way."""
        dtypes = [dtype_of(self.truth.args[0]), self.answer.dtype]
        if self._is_coarse(self.answer):
            dtypes.append(np.dtype(np.float32))
        return Precision(self.truth, max(dtypes, key=eps_of), self.rtol)

    @functools.cached_property
    def exact(self) -> Precision:
        return Precision(self.truth, FLOAT64, self.rtol)

    # --- verdicts ---------------------------------------------------------------------------------

    @functools.cached_property
    def judged(self) -> dict[str, tuple[np.ndarray, Precision]]:
        """By name the array that decides, and in which precision."""
        found = {}
        half = self.own.dtype.itemsize <= 2  # too coarse to tell much, wherever float64 can
        for name, array in self.answer.gradient.items():
            if self.exact_answer is None or (self.own.decides(name) and not half):
                found[name] = array, self.own
            else:
                found[name] = self.exact_answer.gradient.get(name, array), self.exact
        return found

    def _row(self, name: str) -> Row:
        row = Row(name, (split(name)[1] if self.truth.layered else None), Verdict.MISSING)
        if name not in self.judged:
            return row
        array, precision = self.judged[name]
        if not self.truth.trusted:
            return self._by_second_route(row, array, precision)
        right = self.truth.right.gradient[name]
        row = precision.compared(row, array, right, precision.tolerance(name))
        row = row._replace(second_route=self._second_route(name, array))
        if row.is_right and not right.any():
            return row.undecided(ZERO)
        if name in self.disagreements and (row.is_right or self._is_seen(name, array)):
            return row.undecided(DOUBTFUL)
        decided = precision.decides(name) if row.is_right else precision.reaches(name)
        if row.verdict in (Verdict.RIGHT, Verdict.WRONG) and not decided:
            why = LOST if precision.reaches(name) else f"too small here for {precision.dtype}"
            return row.undecided(why)
        return row if precision is self.own else self._as_it_came(row)

    def _as_it_came(self, row: Row) -> Row:
        """A row that float64 judged: in its own dtype it must not be far off either."""
        right, given = self.truth.right.gradient[row.name], self.answer.gradient[row.name]
        tolerance = self.own.tolerance(row.name)
        if not row.is_right or not np.isfinite(tolerance):  # inf: jax.grad is not finite there
            return row
        same = self.own.compared(row, given, right, tolerance)
        tiny = np.abs(flushed(given)).max(initial=0) <= 1e-20 + 10 * np.abs(right).max(initial=0)
        return row if same.is_right or tiny else same

    def _value_row(self) -> Row | None:
        given, precision, truth = self.answer.value, self.own, self.truth
        if given is None:
            return None
        if not np.isfinite(self.own.errors["J"]) and self.exact_answer is not None:
            given, precision = self.exact_answer.value, self.exact
        row, array = Row("J", None, Verdict.WRONG_SHAPE), answers.number(given)
        if array is None:
            return row._replace(dtype=str(precision.dtype))
        size = truth.tape.size if truth.tape else 0.0  # of the loss's terms, which may cancel in it
        right = np.asarray(truth.right.value + size)
        return precision.compared(row, array + size, right, precision.tolerance("J"))

    @property
    def given_steps(self) -> Arrays:
        """Those of the candidate's steps that this network has."""
        return {name: x for name, x in self.answer.steps.items() if name in self.steps}

    @functools.cached_property
    def steps(self) -> Arrays:
        assert self.truth.tape is not None
        return backward(self.truth.tape)

    def _step_rows(self) -> list[Row]:
        """The steps that the candidate gave, each against each sample's own, or that by m."""
        if self.truth.tape is None or not self.given_steps:
            return []
        exact, share, rows = self.steps, self.share, []
        for name in sorted(self.given_steps, key=order):
            scale = share if name.startswith("d") else 1.0
            row, given = Row(name, split(name)[1], Verdict.UNDECIDED), self.given_steps[name]
            tolerance = self.own.step_tolerance(name, exact[name])
            rows.append(self.own.compared(row, given, exact[name] * scale, tolerance, scale))
        return rows

    @functools.cached_property
    def share(self) -> float:
        """1 where dZ is each sample's own, 1/m where it is that of the mean, by the first step."""
        assert self.truth.tape is not None
        exact, m = self.steps, self.truth.tape.divisor
        for name in sorted(self.given_steps, key=order):
            given = self.given_steps[name]
            if name.startswith("d") and given.shape == exact[name].shape:
                ratio = numbers(given, exact[name], 1.0).norm_ratio
                return 1 / m if ratio > 0 and abs(np.log(ratio * m)) < abs(np.log(ratio)) else 1.0
        return 1.0

    # --- the second route -------------------------------------------------------------------------

    @functools.cached_property
    def sights(self):
        names = list(self.judged)
        if self.truth.trusted:
            at_kinks = self._at_kinks()
            names = [name for name in names if name not in at_kinks]
            picked = np.linspace(0, len(names) - 1, min(len(names), ROUTED)).round().astype(int)
            names = [names[i] for i in picked]
        return sights(self.truth, names, directions=2 if self.truth.trusted else 3)

    def _at_kinks(self) -> set[str]:
        """The arrays for which a kink makes the two sides' derivatives differ."""
        right = self.truth.right.gradient
        return {
            name
            for arrays in self.own.variants
            for name in right
            if numbers(arrays[name], right[name], 1.0).difference > 1e-9
        }

    def _is_seen(self, name: str, array: np.ndarray) -> bool:
        """Whether the numeric derivative of J agrees with the array."""
        given, seen = flushed(array), self.sights[name]
        same_shape = array.shape == self.truth.right.gradient[name].shape
        return same_shape and all(
            s.difference(given) <= max(1e-6, s.resolution(given)) for s in seen
        )

    def _second_route(self, name: str, array: np.ndarray) -> str:
        if name not in self.sights or array.shape != self.truth.right.gradient[name].shape:
            return ""
        seen = self.sights[name]
        if not seen:
            return "cannot see"
        worst = max(sight.difference(flushed(array)) for sight in seen)
        return f"{worst:.0e} {seen[0].seen.route}"

    def _disputed(self) -> list[str]:
        """Where autodiff and the numeric route do not agree, neither can be trusted."""
        off = [name for name, disputed in self.disagreements.items() if disputed]
        if not off:
            return []
        return [
            f"autodiff of J and its numeric derivative disagree in {listed(off)}: J holds a rule "
            "or a stop_gradient that is not its derivative; give reference="
        ]

    @functools.cached_property
    def disagreements(self) -> dict[str, bool]:
        """The arrays in which autodiff and the numeric route disagree, and whether that disputes J.

        It does not if only a complex step says so, of a J that nobody knows: a function that
        saturates has a slope there which real numbers do not have.
        """
        found = {}
        for name, seen in self.sights.items() if self.truth.trusted else ():
            routes = {sight.seen.route for sight in self._disagreeing(name, seen)}
            if routes:
                found[name] = self.truth.tape is not None or routes != {"complex step"}
        return found

    def _disagreeing(self, name: str, seen: list[Sight]) -> Iterator[Sight]:
        """The sights that autodiff does not agree with, by more than rounding explains."""
        right = self.truth.right.gradient[name]
        doubt = SAFETY * self.exact.errors[name] * size(right)
        for sight in seen:
            if sight.difference(right) > max(1e-6, sight.resolution(right, doubt)):
                yield sight

    def _by_second_route(self, row: Row, array: np.ndarray, precision: Precision) -> Row:
        """The verdict where autodiff is the rule under test."""
        row = row._replace(dtype=str(precision.dtype))
        if array.shape != self.truth.right.gradient[row.name].shape:
            return row._replace(verdict=Verdict.WRONG_SHAPE)
        if not np.isfinite(array).all():
            return row._replace(verdict=Verdict.NOT_FINITE)
        seen, given = self.sights[row.name], flushed(array)
        if not seen:
            why = "the numeric derivative cannot see it here"
            return row._replace(verdict=Verdict.UNDECIDED, second_route="cannot see", why=why)
        tolerance = precision.tolerance(row.name)
        allowed = max(tolerance, *(sight.resolution(given) for sight in seen))
        worst = max(sight.difference(given) for sight in seen)
        if not given.any() and not any(sight.seen.derivative for sight in seen):
            return row.undecided(ZERO)
        return row._replace(
            verdict=Verdict.RIGHT if worst <= allowed else Verdict.WRONG,
            numbers=Numbers(worst, NAN, NAN, 0, NAN),
            tolerance=allowed,
            second_route=self._second_route(row.name, array),
        )


def _equal(a: Any, b: Any) -> bool:
    return not isinstance(a, np.ndarray) or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
