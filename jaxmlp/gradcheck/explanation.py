"""From verdicts to words: what else there is to know, and which mistake was made."""

import dataclasses

import jax
import numpy as np

from jaxmlp.gradcheck import answers
from jaxmlp.gradcheck.certificate import Certificate
from jaxmlp.gradcheck.edits import factor_between
from jaxmlp.gradcheck.examination import Examined
from jaxmlp.gradcheck.judge import Given, Verdict, error, flushed, size
from jaxmlp.gradcheck.mistakes import UNKNOWN, Diagnosis
from jaxmlp.gradcheck.names import Arrays, dtype_of, eps_of, listed, split
from jaxmlp.gradcheck.precision import SAFETY, VAGUE, Precision, step_of_differences
from jaxmlp.gradcheck.search import Case, Finding, diagnose


def explained(here: Examined, result: Certificate) -> Certificate:
    """Return the certificate with its notes and diagnoses."""
    result = _noted(result, *_remarks(here, result))
    if result.first_wrong is None or not here.truth.trusted:
        return result
    finding = _whole(here) or _network(here, {name: x for name, (x, _) in here.judged.items()})
    # What was found
    known = [d for d in finding.diagnoses if d.mistake != UNKNOWN]
    further = [d for d in finding.further if d.mistake != UNKNOWN]
    result = dataclasses.replace(result, diagnoses=tuple(known), further=tuple(further))
    # And what was not
    missing = [f"d{row.name}" for row in result.rows if row.verdict == Verdict.MISSING]
    if missing:
        result = _noted(result, f"the gradient is not complete: {listed(missing)} missing")
    if not known:
        if not here.truth.tapes or not here.answer.gradient:
            return result
        return _noted(result, "no known mistake explains this; " + wrong_factor(result))
    others = [step for d in finding.further if d not in further for step in d.steps]
    if others:
        result = _noted(result, f"no known mistake explains {listed(others)}")
    if finding.stuck:
        result = _noted(result, f"from layer {finding.stuck} down something else is wrong too")
    return result


# --- notes ----------------------------------------------------------------------------------------


def _noted(result: Certificate, *notes: str) -> Certificate:
    return dataclasses.replace(result, notes=(*result.notes, *notes))


def _remarks(here: Examined, result: Certificate) -> list[str]:
    # Where and how it was compared
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
    # The dtype that came
    params, gradient = dtype_of(here.truth.args[0]), here.answer.dtype
    if here.answer.gradient and here.own.eps > max(eps_of(params), eps_of(gradient)):
        notes.append(f"the numbers are as exact as {own}, not as {gradient}: {own} is on the way")
    elif here.answer.gradient and eps_of(gradient) > eps_of(params):
        notes.append(f"the gradients are {gradient}, the parameters {params}")
    return notes


def wrong_factor(result: Certificate) -> str:
    """Say which factor of the walk is the first that cannot be right."""
    number = result.first_wrong
    assert isinstance(number, int)
    rows = [row for row in result.rows if row.layer == number]
    # An array that cannot be read, or a step that was given
    broken = [row for row in rows if row.is_wrong and row.verdict != Verdict.WRONG]
    if broken:
        return f"d{broken[0].name}: {broken[0].verdict} {broken[0].why}".rstrip()
    if result.steps and result.first_wrong_step:
        return f"the first wrong step is {result.first_wrong_step}"
    # The slope's gradient is made of dA, so it says nothing of dZ; db does not see dZ's order
    wrong = {split(row.name)[0] for row in rows if row.is_wrong}
    right = {split(row.name)[0] for row in rows} - wrong
    below = [row for row in result.rows if row.layer == number - 1]
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


