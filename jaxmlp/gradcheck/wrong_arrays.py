"""Mistakes in one array: what dW, db or dslope would be, while the walk stays right."""

import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from jaxmlp.gradcheck.mistake import Leaf, Site
from jaxmlp.gradcheck.naming import split
from jaxmlp.gradcheck.numbers import size


def _is(name: str, field: str) -> bool:
    return split(name)[0] == field


def _product(site: Site, A: np.ndarray, dZ: np.ndarray) -> np.ndarray:
    return A.T @ dZ / site.tape.divisor


def transposed(site: Site, name: str, right: np.ndarray):
    if _is(name, "W"):
        yield Leaf(right.T)


def zeros(site: Site, name: str, right: np.ndarray):
    if right.any():
        yield Leaf(np.zeros_like(right))


def another_array(site: Site, name: str, right: np.ndarray):
    """The gradient of the same field in another layer, or the parameter itself."""
    field, number = split(name)
    parameter = getattr(site.record.layer, field)
    yield Leaf(parameter, {"what": f"{name} itself"})
    if site.dZ_above is not None and field in ("W", "b"):
        A = site.record.A
        above = _product(site, A, site.dZ_above) if field == "W" else _mean(site, site.dZ_above)
        yield Leaf(above, {"what": f"d{field}{number + 1}"})


def _mean(site: Site, dZ: np.ndarray) -> np.ndarray:
    return dZ.sum(axis=0) / site.tape.divisor


# --- dW = A.T @ dZ / m ----------------------------------------------------------------------------


def own_A(site: Site, name: str, right: np.ndarray):
    if _is(name, "W"):
        yield Leaf(_product(site, site.record.A, site.dZ))


def far_A(site: Site, name: str, right: np.ndarray):
    """The output of a layer further down, X included."""
    for down in range(1, site.number) if _is(name, "W") else ():
        A = site.tape.records[site.number - 1 - down].A_prev
        words = "one layer" if down == 1 else f"{down} layers"
        yield Leaf(_product(site, A, site.dZ), {"down": words})


def Z_for_A(site: Site, name: str, right: np.ndarray):
    if _is(name, "W") and site.number > 1:
        yield Leaf(_product(site, site.tape.records[site.number - 2].Z, site.dZ))


def dA_for_dZ(site: Site, name: str, right: np.ndarray):
    if _is(name, "W"):
        yield Leaf(_product(site, site.record.A_prev, site.dA))
    elif _is(name, "b"):
        yield Leaf(_mean(site, site.dA))


def other_dZ(site: Site, name: str, right: np.ndarray):
    if site.dZ_above is not None and _is(name, "W"):
        yield Leaf(_product(site, site.record.A_prev, site.dZ_above))
    elif site.dZ_above is not None and _is(name, "b"):
        yield Leaf(_mean(site, site.dZ_above))


def product_of_means(site: Site, name: str, right: np.ndarray):
    if _is(name, "W"):
        yield Leaf(np.outer(site.record.A_prev.mean(axis=0), site.dZ.mean(axis=0)))


def some_samples(site: Site, name: str, right: np.ndarray):
    """Of a loop over the samples that overwrites instead of adding, or begins or ends too early."""
    A, dZ, m = site.record.A_prev, site.dZ, len(site.dZ)
    if m < 3 or not (_is(name, "W") or _is(name, "b")):
        return
    which = {
        "the last": slice(m - 1, m), "the first": slice(0, 1),
        "all but the last": slice(0, m - 1), "all but the first": slice(1, m),
    }  # fmt: skip
    for (words, rows), divisor in itertools.product(which.items(), (site.tape.divisor, 1)):
        total = A[rows].T @ dZ[rows] if _is(name, "W") else dZ[rows].sum(axis=0)
        yield Leaf(total / divisor, {"which": words})


