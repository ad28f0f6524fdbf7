"""One candidate before one truth: which array is judged in which precision, and every verdict."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp.gradcheck import answers, numeric
from jaxmlp.gradcheck.answers import Answer
from jaxmlp.gradcheck.certificate import Certificate, environment, order
from jaxmlp.gradcheck.judge import (
    TINY,
    Numbers,
    Row,
    Verdict,
    error,
    flushed,
    judge,
    numbers,
    settled,
    size,
)
from jaxmlp.gradcheck.names import VALUE, cast, dtype_of, eps_of, listed, split
from jaxmlp.gradcheck.precision import (
    SAFETY,
    Precision,
    holds_float32,
    precision,
    step_of_differences,
)
from jaxmlp.gradcheck.reference import FLOAT64, Truth, autodiff
from jaxmlp.storage import layers

BESIDE = 64  # entries that are looked at on both sides, four values of J for each
ROUTED = 32  # arrays that the second route looks at; of more, so many at equal distances
AGREE = 1e-6  # to which autodiff and the second route agree, unless rounding explains more
UNDERFLOW = 1e3 * TINY  # a thousand products, of which each may be lost
ZERO = "exactly zero here: nothing was tested"
LOST = "lost in cancellation here"
DOUBTFUL = "autodiff and complex step differ here, and J's differences are too coarse to tell"


class Examined(NamedTuple):
    """What a candidate said, and what can be told of it.

    answer: in the dtype of the arguments; own: what this dtype can tell. exact_answer: to the same
    question in float64, None if there is none; exact: what float64 can tell. judged: by name the
    array that decides and its precision. sights: the second route's, by name. share: 1 if the
    given dZ are each sample's own, 1/m if they are of the mean.
    """

    truth: Truth
    answer: Answer
    own: Precision
    exact_answer: Answer | None
    exact: Precision
    judged: dict[str, tuple[np.ndarray, Precision]]
    sights: dict[str, list[numeric.Sight]]
    share: float


def examine(candidate: Callable, truth: Truth, rtol: float | None) -> Examined:
    """Ask the candidate, and choose for each array in which precision it is judged."""
    # What it says, and how exactly
    answer = _asked(candidate, truth, truth.args)
    dtypes = [dtype_of(truth.args[0]), answer.dtype]
    if _is_coarse(candidate, answer, truth, truth.args, rtol):
        dtypes.append(np.dtype(np.float32))
    own = precision(truth, max(dtypes, key=eps_of), rtol)
    # The same in float64, for what its own dtype cannot decide
    exact, exact_answer = own, None
    if truth.dtype == FLOAT64 and own.dtype != FLOAT64:
        exact, exact_answer = precision(truth, FLOAT64, rtol), _in_float64(candidate, truth, rtol)
    # Half precision is too coarse to tell much, so float64 judges wherever it can
    is_half, judged = own.dtype.itemsize <= 2, {}
    for name, array in answer.gradient.items():
        if exact_answer is None or (name in own.decides and not is_half):
            judged[name] = array, own
        else:
            judged[name] = exact_answer.gradient.get(name, array), exact
    sights = _sights(truth, own, list(judged))
    return Examined(truth, answer, own, exact_answer, exact, judged, sights, _share(truth, answer))


def verdicts(here: Examined) -> Certificate:
    """Return the certificate without its diagnoses."""
    doubtful = _disagreements(here)
    # Two references that disagree certify nothing
    disputed = [name for name, is_disputed in doubtful.items() if is_disputed]
    disputes = [*here.truth.disputes]
    if disputed:
        disputes.append(
            f"autodiff of J and its numeric derivative disagree in {listed(disputed)}: J holds a "
            "rule or a stop_gradient that is not its derivative; give reference="
        )
    # A row for each array, each step that this network has, and the value
    steps = [name for name in here.answer.steps if name in here.truth.steps]
    return Certificate(
        tuple(_row(here, name, name in doubtful) for name in here.truth.gradient),
        steps=tuple(_step_row(here, name) for name in sorted(steps, key=order)),
        value=_value_row(here),
        disputes=tuple(disputes),
        notes=(*here.truth.notes, *here.answer.notes),
        dtype=str(here.own.dtype),
        **environment(),
    )


# --- what the candidate says ----------------------------------------------------------------------


def _asked(candidate: Callable, truth: Truth, args: tuple) -> Answer:
    # Plain layers, also if `init` stacks them, in copies that the candidate may overwrite
    if truth.layered:
        args = (type(args[0])(layers(args[0])), *args[1:])
    copies = jax.tree.map(lambda x: x.copy() if isinstance(x, np.ndarray) else x, args)
    answer = answers.read(candidate(*copies), truth.args[0])
    if not all(map(_equal, jax.tree.leaves(copies), jax.tree.leaves(args))):
        note = "the candidate changed its arguments in place (undone here): it should not"
        answer = answer._replace(notes=(*answer.notes, note))
    # Samples as columns, and biases as rows or columns
    if truth.layered and answers.in_columns(answer.gradient, truth.gradient):
        answer = answers.to_rows(answer)
    gradient = {name: settled(x, truth.gradient[name].shape) for name, x in answer.gradient.items()}
    return answer._replace(gradient=gradient)


def _equal(a: Any, b: Any) -> bool:
    return not isinstance(a, np.ndarray) or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _in_float64(candidate: Callable, truth: Truth, rtol: float | None) -> Answer | None:
    """The answer to the same question in float64; None if the candidate has none."""
    try:
        with jax.enable_x64(True):
            args = cast(truth.args, FLOAT64)
            answer = _asked(candidate, truth, args)
    except Exception:  # a candidate for one dtype alone
        return None
    is_coarse = _is_coarse(candidate, answer, truth, args, rtol)
    is_exact = answer.gradient and answer.dtype == FLOAT64 and not is_coarse
    return answer if is_exact else None


def _is_coarse(
    candidate: Callable, answer: Answer, truth: Truth, args: tuple, rtol: float | None
) -> bool:
    """Whether float64 arrays hold the errors of float32 on the way."""
    given, right = answer.gradient, truth.gradient
    known = truth.trusted and rtol is None and truth.dtype == FLOAT64
    if not known or not given or answer.dtype != FLOAT64 or given.keys() != right.keys():
        return False
    if any(given[name].shape != array.shape for name, array in right.items()):
        return False
    # A look that costs nothing, before float32 is asked what it does
    references = [right, truth.also] if truth.also else [right]
    if not 1e-10 < min(max(error(given[n], x[n]) for n in given) for x in references) < 1e-3:
        return False
    if step_of_differences(given, truth.value) is not None:
        return False
    like_float32 = holds_float32(given, right, precision(truth, np.float32, None).tolerances)
    return like_float32 and not _moves_as_float64(candidate, answer, truth, args)


def _moves_as_float64(candidate: Callable, answer: Answer, truth: Truth, args: tuple) -> bool:
    """Whether the answer follows a change of the parameters that float32 could not see.

    Then a mistake as small as the rounding of float32 is a mistake: a wrong eps in a norm.
    """
    if dtype_of(args[0]) != FLOAT64:
        return False
    rng = np.random.default_rng(0)

    def moved(leaf: Any) -> Any:
        # 1e-10: far below the eps of float32, far above that of float64
        new = np.asarray(leaf) * (1 + 1e-10 * rng.choice([-1.0, 1.0], np.shape(leaf)))
        return jax.device_put(new) if isinstance(leaf, jax.Array) else new

    near = (jax.tree.map(moved, args[0]), *args[1:])
    try:
        with jax.enable_x64(True):
            there, exact = _asked(candidate, truth, near), autodiff(truth.plain, near, FLOAT64)[1]
    except Exception:  # a candidate that answers one question only
        return False
    off = length = 0.0
    for name, right in truth.gradient.items():
        if there.gradient[name].shape != right.shape:
            return False
        step = (exact[name] - right) / size(right)
        given = (there.gradient[name] - answer.gradient[name]) / size(right)
        off, length = off + np.sum((given - step) ** 2), length + np.sum(step**2)
    return bool(off <= 0.01 * length)  # to a tenth


def _share(truth: Truth, answer: Answer) -> float:
    """1 if the first derivative that was given is each sample's own, 1/m if it is of the mean."""
    for name in sorted(set(answer.steps) & set(truth.steps), key=order):
        given, right = answer.steps[name], truth.steps[name]
        if name.startswith("d") and given.shape == right.shape:
            m, ratio = truth.tapes[0].divisor, numbers(given, right, 1.0).norm_ratio
            return 1 / m if ratio > 0 and abs(np.log(ratio * m)) < abs(np.log(ratio)) else 1.0
    return 1.0


