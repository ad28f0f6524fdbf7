"""Mistakes that multiply by a number: known ones, and any other by its size."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from jaxmlp.gradcheck.mistake import Flow, Leaf, Mistake, Site
from jaxmlp.gradcheck.numbers import size
from jaxmlp.gradcheck.tape import Back, leaves


def known_factor(name: str, mend: str, of: Callable[[int, int], tuple[float, ...]]) -> Mistake:
    """Arrays or steps off by a factor, which m samples and K outputs decide."""

    def factors(site: Site) -> list[float]:
        return [f for f in of(*site.tape.Y.shape) if f != 1]

    def leaf(site: Site, name: str, right: np.ndarray):
        return (Leaf(right * f) for f in factors(site))

    def flow(site: Site):
        for f in factors(site):
            yield _times(site, f)

    return Mistake(name, mend, leaf, flow, is_factor=True)


def _times(site: Site, factor: float, words: dict[str, str] | None = None) -> Flow:
    back = Back(*(x * factor for x in site.back))
    return Flow(back, site.number, f"dZ{site.number}", words or {})


def any_factor_leaf(site: Site, name: str, right: np.ndarray) -> Iterator[Leaf]:
    """The array by the factor that fits it best; a single number would be fitted by any."""
    if right.size > 1:
        for factor in _fitted(site.given[name], right):
            yield Leaf(right * factor, _words(site, factor))


def any_factor_flow(site: Site) -> Iterator[Flow]:
    right = leaves(site.tape, site.number, site.back)
    largest = max(right, key=lambda name: right[name].size)
    for factor in _fitted(site.given.get(largest), right[largest]):
        yield _times(site, factor, _words(site, factor))


def _fitted(given: np.ndarray | None, right: np.ndarray) -> Iterator[float]:
    if given is None or given.shape != right.shape or not (right.any() and given.any()):
        return
    c, r = given.astype(np.float64) / size(given), right / size(right)
    fitted = float(np.vdot(r, c) / np.vdot(r, r))
    factor = fitted * (size(given) / size(right))
    is_near = bool(np.abs(c - fitted * r).max() < 0.02)  # half precision rounds by a hundredth
    if is_near and np.isfinite(factor) and factor != 0 and abs(factor - 1) > 1e-12:
        yield factor


def _words(site: Site, factor: float) -> dict[str, str]:
    exact = of_what(factor, *site.tape.Y.shape, *site.record.layer.W.shape)
    return {"factor": f"{factor:.4g}", "why": f": {exact}" if exact else ""}


def of_what(factor: float, m: int, K: int, d_in: int, d_out: int) -> str:
    """Say a factor as a product of what the network has: "-m / 2, m = 300 samples"."""
    meanings = {"m": m, "K": K, "d_in": d_in, "d_out": d_out, "m - 1": m - 1, "2": 2}
    words = {
        "m": f"m = {m} samples", "K": f"K = {K} outputs", "d_in": f"d_in = {d_in} inputs",
        "d_out": f"d_out = {d_out} units", "m - 1": f"m = {m} samples",
    }  # fmt: skip
    known = {name: float(value) for name, value in meanings.items() if value > 1}
    for count in (1, 2):
        for names in itertools.combinations(known, count):
            for powers in itertools.product((1, -1), repeat=count):
                value = math.prod(known[n] ** p for n, p in zip(names, powers, strict=True))
                if abs(value / abs(factor) - 1) < 1e-5:
                    product = _product(names, powers)
                    told = [words[name] for name in names if name in words]
                    return ", ".join(["-" * (factor < 0) + product, *dict.fromkeys(told)])
    return ""


def _product(names: tuple[str, ...], powers: tuple[int, ...]) -> str:
    held = [f"({name})" if " " in name else name for name in names]
    over = [name for name, power in zip(held, powers, strict=True) if power > 0] or ["1"]
    under = [name for name, power in zip(held, powers, strict=True) if power < 0]
    return " ".join(over) + (f" / {' '.join(under)}" if under else "")