@functools.lru_cache(maxsize=4)
def orders(m: int) -> list[tuple[str, np.ndarray]]:
    """Ways in which m rows are put in another order, on purpose or not; none for one row."""
    rows = np.arange(m)
    found = [
        ("backwards", rows[::-1]),
        ("one row further", np.roll(rows, 1)),
        ("one row back", np.roll(rows, -1)),
    ]
    for seed in (0, 1, 42):
        for draw in (np.random.RandomState(seed), np.random.default_rng(seed)):
            found.append((f"shuffled with seed {seed}", draw.permutation(m)))
    return found if m > 1 else []


def rows_apart(site: Site, name: str, right: np.ndarray):
    if _is(name, "W"):
        for order, rows in orders(len(site.dZ)):
            yield Leaf(_product(site, site.record.A_prev[rows], site.dZ), {"order": order})
            yield Leaf(_product(site, site.record.A_prev, site.dZ[rows]), {"order": order})


# --- db = mean of dZ ------------------------------------------------------------------------------


def bias_not_summed(site: Site, name: str, right: np.ndarray):
    if _is(name, "b"):
        yield Leaf(site.dZ)
        yield Leaf(site.dZ / site.tape.divisor)


def bias_wrong_axis(site: Site, name: str, right: np.ndarray):
    if _is(name, "b"):
        mean_dZ = site.dZ / site.tape.divisor
        for reduction, axis in itertools.product(
            (site.dZ.mean, site.dZ.sum, mean_dZ.sum), (1, None)
        ):
            yield from map(Leaf, _with_axes_kept(reduction, axis=axis))


def _with_axes_kept(sums: Callable[..., np.ndarray], **axis) -> Iterator[np.ndarray]:
    yield sums(**axis)
    yield sums(**axis, keepdims=True)


def bias_of_dW(site: Site, name: str, right: np.ndarray):
    if _is(name, "b"):
        dW = _product(site, site.record.A_prev, site.dZ)
        yield Leaf(dW.sum(axis=0))
        yield Leaf(dW.mean(axis=0))


# --- PReLU's slope --------------------------------------------------------------------------------


def slope_of(site: Site, name: str, right: np.ndarray):
    if _is(name, "slope"):
        for what, dA, Z in (
            ("dZ in the place of dA", site.dZ, np.minimum(site.record.U, 0)),
            ("Z, also where it is positive", site.dA, site.record.U),
            ("A in the place of Z", site.dA, np.minimum(site.record.A, 0)),
        ):
            yield Leaf(np.asarray(np.sum(dA * Z) / site.tape.divisor), {"what": what})


# --- what was done to a right array ---------------------------------------------------------------


def extra_l2(site: Site, name: str, right: np.ndarray):
    field, _ = split(name)
    given, weight = site.given[name], getattr(site.record.layer, field)
    # a constant fitted to one number would explain any of them
    if weight.size < 2 or given.shape != right.shape or not weight.any():
        return
    yield Leaf(right + weight * (np.vdot(weight, given - right) / np.vdot(weight, weight)))


def updated_parameter(site: Site, name: str, right: np.ndarray):
    field, _ = split(name)
    given, own = site.given[name], getattr(site.record.layer, field)
    if own.size < 2 or given.shape != right.shape or not right.any():
        return
    rate = float(np.vdot(right, own - given) / np.vdot(right, right))
    if rate > 0:
        yield Leaf(own - rate * right, {"rate": f"{rate:.3g}"})


def rounded(site: Site, name: str, right: np.ndarray):
    given = site.given[name]
    for digits in range(1, 9) if given.shape == right.shape else ():
        if np.array_equal(given, np.round(given, digits)):
            if given.any():
                yield Leaf(np.round(right, digits), {"digits": str(digits)})
            return


def clipped(site: Site, name: str, right: np.ndarray):
    """Entries beyond a limit are at the limit; that some are is what tells."""
    given = site.given[name]
    limit = size(given)
    if given.shape == right.shape and np.sum(np.abs(given) == limit) > 1 and size(right) > limit:
        yield Leaf(np.clip(right, -limit, limit), {"limit": f"{limit:g}"})
