"""What each classic mistake makes of one array of the gradient, or of one step of the way back."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Set
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, losses
from jaxmlp.gradcheck.answers import Given
from jaxmlp.gradcheck.judge import size
from jaxmlp.gradcheck.mistakes import ARRAYS, FACTORS
from jaxmlp.gradcheck.names import Arrays, split
from jaxmlp.gradcheck.tape import (
    ALL,
    Place,
    elementwise,
    flat_calls,
    from_dS,
    from_dU,
    leaves,
    through_activation,
)

Words = dict[str, str]  # what the mend says besides the layer, as {"other": "sigmoid"}


class Edit(NamedTuple):
    """A mistake, what it makes of an array, and what is to be said of it.

    make: returns the array, or None if it cannot be the one that was given.
    """

    mistake: str
    make: Callable[[], np.ndarray | None]
    words: Words = {}  # noqa: RUF012


class Step(NamedTuple):
    """A mistake and what it makes of one step of the way back, or of act'(U) in it."""

    mistake: str
    array: Any
    words: Words = {}  # noqa: RUF012


class Flow(NamedTuple):
    """A mistake in one step of the way back, as "dA", and the place that follows from it."""

    mistake: str
    step: str
    place: Place
    words: Words


# --- one array of the gradient --------------------------------------------------------------------

IN_ARRAYS = {*FACTORS, *ARRAYS, "dA_for_dZ"}  # the mistakes that this section knows


def explanations(
    place: Place, name: str, right: np.ndarray, given: Given, known: Set[str]
) -> dict[str, Words]:
    """Return which of the known mistakes, made in one array alone, give what was given."""
    found: dict[str, Words] = {}
    for edit in _of_array(place, name, right, given) if known & IN_ARRAYS else ():
        if edit.mistake in known and edit.mistake not in found:
            array = edit.make()
            if array is not None and given.matches(array):
                found[edit.mistake] = edit.words
    return found


def _of_array(place: Place, name: str, right: np.ndarray, given: Given) -> Iterator[Edit]:
    """Yield what a mistake in one array would make of it, while the way back stays right."""
    field, _ = split(name)
    factors = _known_factors(place)
    if right.size > 1:  # any single number is a multiple of another
        factors += _fitted_factor(place, given.raw, right)
    for mistake, factor, words in factors:
        yield Edit(mistake, partial(np.multiply, right, factor), words)
    if field in ("W", "b"):
        yield from _other_products(place, field, given)
    if field == "b":
        yield from _of_bias(place)
    if field == "slope":
        yield from _of_slope(place)
    # What may have been returned in its place, or done to it
    parameter = getattr(place.record.layer, field)
    yield Edit("wrong_array", lambda: parameter, {"what": f"{name} itself"})
    if right.any():
        yield Edit("zeros", partial(np.zeros_like, right))
    if given.raw.shape == right.shape:
        yield from _after_all(right, given.raw, parameter)


def _other_products(place: Place, field: str, given: Given) -> Iterator[Edit]:
    """Other factors in `dW = A.T @ dZ / m`; db is this product with ones in the place of A."""
    record, above, dZ, number = place.record, place.above, place.dZ, place.number
    m, n, A, records = len(dZ), place.tape.divisor, record.A_prev, place.tape.records
    product = partial(_product, given, field == "b")
    # Another array in the place of dZ
    yield Edit("dA_for_dZ", partial(product, A, place.dA, n))
    if above is not None:
        yield Edit("wrong_dZ", partial(product, A, above.dZ, n))
        words = {"what": f"d{field}{above.number}"}
        yield Edit("wrong_array", partial(product, record.A, above.dZ, n), words)
    # A loop over the samples that overwrites instead of adding, or begins or ends too early
    some = {
        "the last": slice(m - 1, m), "the first": slice(0, 1),
        "all but the last": slice(0, m - 1), "all but the first": slice(1, m),
    }  # fmt: skip
    for which, rows in some.items() if m > 2 else ():
        for divisor in (n, 1):
            make = partial(product, A, dZ, divisor, rows, rows)
            yield Edit("some_samples", make, {"which": which})
    if field == "b":
        return
    # Another order, or another array in the place of A
    yield Edit("transposed", partial(product, dZ, A, n))
    yield Edit("wrong_A", partial(product, record.A, dZ, n))
    for down in range(1, number):
        words = {"down": "one layer" if down == 1 else f"{down} layers"}
        yield Edit("far_A", partial(product, records[number - 1 - down].A_prev, dZ, n), words)
    if number > 1:
        yield Edit("Z_for_A", partial(product, records[number - 2].Z, dZ, n))
    # The samples averaged or mixed up
    yield Edit("product_of_means", lambda: np.outer(A.mean(axis=0), dZ.mean(axis=0)))
    for order, rows in orders(m):
        yield Edit("rows_apart", partial(product, A, dZ, n, rows), {"order": order})
        yield Edit("rows_apart", partial(product, A, dZ, n, ALL, rows), {"order": order})