# --- verdicts -------------------------------------------------------------------------------------


def _compared(truth: Truth, own: Precision, name: str, given: np.ndarray, scale=1.0) -> Row:
    """The verdict on an array of the gradient or a step, which came multiplied by scale."""
    right = truth.gradient[name] if name in truth.gradient else truth.steps[name]
    also = [truth.also[name] * scale] if name in truth.also else []
    off = own.off.get(name, 0.0) * scale
    row = judge(name, given, right * scale, own.tolerances[name], own.eps, also, off)
    return row._replace(layer=split(name)[1] if truth.layered else None, dtype=str(own.dtype))


def _row(here: Examined, name: str, is_doubtful: bool) -> Row:
    truth, right = here.truth, here.truth.gradient[name]
    if name not in here.judged:
        return Row(name, split(name)[1] if truth.layered else None, Verdict.MISSING)
    array, own = here.judged[name]
    if not truth.trusted:
        return _by_second_route(here, name)
    row = _compared(truth, own, name, array)._replace(second_route=_route(here, name, array))
    if row.verdict == Verdict.WRONG and not truth.tapes and truth.narrow == FLOAT64:
        row = _beside_kinks(truth, own, array, row)
    # Whether the verdict can be told here
    if row.is_right and not right.any():
        return row.undecided(ZERO)
    if is_doubtful and (row.is_right or _is_seen(here, name, array)):
        return row.undecided(DOUBTFUL)
    known = own.decides if row.is_right else own.reaches
    too_small = f"too small here for {own.dtype}"
    if row.verdict == Verdict.WRONG and not right.any() and size(array) < UNDERFLOW:
        return row.undecided(too_small)  # the right one may be 0 only because it underflows
    if row.verdict in (Verdict.RIGHT, Verdict.WRONG) and name not in known:
        return row.undecided(LOST if name in own.reaches else too_small)
    # What float64 judged must not be far off in its own dtype either
    if own is here.own or not row.is_right or not np.isfinite(here.own.tolerances[name]):
        return row
    given = here.answer.gradient[name]
    same = _compared(truth, here.own, name, given)._replace(second_route=row.second_route)
    # 1e-20: what half precision and float32 flush to zero is no mistake
    tiny = np.abs(flushed(given)).max(initial=0) <= 1e-20 + 10 * np.abs(right).max(initial=0)
    return row if same.is_right or tiny else same


