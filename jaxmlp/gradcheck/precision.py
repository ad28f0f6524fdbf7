"""What one dtype can tell: how far right numbers may be off in it, and where it cannot decide."""

import dataclasses
import functools

import jax
import numpy as np

from jaxmlp.gradcheck.certificate import Row, Verdict
from jaxmlp.gradcheck.names import Arrays, eps_of
from jaxmlp.gradcheck.numbers import error, flushed, numbers, size
from jaxmlp.gradcheck.references import FLOAT64
from jaxmlp.gradcheck.rounding import conventions, spread
from jaxmlp.gradcheck.tape import Tape, backward
from jaxmlp.gradcheck.truth import Truth

SAFETY = 16.0
VAGUE = 1e-2  # a tolerance that decides nothing


@dataclasses.dataclass(frozen=True, eq=False)
class Precision:
    """One truth as one dtype sees it. rtol: the caller's tolerance, None for that of rounding."""

    truth: Truth
    dtype: np.dtype
    rtol: float | None

    @functools.cached_property
    def errors(self) -> dict[str, float]:
        return self.truth.errors(self.dtype)

    @property
    def eps(self) -> float:
        return eps_of(self.dtype)

    def tolerance(self, name: str) -> float:
        """Of an array of the gradient, or "J"; as `numbers.error` absolute for zeros."""
        if self.rtol is not None:
            return self.rtol
        floor = self.truth.floor(self.dtype) if self.truth.right.arrays[name].any() else 0.0
        return SAFETY * max(floor, self.errors[name])

    def step_tolerance(self, name: str, right: np.ndarray) -> float:
        """Of a step, as dZ2, of an Objective."""
        assert self.truth.rounding is not None
        error = self.eps * (self.truth.rounding.growth[name] / size(right))
        return self.rtol or SAFETY * max(self.truth.floor(self.dtype), error)

    def decides(self, name: str) -> bool:
        """Whether a difference within the tolerance says that the array is right."""
        error = SAFETY * self.errors[name]
        clear = error <= min(max(VAGUE, 128 * self.truth.floor(self.dtype)), 0.3)
        return self.reaches(name) and (clear or self._is_last or self.rtol is not None)

    def reaches(self, name: str) -> bool:
        """Whether a difference beyond the tolerance says that it is wrong."""
        right = self.truth.right.gradient[name]
        if self._is_last or not np.isfinite(right).all():
            return self._is_last
        largest = np.abs(right).max(initial=0)
        in_range = largest == 0 or largest >= self._smallest
        return bool(in_range and np.isfinite(self.errors[name]))

    @property
    def _is_last(self) -> bool:
        """Whether there is nothing better, because J does not run in float64."""
        return self.dtype == self.truth.right.dtype != FLOAT64

    @property
    def _smallest(self) -> float:
        """The largest entry that an array needs: 1e-30 in float32, for what underflows on the way
        is lost to those below; float16 has little range and keeps its subnormals."""
        if self.dtype == FLOAT64:
            return 0.0
        limits = jax.numpy.finfo(self.dtype)
        lost = limits.smallest_subnormal if self.dtype == np.float16 else limits.tiny
        return 10 * float(lost) / self.eps

    @functools.cached_property
    def tapes(self) -> list[Tape]:
        """Those with the other derivatives at kinks; none where no unit sits at one."""
        truth = self.truth
        if truth.tape is None or truth.rounding is None:
            return []
        with jax.enable_x64(True):
            return conventions(truth.J, truth.tape, truth.rounding.U, self.eps)

    @functools.cached_property
    def variants(self) -> list[Arrays]:
        """The gradients and steps of those tapes."""
        return [backward(tape) for tape in self.tapes]

    def compared(self, row: Row, given: np.ndarray, right, tolerance: float, scale=1.0) -> Row:
        """Return the row with numbers and verdict; at kinks every side's derivative is right."""
        row = row._replace(dtype=str(self.dtype))
        if given.shape != right.shape:
            return row._replace(
                verdict=Verdict.WRONG_SHAPE, why=f"{given.shape}, not {right.shape}"
            )
        row = row._replace(tolerance=tolerance, numbers=numbers(given, right, self.eps))
        if not np.isfinite(given.astype(np.float64)).all():
            return row._replace(verdict=Verdict.NOT_FINITE)
        slack = tolerance * np.abs(right).max(initial=0)
        off = self._spread.get(row.name, 0.0) * scale
        at_kinks = np.broadcast_to(off > slack, right.shape)
        row = row._replace(at_kinks=int(at_kinks.sum()))
        for reference in (right, *self._also(row.name, scale)):
            if error(given, reference) <= tolerance:
                found = numbers(given, reference, self.eps)
                return row._replace(verdict=Verdict.RIGHT, numbers=found)
        if not (at_kinks.any() and (np.abs(flushed(given) - right) <= off + slack).all()):
            return row._replace(verdict=Verdict.WRONG)
        apart = np.where(at_kinks, right, flushed(given))
        return row._replace(verdict=Verdict.RIGHT, numbers=numbers(apart, right, self.eps))

    @functools.cached_property
    def _spread(self) -> Arrays:
        """What the sides at kinks leave open; nothing where no unit sits at one."""
        if not self.tapes or self.truth.tape is None:
            return {}
        lower, upper, _ = self.tapes
        return spread(self.truth.tape, lower, upper)

    def _also(self, name: str, scale: float) -> list[np.ndarray]:
        """What is right as well: at kinks, and where targets sum to 1 up to rounding only."""
        others = [*self._by_sum, *self.variants]
        return [arrays[name] * scale for arrays in others if name in arrays]

    @functools.cached_property
    def _by_sum(self) -> list[Arrays]:
        return [backward(self.truth.by_sum)] if self.truth.by_sum else []