def _whole(here: Examined) -> Finding | None:
    """A diagnosis that needs no network: of differences, of layers from the last, of a factor."""
    given, right = here.answer.gradient, here.truth.gradient
    if given.keys() != right.keys():
        return None
    layers = tuple(range(1, here.truth.num_layers + 1)) if here.truth.layered else ()
    same_shapes = all(given[name].shape == array.shape for name, array in right.items())
    worst = max(error(given[n], x) for n, x in right.items()) if same_shapes else np.inf
    # Finite differences
    step = step_of_differences(given, here.truth.value)
    if step is not None and worst < 1:
        mend = (
            f"this looks numerical: every entry is a difference of J over a step of {step[0]:.3g} "
            f"{'to both sides' if step[1] else 'to one side'}; {_digits(worst)}"
        )
        return Finding((Diagnosis("finite_differences", layers, mend),))
    # The layers from the last
    turned = answers.from_the_last(here.answer, right) if here.truth.layered else None
    if turned is not None:
        mend = (
            "the layers come from the last to the first: return them from layer 1 on, grads[::-1]"
        )
        rest = _network(here, turned)
        further = (*rest.diagnoses[:1], *rest.further)
        return Finding((Diagnosis("reversed", layers, mend),), further, rest.stuck)
    # Of a function that nobody knows: a factor, or differences of which only the size tells
    if not here.truth.tapes and (found := _factors(here)):
        return Finding(found)
    if not here.truth.tapes and worst < 1e-3:  # the coarsest differences in use
        mend = f"this looks numerical: {_digits(worst)}"
        return Finding((Diagnosis("finite_differences", layers, mend),))
    return None


def _digits(worst: float) -> str:
    return f"it is right to {max(0, int(-np.log10(worst)))} digits"


KNOWN_FACTORS = {-1.0: "sign", 2.0: "factor_2", 0.5: "factor_half"}


def _factors(here: Examined) -> tuple[Diagnosis, ...]:
    """A factor in all arrays, or in each of the wrong ones."""
    right = here.truth.gradient
    given = {name: _given(here, name, array, own) for name, (array, own) in here.judged.items()}

    def factor_in(names: list[str]) -> float | None:
        # The largest array tells it; any single number is a multiple of another
        largest = max(names, key=lambda name: right[name].size)
        factor = factor_between(given[largest].raw, right[largest])
        if factor is None or sum(right[name].size for name in names) == 1:
            return None
        return factor if all(given[n].matches(factor * right[n]) for n in names) else None

    def times(factor: float, names: list[str], where: str) -> Diagnosis:
        # A millionth: as exact as float32 shows a factor
        known = [name for value, name in KNOWN_FACTORS.items() if abs(factor / value - 1) < 1e-6]
        mend = f"{factor:.4g} times the right one, {where}"
        return Diagnosis(known[0] if known else "factor", (), mend, tuple(names))

    if (factor := factor_in(list(right))) is not None:
        return (times(factor, list(right), "everywhere"),)
    each = {n: factor_in([n]) for n in right if not given[n].matches(right[n])}
    return tuple(times(f, [name], name) for name, f in each.items() if f is not None)


# --- what is wrong in a network -------------------------------------------------------------------


def _network(here: Examined, given: Arrays) -> Finding:
    """What the search finds, with the steps as each sample's own."""
    if not here.truth.tapes or not here.answer.gradient:
        return Finding()
    steps = {
        name: array.astype(np.float64) / (here.share if name.startswith("d") else 1.0)
        for name, array in here.answer.steps.items()
        if name in here.truth.steps
    }
    case = Case(
        {name: _given(here, name, array, here.judged[name][1]) for name, array in given.items()},
        {name: _given(here, name, array, here.own) for name, array in steps.items()},
    )
    with jax.enable_x64(True):
        return diagnose((*here.truth.tapes, *here.own.tapes), case)


def _given(here: Examined, name: str, raw: np.ndarray, own: Precision) -> Given:
    """The candidate's array or step, with what the precision that judges it allows."""
    truth, array, tolerance, slack, at = here.truth, flushed(raw), own.tolerances[name], 0.0, None
    right = truth.gradient[name] if name in truth.gradient else truth.steps[name]
    if truth.tapes and array.shape != right.shape:
        # The shape has told already; its numbers may be all rounding
        floor = own.eps * truth.num_layers**0.5
        slack = SAFETY * floor * size(truth.steps[f"dZ{split(name)[1]}"])
    elif array.shape == right.shape and array.size and tolerance < VAGUE:
        at = tuple(map(int, np.unravel_index(np.abs(array).argmax(), array.shape)))
    return Given(raw, array, right.shape, tolerance, slack, at)