def _product(
    given: Given, is_bias: bool, left, right, n, rows: Any = ALL, others: Any = ALL
) -> np.ndarray | None:
    """Return `left[rows].T @ right[others] / n`; None if its shape or one entry tells enough."""
    if is_bias:
        return right[others].sum(axis=0) / n
    if (left.shape[1], right.shape[1]) != given.array.shape:
        return None
    if given.at is not None:
        i, j = given.at
        if not given.may_be(left[:, i][rows] @ right[:, j][others] / n):
            return None
    return left[rows].T @ right[others] / n


def _of_bias(place: Place) -> Iterator[Edit]:
    dZ, n = place.dZ, place.tape.divisor
    yield Edit("bias_not_summed", lambda: dZ)
    yield Edit("bias_not_summed", lambda: dZ / n)
    for divisor, axis, keep in itertools.product(("count", 1, n), (1, None), (False, True)):
        of = {"axis": axis, "keepdims": keep}
        total = dZ.mean if divisor == "count" else (dZ / divisor).sum
        yield Edit("bias_wrong_axis", partial(total, **of))
    dW = place.record.A_prev.T @ dZ / n
    yield Edit("bias_of_dW", partial(dW.sum, axis=0))
    yield Edit("bias_of_dW", partial(dW.mean, axis=0))


def _of_slope(place: Place) -> Iterator[Edit]:
    record = place.record
    for what, dA, Z in (
        ("dZ in the place of dA", place.dZ, np.minimum(record.U, 0)),
        ("Z, also where it is positive", place.dA, record.U),
        ("A in the place of Z", place.dA, np.minimum(record.A, 0)),
    ):
        total = np.asarray(np.sum(dA * Z) / place.tape.divisor)
        yield Edit("wrong_slope", partial(np.asarray, total), {"what": what})


def _after_all(right: np.ndarray, given: np.ndarray, parameter: np.ndarray) -> Iterator[Edit]:
    """What was done to a right array."""
    # A constant that is fitted to one number would explain any of them
    if parameter.size > 1 and parameter.any():
        decay = np.vdot(parameter, given - right) / np.vdot(parameter, parameter)
        yield Edit("extra_l2", lambda: right + parameter * decay)
    if parameter.size > 1 and right.any():
        rate = float(np.vdot(right, parameter - given) / np.vdot(right, right))
        if rate > 0:
            words = {"rate": f"{rate:.3g}"}
            yield Edit("updated_parameter", lambda: parameter - rate * right, words)
    # The fewest digits that keep what was given; one entry tells most numbers of digits
    one = given.ravel()[:1]
    few = (n for n in range(1, 9) if one.size and np.round(one, n) == one)
    digits = next((n for n in few if np.array_equal(given, np.round(given, n))), 0)
    if digits and given.any():
        yield Edit("rounded", partial(np.round, right, digits), {"digits": str(digits)})
    # Entries beyond a limit are at the limit; that several are there is what tells
    limit = size(given)
    if np.sum(np.abs(given) == limit) > 1 and size(right) > limit:
        yield Edit("clipped", partial(np.clip, right, -limit, limit), {"limit": f"{limit:g}"})


@functools.lru_cache(maxsize=4)  # problems in turn
def orders(m: int) -> list[tuple[str, np.ndarray]]:
    """Return ways in which m rows are put in another order, on purpose or not; [] for one row."""
    rows = np.arange(m)
    found = [
        ("backwards", rows[::-1]),
        ("one row further", np.roll(rows, 1)),
        ("one row back", np.roll(rows, -1)),
    ]
    for seed in (0, 1, 42):  # the seeds that people choose
        for draw in (np.random.RandomState(seed), np.random.default_rng(seed)):
            found.append((f"shuffled with seed {seed}", draw.permutation(m)))
    return found if m > 1 else []