def _beside_kinks(truth: Truth, own: Precision, array: np.ndarray, row: Row) -> Row:
    """The verdict if entries that sit at a kink of J may be any number between its two slopes."""
    right, given = truth.gradient[row.name], flushed(array)
    slack = own.tolerances[row.name] * size(right)
    wrong = np.flatnonzero(np.abs(given - right) > slack)
    if len(wrong) > BESIDE:
        return row
    with jax.enable_x64(True):
        low, high = numeric.kinks(truth.J, cast(truth.args, FLOAT64), row.name, wrong)
    if np.isnan(low).any():
        return row
    either = right.copy()
    either.flat[wrong] = np.clip(given.flat[wrong], low, high)
    found = judge(row.name, array, either, own.tolerances[row.name], own.eps)
    if not found.is_right:
        return row
    return row._replace(verdict=Verdict.RIGHT, numbers=found.numbers, at_kinks=len(wrong))


def _by_second_route(here: Examined, name: str) -> Row:
    """The verdict if autodiff is the rule under test."""
    array, own = here.judged[name]
    layer = split(name)[1] if here.truth.layered else None
    row, seen = Row(name, layer, Verdict.WRONG_SHAPE, dtype=str(own.dtype)), here.sights[name]
    if array.shape != here.truth.gradient[name].shape:
        return row
    if not np.isfinite(array).all():
        return row._replace(verdict=Verdict.NOT_FINITE)
    # Whether it can be seen
    row, given = row._replace(second_route=_route(here, name, array)), flushed(array)
    if not seen:
        return row.undecided("the numeric derivative cannot see it here")
    if not given.any() and not any(sight.derivative for sight in seen):
        return row._replace(second_route="").undecided(ZERO)
    # How far it is off along the worst direction
    allowed = max(own.tolerances[name], *(sight.resolution(given) for sight in seen))
    worst = max(sight.difference(given) for sight in seen)
    verdict = Verdict.RIGHT if worst <= allowed else Verdict.WRONG
    return row._replace(verdict=verdict, numbers=Numbers(worst), tolerance=allowed)


