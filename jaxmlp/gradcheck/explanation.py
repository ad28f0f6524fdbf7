"""From verdicts to words: what else there is to know, and which mistake was made."""

import dataclasses
import functools

import jax
import numpy as np

from jaxmlp.gradcheck import answers, wholes
from jaxmlp.gradcheck.certificate import Certificate, Verdict
from jaxmlp.gradcheck.examination import Examination
from jaxmlp.gradcheck.mistakes import UNKNOWN
from jaxmlp.gradcheck.names import Arrays, dtype_of, eps_of, listed, split
from jaxmlp.gradcheck.numbers import error, flushed, gap, size
from jaxmlp.gradcheck.precision import SAFETY, VAGUE
from jaxmlp.gradcheck.search import Case, Diagnosis, Finding, diagnose


def explained(here: Examination) -> Certificate:
    """Return the certificate of an examination, with its notes and diagnoses."""
    result = here.certificate()
    result = _noted(result, *_remarks(here, result))
    if result.first_wrong is None or not here.truth.trusted:
        return result
    finding = _whole(here)
    if finding is None:
        known = here.answer.gradient if here.truth.tape is not None else {}
        finding = (
            _network(here, {n: x for n, (x, _) in here.judged.items()}) if known else Finding()
        )
    return _told(here, result, finding)


def _noted(result: Certificate, *notes: str) -> Certificate:
    return dataclasses.replace(result, notes=(*result.notes, *notes))


def _told(here: Examination, result: Certificate, finding: Finding) -> Certificate:
    """The certificate with what was found, and with what was not."""
    found = [d for d in finding.diagnoses if d.mistake != UNKNOWN]
    further = [d for d in finding.further if d.mistake != UNKNOWN]
    result = dataclasses.replace(result, diagnoses=tuple(found), further=tuple(further))
    missing = [f"d{row.name}" for row in result.rows if row.verdict == Verdict.MISSING]
    if missing:
        result = _noted(result, f"the gradient is not complete: {listed(missing)} missing")
    if not found:
        if here.truth.tape is None or not here.answer.gradient:
            return result
        return _noted(result, "no known mistake explains this; " + wrong_factor(result))
    others = [step for d in finding.further if d not in further for step in d.steps]
    if others:
        result = _noted(result, f"no known mistake explains {listed(others)}")
    if finding.stuck:
        result = _noted(result, f"from layer {finding.stuck} down something else is wrong too")
    return result


# --- notes ----------------------------------------------------------------------------------------


def _remarks(here: Examination, result: Certificate) -> list[str]:
    own, notes = str(here.own.dtype), []
    exact = [row.name for row in result.rows if row.dtype and row.dtype != own]
    if exact:
        why = "entries too small, or lost in cancellation, or half precision"
        notes.append(f"{listed(exact)}: {own} cannot decide ({why}): in float64")
    if any(row.at_kinks for row in result.rows):
        notes.append(
            "entries at kinks depend on which side's derivative is taken there; either is right"
        )
    wrong_steps = [row.name for row in result.steps if not row.is_right]
    if result.passed and wrong_steps:
        notes.append(f"{listed(wrong_steps)}: not as in E3, though the gradient is right")
    if here.truth.trusted and len(here.sights) < len(here.judged):
        notes.append(f"the second route looked at {len(here.sights)} arrays")
    params, gradient = dtype_of(here.truth.args[0]), here.answer.dtype
    if here.answer.gradient and eps_of(here.own.dtype) > max(eps_of(params), eps_of(gradient)):
        notes.append(f"the numbers are as exact as {own}, not as {gradient}: {own} is on the way")
    elif here.answer.gradient and eps_of(gradient) > eps_of(params):
        notes.append(f"the gradients are {gradient}, the parameters {params}")
    return notes


def wrong_factor(result: Certificate) -> str:
    """Say which factor of the walk is the first that cannot be right."""
    number = result.first_wrong
    rows = [row for row in result.rows if row.layer == number]
    broken = [row for row in rows if row.is_wrong and row.verdict != Verdict.WRONG]
    if broken:
        return f"d{broken[0].name}: {broken[0].verdict} {broken[0].why}".rstrip()
    if result.steps and result.first_wrong_step:
        return f"the first wrong step is {result.first_wrong_step}"
    wrong = {split(row.name)[0] for row in rows if row.is_wrong}
    right = {split(row.name)[0] for row in rows} - wrong
    assert isinstance(number, int)
    below = [row for row in result.rows if row.layer == number - 1]
    # The slope's gradient is made of dA, so it says nothing of dZ; db does not see dZ's order
    alone = below and all(row.is_right for row in below)
    if alone or "W" in right or not wrong & {"W", "b"}:
        names = " and ".join(f"d{field}{number}" for field in sorted(wrong))
        return f"the first wrong factor is in {names} alone"
    if "b" in right:
        return (
            f"of layer {number} dW{number} alone is wrong: either its product "
            f"A{number - 1}.T @ dZ{number} / m, or the rows of A{number - 1} and of dZ{number} do "
            f"not belong together, which db{number} does not see"
        )
    if number == result.rows[-1].layer:
        return f"the first wrong factor is in dZ{number}, the loss's derivative"
    return (
        f"the first wrong factor is in dZ{number} = dA{number} * act'(Z{number}); the layer above, "
        "from which dA comes, is right"
    )


# --- what is wrong with all of it -----------------------------------------------------------------