# --- factors --------------------------------------------------------------------------------------


def _known_factors(place: Place) -> list[tuple[str, float, Words]]:
    m, K = place.tape.Y.shape
    found = (
        ("sum_not_mean", m), ("mean_twice", 1 / m), ("mean_over_classes", K),
        ("mean_over_classes", 1 / K), ("factor_2", 2.0), ("factor_half", 0.5), ("sign", -1.0),
    )  # fmt: skip
    return [(mistake, factor, {}) for mistake, factor in found if factor != 1]


def _fitted_factor(place: Place, given: np.ndarray | None, right: np.ndarray) -> list:
    """The factor between an array and the right one, if there is one."""
    factor = None if given is None else factor_between(given, right)
    if factor is None or abs(factor - 1) <= 1e-12:  # 1 to the rounding of long sums
        return []
    meaning = of_what(factor, *place.tape.Y.shape, *place.record.layer.W.shape)
    words = {"factor": f"{factor:.4g}", "why": f": {meaning}" if meaning else ""}
    return [("factor", factor, words)]


def factor_between(given: np.ndarray, right: np.ndarray) -> float | None:
    """Return the factor that fits an array best, or None if it is no multiple of the right one."""
    if given.shape != right.shape or not (right.any() and given.any()):
        return None
    c, r = given.astype(np.float64) / size(given), right / size(right)
    fitted = float(np.vdot(r, c) / np.vdot(r, r))
    factor = fitted * (size(given) / size(right))
    is_near = bool(np.abs(c - fitted * r).max() < 0.02)  # half precision rounds by a hundredth
    return factor if is_near and np.isfinite(factor) and factor != 0 else None


def of_what(factor: float, m: int, K: int, d_in: int, d_out: int) -> str:
    """Say a factor as a product of what the network has: "-m / 2, m = 300 samples"."""
    words = {
        "m": f"m = {m} samples", "K": f"K = {K} outputs", "d_in": f"d_in = {d_in} inputs",
        "d_out": f"d_out = {d_out} units", "(m - 1)": f"m = {m} samples", "2": "",
    }  # fmt: skip
    values = dict(zip(words, (m, K, d_in, d_out, m - 1, 2), strict=True))
    known = [name for name, value in values.items() if value > 1]
    for names in (*itertools.combinations(known, 1), *itertools.combinations(known, 2)):
        for powers in itertools.product((1, -1), repeat=len(names)):
            value = math.prod(values[n] ** p for n, p in zip(names, powers, strict=True))
            if abs(value / abs(factor) - 1) < 1e-5:  # what float32 shows of a factor
                over = [name for name, power in zip(names, powers, strict=True) if power > 0]
                under = [name for name in names if name not in over]
                product = " ".join(over) or "1"
                product += f" / {' '.join(under)}" if under else ""
                told = dict.fromkeys(words[name] for name in names if words[name])
                return ", ".join(["-" * (factor < 0) + product, *told])
    return ""


# --- one step of the way back ---------------------------------------------------------------------


def of_step(place: Place, right: Arrays, given: dict[str, Given], order: Any) -> Iterator[Flow]:
    """Yield the places with a mistake in one step, in dA, dU, dS or dZ.

    right: the arrays of the layer without it; order: the dZ that was given, or None.
    """
    # A factor, in all that follows
    largest = max(right, key=lambda name: right[name].size)
    own = given.get(largest)
    fitted = _fitted_factor(place, own and own.raw, right[largest])
    for mistake, factor, words in (*_known_factors(place), *fitted):
        yield Flow(mistake, "dZ", _mapped(place, lambda x, f=factor: f * x), words)
    # Another order of the samples
    for which, rows in _row_orders(place, order):
        moved = _mapped(place, lambda x, rows=rows: x[rows])
        yield Flow("rows_moved", "dZ", dataclasses.replace(moved, dA=place.dA), {"order": which})
    # Another step
    edits = {
        "dA": _wrong_dA(place, right, given),
        "dU": _wrong_dU(place, right),
        "dS": _wrong_dS(place),
        "dZ": _wrong_dZ(place),
    }
    for step, mistakes in edits.items():
        for mistake, array, words in mistakes:
            yield Flow(mistake, step, edited(place, step, array), words)


