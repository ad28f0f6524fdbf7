"""One candidate before one truth: every array compared by itself, and a diagnosis."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxmlp.gradcheck import answers
from jaxmlp.gradcheck.answers import Answer
from jaxmlp.gradcheck.certificate import RIGHT, UNDECIDED, Certificate, Row, environment, order
from jaxmlp.gradcheck.diagnosis import Diagnosis, diagnose
from jaxmlp.gradcheck.naming import Arrays, cast, dtype_of, eps_of, layer_of, split
from jaxmlp.gradcheck.numbers import Numbers, flushed, numbers
from jaxmlp.gradcheck.precision import SAFETY, Precision
from jaxmlp.gradcheck.references import FLOAT64
from jaxmlp.gradcheck.tape import backward
from jaxmlp.gradcheck.truth import Sight, Truth, sights

ROUTED = 32  # arrays that the second route looks at; of more, so many at equal distances
NAN = float("nan")


@dataclasses.dataclass(frozen=True, eq=False)
class Examination:
    """One candidate before one truth; every part is computed once, when it is asked for."""

    candidate: Callable
    truth: Truth
    rtol: float | None

    def certificate(self) -> Certificate:
        rows = tuple(map(self._row, self.truth.right.gradient))
        value = self._value_row()
        notes, disputes = [*self.truth.notes, *self.answer.notes], list(self.truth.disputes)
        disputes += self._disputed()
        result = Certificate(
            rows,
            steps=tuple(self._step_rows()),
            value=value,
            disputes=tuple(disputes),
            dtype=str(self.own.dtype),
            **environment(),
        )
        notes += self._remarks(result)
        if result.first_wrong is None or self.truth.tape is None or not self.truth.trusted:
            return dataclasses.replace(result, notes=tuple(notes))
        diagnoses, unexplained = self._diagnosed(result)
        return dataclasses.replace(result, diagnoses=diagnoses, notes=(*notes, *unexplained))

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
        return answer if answer.gradient and answer.dtype == FLOAT64 else None

    def _asked(self, args: tuple) -> Answer:
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
        """The candidate's: the coarsest dtype among parameters and gradients."""
        dtypes = dtype_of(self.truth.args[0]), self.answer.dtype
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
        row = Row(name, layer_of(name, self.truth.layered), "missing")
        if name not in self.judged:
            return row
        array, precision = self.judged[name]
        if not self.truth.trusted:
            return self._by_second_route(row, array, precision)
        right = self.truth.right.gradient[name]
        row = precision.compared(row, array, right, precision.tolerance(name))
        row = row._replace(second_route=self._second_route(name, array))
        decided = precision.decides(name) if row.verdict == RIGHT else precision.reaches(name)
        if row.verdict in (RIGHT, "wrong") and not decided:
            return row._replace(verdict=UNDECIDED)
        return row if precision is self.own else self._as_it_came(row)

    def _as_it_came(self, row: Row) -> Row:
        """A row that float64 judged: in its own dtype it must not be far off either."""
        right, given = self.truth.right.gradient[row.name], self.answer.gradient[row.name]
        tolerance = self.own.tolerance(row.name)
        if row.verdict != RIGHT or not np.isfinite(tolerance):  # inf: jax.grad is not finite there
            return row
        same = self.own.compared(row, given, right, tolerance)
        tiny = np.abs(flushed(given)).max(initial=0) <= 1e-20 + 10 * np.abs(right).max(initial=0)
        return row if same.verdict == RIGHT or tiny else same

    def _value_row(self) -> Row | None:
        given, precision, truth = self.answer.value, self.own, self.truth
        if given is None:
            return None
        if not np.isfinite(self.own.errors["J"]) and self.exact_answer is not None:
            given, precision = self.exact_answer.value, self.exact
        row, array = Row("J", None, "wrong shape"), answers.number(given)
        if array is None:
            return row._replace(dtype=str(precision.dtype))
        size = truth.tape.size if truth.tape else 0.0  # of the loss's terms, which may cancel in it
        right = np.asarray(truth.right.value + size)
        return precision.compared(row, array + size, right, precision.tolerance("J"))

    @functools.cached_property
    def steps(self) -> Arrays:
        assert self.truth.tape is not None
        return backward(self.truth.tape)

    def _step_rows(self) -> list[Row]:
        """The steps that the candidate gave, each against each sample's own, or that by m."""
        if self.truth.tape is None or not self.answer.steps:
            return []
        exact = self.steps
        share, rows = self._share(exact), []
        for name in sorted(self.answer.steps, key=order):
            scale = share if name.startswith("d") else 1.0
            row, given = Row(name, split(name)[1], ""), self.answer.steps[name]
            tolerance = self.own.step_tolerance(name)
            rows.append(self.own.compared(row, given, exact[name] * scale, tolerance, scale))
        return rows

    def _share(self, exact: Arrays) -> float:
        """1 where dZ is each sample's own, 1/m where it is that of the mean, by the first step."""
        assert self.truth.tape is not None
        m = self.truth.tape.divisor
        for name in sorted(self.answer.steps, key=order):
            given = self.answer.steps[name]
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
        if not self.truth.trusted:
            return []
        off = [name for name, seen in self.sights.items() if self._disagrees(name, seen)]
        if not off:
            return []
        return [
            f"autodiff of J and its numeric derivative disagree in {listed(off)}: J holds a rule "
            "or a stop_gradient that is not its derivative; give reference="
        ]

    def _disagrees(self, name: str, seen: list[Sight]) -> bool:
        right, rounding = self.truth.right.gradient[name], max(1e-6, self.exact.tolerance(name))
        return any(
            sight.difference(right) > max(rounding, sight.resolution(right)) for sight in seen
        )

    def _by_second_route(self, row: Row, array: np.ndarray, precision: Precision) -> Row:
        """The verdict where autodiff is the rule under test."""
        row = row._replace(dtype=str(precision.dtype))
        if array.shape != self.truth.right.gradient[row.name].shape:
            return row._replace(verdict="wrong shape")
        if not np.isfinite(array).all():
            return row._replace(verdict="not finite")
        seen, given = self.sights[row.name], flushed(array)
        if not seen:
            return row._replace(verdict=UNDECIDED, second_route="cannot see")
        tolerance = precision.tolerance(row.name)
        allowed = max(tolerance, *(sight.resolution(given) for sight in seen))
        worst = max(sight.difference(given) for sight in seen)
        return row._replace(
            verdict=RIGHT if worst <= allowed else "wrong",
            numbers=Numbers(worst, NAN, NAN, 0, NAN),
            tolerance=allowed,
            second_route=self._second_route(row.name, array),
        )

    # --- words ------------------------------------------------------------------------------------

    def _remarks(self, result: Certificate) -> list[str]:
        exact = [row.name for row in result.rows if row.dtype and row.dtype != str(self.own.dtype)]
        notes = []
        if exact:
            why = "entries too small, or lost in cancellation, or half precision"
            notes.append(f"{listed(exact)}: {self.own.dtype} cannot decide ({why}): in float64")
        undecided = [row.name for row in result.rows if row.verdict == UNDECIDED]
        if undecided:
            notes.append(f"undecided: {listed(undecided)}")
        if any(row.at_kinks for row in result.rows):
            notes.append(
                "entries at kinks depend on which side's derivative is taken there; either is right"
            )
        wrong_steps = [row.name for row in result.steps if row.verdict != RIGHT]
        if result.passed and wrong_steps:
            notes.append(f"{listed(wrong_steps)}: not as in E3, though the gradient is right")
        if self.truth.trusted and len(self.sights) < len(self.judged):
            notes.append(f"the second route looked at {len(self.sights)} arrays")
        own = dtype_of(self.truth.args[0])
        if self.answer.gradient and eps_of(self.answer.dtype) > eps_of(own):
            notes.append(f"the gradients are {self.answer.dtype}, the parameters {own}")
        return notes

    def _diagnosed(self, result: Certificate) -> tuple[tuple[Diagnosis, ...], list[str]]:
        given = {name: array for name, (array, _) in self.judged.items()}
        if given.keys() != self.truth.right.gradient.keys():
            return (), ["no diagnosis: the gradient is not complete"]
        for tape in (*self.truth.tapes, *self.own.tapes):
            with jax.enable_x64(True):
                found = diagnose(tape, given, self._matches)
            if found:
                return found, []
        return (), ["no known mistake explains this; " + wrong_factor(result)]

    def _matches(self, name: str, array: np.ndarray) -> bool:
        """Whether the candidate's array is this one, within rounding."""
        given, precision = self.judged[name]
        shape = self.truth.right.gradient[name].shape
        array = answers.settled(array, shape)
        if given.shape != array.shape or not np.isfinite(array).all():
            return False
        allowed = 4 * precision.tolerance(name) * np.abs(array).max(initial=0)
        if array.shape != shape:  # the shape has told already; its numbers may be all rounding
            dZ = self.steps[f"dZ{split(name)[1]}"]
            allowed += SAFETY * self.truth.floor(precision.dtype) * np.abs(dZ).max(initial=0)
        return bool(np.abs(given.astype(np.float64) - array).max(initial=0) <= allowed)


def wrong_factor(result: Certificate) -> str:
    """Say which factor of the walk is the first that cannot be right."""
    number = result.first_wrong
    rows = [row for row in result.rows if row.layer == number]
    broken = [row for row in rows if row.verdict not in (RIGHT, UNDECIDED, "wrong")]
    if broken:
        return f"d{broken[0].name}: {broken[0].verdict}"
    if result.steps and result.first_wrong_step:
        return f"the first wrong step is {result.first_wrong_step}"
    wrong = [f"d{row.name}" for row in rows if row.verdict not in (RIGHT, UNDECIDED)]
    if len(wrong) < len(rows):
        return f"the first wrong factor is in {' and '.join(wrong)} alone: dZ{number} is right"
    if number == result.rows[-1].layer:
        return f"the first wrong factor is in dZ{number}, the loss's derivative"
    return (
        f"the first wrong factor is in dZ{number} = dA{number} * act'(Z{number}); the layer above, "
        "from which dA comes, is right"
    )


def listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{names[0]} to {names[-1]} ({len(names)})"


def _equal(a: Any, b: Any) -> bool:
    return not isinstance(a, np.ndarray) or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