def _whole(here: Examination) -> Finding | None:
    """A diagnosis that needs no network: of differences, of layers from the last, of a factor."""
    given, right = here.answer.gradient, here.truth.right.gradient
    layers = tuple(range(1, here.truth.num_layers + 1)) if here.truth.layered else ()
    if given.keys() != right.keys():
        return None
    step = wholes.step_of_differences(given, here.truth.right.value)
    if step is not None and _worst(given, right) < 1:
        sides = "to both sides" if step.both_sides else "to one side"
        mend = (
            f"this looks numerical: every entry is a difference of J over a step of {step.h:.3g} "
            f"{sides}; {_digits(given, right)}"
        )
        return Finding((Diagnosis("finite_differences", layers, mend),))
    if here.truth.layered and (turned := _from_the_last(here)) is not None:
        mend = (
            "the layers come from the last to the first: return them from layer 1 on, grads[::-1]"
        )
        rest = _network(here, turned) if here.truth.tape is not None else Finding()
        further = (*rest.diagnoses[:1], *rest.further)
        return Finding((Diagnosis("reversed", layers, mend),), further, rest.stuck)
    if here.truth.tape is None and (found := _factors(here)):
        return Finding(found)
    if here.truth.tape is None and _worst(given, right) < 1e-3:
        mend = f"this looks numerical: {_digits(given, right)}"
        return Finding((Diagnosis("finite_differences", layers, mend),))
    return None


def _worst(given: Arrays, right: Arrays) -> float:
    same = all(given[name].shape == array.shape for name, array in right.items())
    return max(error(given[n], array) for n, array in right.items()) if same else np.inf


def _digits(given: Arrays, right: Arrays) -> str:
    return f"it is right to {max(0, int(-np.log10(_worst(given, right))))} digits"


def _from_the_last(here: Examination) -> Arrays | None:
    right = here.truth.right.gradient
    shapes = {name: array.shape for name, array in right.items()}
    agrees = lambda name, x: error(x, right[name]) <= VAGUE  # noqa: E731
    turned = answers.from_the_last(here.answer, shapes, agrees)
    return None if turned is None else {n: answers.settled(x, shapes[n]) for n, x in turned.items()}


KNOWN_FACTORS = {-1.0: "sign", 2.0: "factor_2", 0.5: "factor_half"}


def _factors(here: Examination) -> tuple[Diagnosis, ...]:
    """Of a function that nobody knows: a factor in all arrays, or in each of the wrong ones."""
    right = here.truth.right.gradient
    given = {name: array for name, (array, _) in here.judged.items()}
    matches = functools.partial(_matches, _expected(here, given, {}), here)
    factor = wholes.common_factor(given, right, matches)
    if factor is not None:
        return (_times(factor, tuple(right), "everywhere"),)
    found = []
    for name in right:
        if not matches(name, right[name]):
            one = {name: right[name]}
            factor = wholes.common_factor({name: given[name]}, one, matches)
            found += [] if factor is None else [_times(factor, (name,), name)]
    return tuple(found)


def _times(factor: float, names: tuple[str, ...], where: str) -> Diagnosis:
    known = [name for value, name in KNOWN_FACTORS.items() if abs(factor / value - 1) < 1e-6]
    mend = f"{factor:.4g} times the right one, {where}"
    return Diagnosis(known[0] if known else "factor", (), mend, names)


# --- what is wrong in a network -------------------------------------------------------------------


def _network(here: Examination, given: Arrays) -> Finding:
    steps = {
        name: array.astype(np.float64) / (here.share if name.startswith("d") else 1.0)
        for name, array in here.given_steps.items()
    }
    expected = _expected(here, given, steps)
    case = Case(given, steps, functools.partial(_matches, expected, here))
    with jax.enable_x64(True):
        return diagnose((*here.truth.tapes, *here.own.tapes), case)


def _expected(here: Examination, given: Arrays, steps: Arrays) -> dict[str, tuple]:
    """By name the candidate's array, its tolerance, the right shape, where its largest entry is."""
    found = {}
    for name, array in given.items():
        _, precision = here.judged[name]
        shape = here.truth.right.gradient[name].shape
        found[name] = array, precision.tolerance(name), shape
    for name, array in steps.items():
        right = here.steps[name]
        found[name] = array, here.own.step_tolerance(name, right), right.shape
    return {
        name: (flushed(array), *rest, int(np.abs(array).argmax()) if array.size else 0)
        for name, (array, *rest) in found.items()
    }


def _matches(expected: dict[str, tuple], here: Examination, name: str, array: np.ndarray) -> bool:
    """Whether the candidate's array or step is this one, within rounding; a missing one is any."""
    if name not in expected:
        return True
    given, tolerance, shape, at = expected[name]
    array = array if array.shape == shape else answers.settled(array, shape)
    if given.shape != array.shape:
        return False
    if array.shape == shape and tolerance < VAGUE and given.size:
        # Nearly all that do not match are refused by one entry, the largest that was given
        largest = given.flat[at]
        if largest and abs(largest - array.flat[at]) > 5 * tolerance * abs(largest):
            return False
    allowed = 4 * tolerance * size(array)
    if array.shape != shape:  # the shape has told already; its numbers may be all rounding
        dZ = here.steps[f"dZ{split(name)[1]}"]
        allowed += SAFETY * here.truth.floor(here.judged[name][1].dtype) * size(dZ)
    return gap(given, array) <= allowed