def edited(place: Place, step: str, array) -> Place:
    """Return the place with one step exchanged, and what follows from it in the layer."""
    if step == "dZ":
        return dataclasses.replace(place, dZ=array)
    if step == "dS":
        return from_dS(place, array)
    dA, dU = (place.dA, array) if step == "dU" else (array, array * place.record.prime)
    return from_dU(Place(place.tape, place.number, dA, dU, dU, dU, place.above))


def _mapped(place: Place, f: Callable) -> Place:
    arrays = {step: f(getattr(place, step)) for step in ("dA", "dU", "dS", "dZ")}
    return dataclasses.replace(place, **arrays)


def _row_orders(place: Place, given: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
    yield from orders(len(place.dZ))
    if given is not None and given.shape == place.dZ.shape and len(given) > 1:
        # The rows that were given, whatever their order, if they are the right ones to 9 digits
        rows, own = (np.lexsort(np.round(x / np.abs(x).max(), 9).T) for x in (given, place.dZ))
        yield "in another order", own[np.argsort(rows)]


# of steps in common use; a rate that fits is searched for where the derivative is linear in it
RATES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001, 1e-4)
SIGNED_RATES = np.array([*RATES, *(-rate for rate in RATES)])


def _wrong_dA(place: Place, right: Arrays, given: dict[str, Given]) -> Iterator[Step]:
    """Mistakes in `dA[l] = dZ[l+1] @ W[l+1].T`, which is a step of the layer above."""
    above = place.above
    if above is None:
        return
    W, dZ = above.record.layer.W, above.dZ
    if len(set(W.shape)) == 1:
        yield Step("transposed", dZ @ W)
    yield Step("dA_for_dZ", above.dA @ W.T)
    # Another layer's W
    near = {above.number - 1: "the layer below", above.number + 1: "the layer above"}
    for number, record in enumerate(place.tape.records, start=1):
        other = record.layer.W
        if number != above.number and other.shape == W.shape:
            yield Step("wrong_W", dZ @ other.T, {"other": near.get(number, f"layer {number}")})
    # An updated W: dA is affine in the rate, so it is fitted here and the layers below verify it
    dW = above.record.A_prev.T @ dZ / place.tape.divisor
    no_skip = dataclasses.replace(place, above=None)
    per_rate = leaves(edited(no_skip, "dA", dZ @ dW.T))
    rate = _fitted_rate(given, right, per_rate)
    if rate > 0:
        yield Step("updated_W", dZ @ (W - rate * dW).T)


def _fitted_rate(given: dict[str, Given], right: Arrays, per_rate: Arrays) -> float:
    """Least squares for `given = right - rate * per_rate`, each array in its own size."""
    top = bottom = 0.0
    for name, change in per_rate.items():
        largest, own = np.abs(right[name]).max(initial=0), given.get(name)
        if own is not None and own.raw.shape == change.shape and largest > 0:
            d, s = (own.raw - right[name]) / largest, change / largest
            top, bottom = top - np.vdot(s, d), bottom + np.vdot(s, s)
    return float(top / bottom) if bottom > 0 and np.isfinite(top) else 0.0


def _wrong_dU(place: Place, right: Arrays) -> Iterator[Step]:
    """Mistakes in `dU = dA * act'(U)`; at the output also in the loss's derivative."""
    for mistake, slope, words in _wrong_slopes(place, right):
        yield Step(mistake, place.dA * slope, words)
    if place.above is not None:
        return
    record, A, Y = place.record, place.record.A, place.tape.Y
    # A - Y where it does not belong, or another loss's derivative, however it is taken on
    yield Step("wrong_loss_gradient", A - Y)
    for dA in map(np.asarray, _derivatives_of_losses(A, Y)):
        if not np.array_equal(dA, place.dA):
            for dU in (through_activation(record, dA), dA, dA * A * (1 - A)):
                yield Step("wrong_loss_gradient", dU)
    # Something else in the place of A or of Y
    most = np.eye(Y.shape[1])[A.argmax(axis=1)]
    for what, dU in (
        ("Z in the place of A", record.Z - Y),
        ("the class of the largest A in the place of A", most - Y),
        ("A, rounded", np.round(A) - Y),
        ("A, without Y", A),
        ("Y, without A", -Y),
    ):
        yield Step("wrong_residual", dU, {"what": what})