def _step_row(here: Examined, name: str) -> Row:
    scale = here.share if name.startswith("d") else 1.0
    return _compared(here.truth, here.own, name, here.answer.steps[name], scale)


def _value_row(here: Examined) -> Row | None:
    given, own, truth = here.answer.value, here.own, here.truth
    if given is None:
        return None
    if not np.isfinite(own.errors[VALUE]) and here.exact_answer is not None:
        given, own = here.exact_answer.value, here.exact
    array, dtype = answers.number(given), str(own.dtype)
    if array is None:
        return Row("J", None, Verdict.WRONG_SHAPE, dtype=dtype)
    size = truth.tapes[0].size if truth.tapes else 0.0  # the loss's terms, which may cancel in it
    right = np.asarray(truth.value + size)
    row = judge("J", array + size, right, own.tolerances[VALUE], own.eps)
    return row._replace(dtype=dtype)


# --- the second route -----------------------------------------------------------------------------


def _sights(truth: Truth, own: Precision, names: list[str]) -> dict[str, list[numeric.Sight]]:
    """What the numeric route sees; at kinks, where it sees a mean of two sides, it is not asked."""
    if truth.trusted:
        # 1e-9: far above rounding, far below AGREE
        names = [n for n in names if np.max(own.off.get(n, 0)) <= 1e-9 * size(truth.gradient[n])]
        picked = np.linspace(0, len(names) - 1, min(len(names), ROUTED)).round().astype(int)
        names = [names[i] for i in picked]
    if truth.narrow != FLOAT64:
        return {name: [] for name in names}
    with jax.enable_x64(True):
        # One more direction if nothing else judges
        return numeric.sights(truth.J, cast(truth.args, FLOAT64), names, 2 if truth.trusted else 3)


def _route(here: Examined, name: str, array: np.ndarray) -> str:
    """The words of a row: how far the array is from the numeric derivative, and its route."""
    if name not in here.sights or array.shape != here.truth.gradient[name].shape:
        return ""
    seen = here.sights[name]
    if not seen:
        return "cannot see"
    worst = max(sight.difference(flushed(array)) for sight in seen)
    return f"{worst:.0e} {seen[0].route}"


def _is_seen(here: Examined, name: str, array: np.ndarray) -> bool:
    """Whether the numeric derivative of J agrees with the array."""
    given = flushed(array)
    return array.shape == here.truth.gradient[name].shape and all(
        sight.difference(given) <= max(AGREE, sight.resolution(given))
        for sight in here.sights[name]
    )


def _disagreements(here: Examined) -> dict[str, bool]:
    """The arrays in which autodiff and the numeric route disagree, and whether that disputes J.

    It does not if only a complex step says so and J is no network: a function that saturates has a
    slope there which real numbers do not have.
    """
    found = {}
    for name, seen in here.sights.items() if here.truth.trusted else ():
        right = here.truth.gradient[name]
        doubt = SAFETY * here.exact.errors[name] * size(right)
        routes = {
            sight.route
            for sight in seen
            if sight.difference(right) > max(AGREE, sight.resolution(right, doubt))
        }
        if routes:
            found[name] = bool(here.truth.tapes) or routes != {"complex step"}
    return found