@jax.jit
def _derivatives_of_losses(A, Y):
    return [losses.get(name).dA(A, Y) for name in losses.names()]


def _wrong_slopes(place: Place, right: Arrays) -> Iterator[Step]:
    """What may stand in the place of act'(U)."""
    record, number, hidden = place.record, place.number, len(place.tape.records) - 1
    yield Step("no_derivative", 1.0)
    yield Step("no_derivative_but_A", record.A, {"what": f"A{number} itself"})
    yield Step("no_derivative_but_A", record.Z, {"what": f"Z{number} itself"})
    yield Step("gate_of_dA", place.dA > 0)
    if record.prime is None:
        yield Step("diagonal_jacobian", record.A * (1 - record.A))
        return
    # The derivative elsewhere: at A, at dA, and at the Z of weights that one step of gradient
    # descent has moved, there or back
    act, layer = record.spec.activation, record.layer
    per_rate = record.A_prev @ right[f"W{number}"] + right.get(f"b{number}", 0.0)
    moved = record.U - SIGNED_RATES[:, None, None] * per_rate
    primes: Any = elementwise(act, layer, np.concatenate([[record.A, place.dA], moved]))[1]
    yield Step("derivative_at_A", primes[0])
    yield Step("derivative_twice", record.prime**2)
    yield Step("gate_of_dA", primes[1])
    # That of another layer, of the 12 nearest: a slip reaches no further
    others = sorted(set(range(1, hidden + 1)) - {number}, key=lambda l: abs(l - number))
    for other in others[:12] if number <= hidden else ():
        if place.tape.records[other - 1].A.shape == record.A.shape:
            yield Step("wrong_gate", place.tape.records[other - 1].prime)
    # That of another activation: of its own output, by its formula of A, and by that of Z
    found = flat_calls(every_activation, record.U, record.A)
    for other, (_, own, of_A, of_Z) in zip(OTHERS, found, strict=True):
        words = {"other": other.name, "own": act.name}
        if other == act:
            yield Step("formula_of_Z", of_Z, words)
        else:
            yield from (Step("other_derivative", x, words) for x in (own, of_A, of_Z))
    for rate, prime in zip(SIGNED_RATES, primes[2:], strict=True):
        yield Step("stale_Z", prime, {"rate": f"{abs(rate):g}"})


OTHERS = tuple(
    {
        act.name: act
        for act in map(activations.get, (*activations.names(), "leaky_relu:0.1", "leaky_relu:0.2"))
        if act != activations.softmax
    }.values()
)


@jax.jit
def every_activation(Z, A):
    """Return of every activation its output, and its formula of its own output, of A and of Z."""
    found = []
    for act in OTHERS:
        assert act.derivative is not None
        own = act.fn(Z)
        found.append((own, *(act.derivative(Z, output) for output in (own, A, Z))))
    return jnp.asarray(found)


def _wrong_dS(place: Place) -> Iterator[Step]:
    """Mistakes in the skip of a residual network and in a norm's derivative."""
    record, dU, skip = place.record, place.dU, place.skip
    if skip is not None:
        yield Step("no_skip", place.dS - skip)
        yield Step("skip_through_gate", place.dS - skip + place.above.dZ)
    if record.spec.norm is None:
        return
    # dS = r (dU - along - mean), without some of it
    along = record.U * np.mean(record.U * dU, axis=1, keepdims=True)
    mean = np.mean(dU, axis=1, keepdims=True)
    for mistake, inner in (
        ("norm_is_constant", dU),
        ("norm_left_out", dU / record.r),
        ("norm_without_mean", dU - along - (0.0 if record.spec.norm.centred else mean)),
        ("norm_without_variance", dU - mean),
    ):
        yield Step(mistake, record.r * inner + (0.0 if skip is None else skip))


def _wrong_dZ(place: Place) -> Iterator[Step]:
    """dZ = dS, without alpha; or alpha twice."""
    if place.record.spec.residual is not None:
        yield Step("no_gate", place.dS)
        yield Step("no_gate", place.record.alpha * place.dZ)
