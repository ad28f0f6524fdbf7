"""Networks of finite width, as three random numbers for each layer.

With n units in a layer, sums over units fluctuate by 1/sqrt(n), so that the log of a gradient norm
is spread over networks, and its mean lies off the mean field. For layers l = 1..L-1, given
everything before:
- forwards, `K[l]`, the variance of z[l] given the layers below: `K[l+1] = sigma_b2 + sigma_w2
  mean phi(z[l])^2`, of mean V(K[l]);
- backwards, `T[l] = |dz[l]|^2 = chi_1(K[l]) T[l+1] (1 + u)`, u of variance `(3 E phi'^4 /
  (E phi'^2)^2 - 1) / n`, correlated with the fluctuation of K[l+1] through the same units;
- and `P[l] = z[l] . dz[l]`: W[l+1] is not independent of z[l+1], so dz carries a part along
  `dP ~ phi(z[l]) P[l+1] / K[l+1]`, which grows by about chi_par a layer instead of sqrt(chi_1).
Hanin & Nica 2020, "Products of many large random matrices and gradients in deep neural networks",
for ReLU; Roberts, Yaida & Hanin 2022, "The principles of deep learning theory", for K.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from jaxmlp.meanfield.integrals import LARGEST, SMALLEST, expect, values_and_slopes

DRAWS = 10_000  # simulated networks: the mean is known to 1% of a standard deviation
STEP = 0.04  # of ln K in tables: lines between are off by 5e-5, a layer of 256 strays by 0.1
MARGIN = 8  # of ln K in tables, beyond the mean field: networks of few units stray
PANELS = 128  # most panels of an integral in a table
AT_ONCE = 2**21  # numbers drawn at once: 16 MB in each of a few arrays


def statistics(activation, sigma_w2, sigma_b2, q, widths) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of `ln(|dz[l]|^2 / |dz[L]|^2)`, layers 1..L.

    Args:
      sigma_w2, q: of layers 1..L. widths: of layers 1..L-1.
    """
    if activation.homogeneous:
        per_width = {n: _log_factor(activation, n) for n in set(widths)}
        means, variances = np.array([per_width[n] for n in widths]).T
        steps = np.stack([np.log(sigma_w2[1:]) + means, variances])
        mean, variance = np.append(np.cumsum(steps[:, ::-1], axis=1)[:, ::-1], [[0], [0]], axis=1)
    else:
        mean, variance = _simulated(activation, sigma_w2, sigma_b2, q, widths)
    return mean, np.sqrt(variance)


def _log_factor(activation, n: int) -> tuple[float, float]:
    """Mean and variance of ln X, X the mean of `phi'^2 xi^2` over n units, xi standard normal.

    Exact for phi' of two values, each with probability 1/2, from the Laplace transform of n X:
    `E exp(-e^u n X) = P(U > u)` for `U = V - ln(n X)` with V of Gumbel's law. A layer of ReLU with
    no unit active is left out.
    """
    slopes2 = values_and_slopes(activation, np.array([-1.0, 1.0]))[1] ** 2
    # The density of U falls as n e^u on the left and at least as e^(-u/2) on the right: the ends
    # are at e^-60. A sum of such equal steps is exact up to exp(-2 pi^2 / 0.05).
    u = np.arange(-60 - math.log(n), 120, 0.05) - math.log(slopes2.max())
    s = slopes2[:, None] * np.exp(u)
    # (1 + 2 s)^(-1/2) is the transform of xi^2, its derivative -(1 + 2 s)^(-3/2)
    transform = np.mean((1 + 2 * s) ** (-1 / 2), axis=0) ** (n - 1)
    density = transform * np.mean(s * (1 + 2 * s) ** (-3 / 2), axis=0)
    density /= density.sum()
    mean = density @ u
    variance = density @ (u - mean) ** 2
    return -np.euler_gamma - mean - math.log(n), variance - math.pi**2 / 6  # those of V taken off


# --- other activations: three numbers for each layer ----------------------------------------------


class Units(NamedTuple):
    """Moments of one unit over a grid of ln K, as they enter the recursions at one width n.

    log_square, log_slope2: ln E phi^2, ln E phi'^2. square_var, both: variance of `phi^2 / E
    phi^2`, and its covariance with `phi'^2 xi^2 / E phi'^2`, xi standard normal; rho: their
    correlation. log_u, log_u_sd: mean and spread of ln(1 + u), the log of the latter's mean over n
    units, by the gamma law of the same variance. pull: `E z phi phi' / E phi^2`. regression: that
    of `z phi phi'` on phi^2. radial: `E z^2 phi'^2 / (K E phi'^2)`.
    """

    log_square: np.ndarray
    log_slope2: np.ndarray
    square_var: np.ndarray
    both: np.ndarray
    rho: np.ndarray
    log_u: np.ndarray
    log_u_sd: np.ndarray
    pull: np.ndarray
    regression: np.ndarray
    radial: np.ndarray


class Table(NamedTuple):
    """`Units` on the grid `low, low + STEP, ...` of ln K."""

    low: float
    units: Units

    def at(self, x: np.ndarray) -> Units:
        """Interpolate; the two logarithms go on as straight lines beyond the ends."""
        place = (x - self.low) / STEP
        i = np.clip(place.astype(int), 0, len(self.units.pull) - 2)
        beyond, part = place - i, np.clip(place - i, 0, 1)
        return Units(*(
            y[i] + (beyond if k < 2 else part) * (y[i + 1] - y[i]) for k, y in enumerate(self.units)
        ))  # fmt: skip


@functools.lru_cache(maxsize=16)  # activations, 100 kB each
def _expectations(activation, low: int, high: int) -> np.ndarray:
    """What `_table` needs of one unit, for ln K from low to high."""

    def integrands(g, A, D):  # second and fourth moments
        return A**2, D**2, A**4, D**4, (A * D) ** 2, (g * D) ** 2, g * A * D, g * A**3 * D

    K = np.exp(np.arange(low, high, STEP))
    return expect(activation, K, integrands, PANELS)


@functools.lru_cache(maxsize=64)  # widths, 100 kB each
def _table(activation, low: int, high: int, n: int) -> Table:
    """The moments of layers of n units for ln K from low to high."""
    from scipy.special import digamma, polygamma

    f2, d2, f4, d4, f2d2, g2d2, gfd, gf3d = _expectations(activation, low, high)
    var, root = f4 - f2**2, np.exp(np.arange(low, high, STEP) / 2)
    covariance = root * (gf3d - gfd * f2)
    known = var > 1e-12 * f4  # less is rounding of f4 - f2^2
    regression = np.divide(covariance, var, out=np.zeros_like(var), where=known)
    with np.errstate(divide="ignore", invalid="ignore"):  # slopes below the range of float64
        square_var, slope2_var, both = var / f2**2, 3 * d4 / d2**2 - 1, f2d2 / (f2 * d2) - 1
        scale, shape = np.sqrt(square_var * slope2_var), n / slope2_var
        rho = np.clip(np.divide(both, scale, out=np.zeros_like(scale), where=scale > 0), -1, 1)
        units = Units(
            np.log(f2), np.log(d2), square_var, both, rho, digamma(shape) - np.log(shape),
            np.sqrt(polygamma(1, shape)), root * gfd / f2, regression, g2d2 / d2,
        )  # fmt: skip
    return Table(low, units)


def _simulated(activation, sigma_w2, sigma_b2, q, widths):
    """Mean and variance of ln T over simulated networks, in batches that fit in memory."""
    low, high = (np.log(np.clip(limit, SMALLEST, LARGEST)) for limit in (q.min(), q.max()))
    lowest = math.log(sigma_b2) if sigma_b2 else -math.inf
    ends = math.floor(max(low - MARGIN, lowest)), math.ceil(high + MARGIN)
    tables = [_table(activation, *ends, n) for n in widths]
    rng = np.random.default_rng(0)
    size = max(1, min(DRAWS, AT_ONCE // len(sigma_w2)))
    first = second = np.zeros(len(sigma_w2))
    centre, total = None, 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        while total < DRAWS:
            log_T = _draw(tables, sigma_w2, sigma_b2, q[0], widths, size, rng)
            centre = log_T.mean(axis=1) if centre is None else centre
            off = log_T - centre[:, None]
            first, second = first + off.sum(axis=1), second + (off**2).sum(axis=1)
            total += size
    assert centre is not None
    if np.isnan(second).any():
        raise ValueError(
            f"activation {activation.name!r} at these widths: some networks leave the range of "
            "variances that can be integrated, so their mean and spread are not known"
        )
    mean = first / total
    return centre + mean, second / total - mean**2


def _draw(tables, sigma_w2, sigma_b2, q1, widths, size, rng):
    """ln T of layers 1..L in so many networks."""
    x, layers = np.full(size, math.log(q1)), []
    log_b = math.log(sigma_b2) if sigma_b2 else -math.inf
    for table, w, n in zip(tables, sigma_w2[1:], widths, strict=True):
        step = _forward(table.at(x), math.log(w), log_b, n, rng)
        layers.append((x, *step))
        x = step[1]
    p, log_T = rng.standard_normal(size), [np.zeros(size)]
    for (x, units, y, log_u), w, n in zip(layers[::-1], sigma_w2[:0:-1], widths[::-1], strict=True):
        gained, p = _backward(x, units, y, log_u, p, math.log(w), log_b, n, rng)
        log_T.append(log_T[-1] + gained)
    return np.array(log_T[::-1])


def _forward(units: Units, log_w, log_b, n, rng):
    """The units' moments, ln K[l+1] and ln(1 + u), normal with the moments of a gamma law's log."""
    g, h = rng.standard_normal((2, len(units.pull)))
    noise = np.log1p(units.square_var / n)
    y = np.logaddexp(log_b, log_w + units.log_square + np.sqrt(noise) * g - noise / 2)
    mixed = units.rho * g + np.sqrt(1 - units.rho**2) * h
    return units, y, units.log_u + units.log_u_sd * mixed


def _backward(x, units: Units, y, log_u, p, log_w, log_b, n, rng):
    """ln T[l]/T[l+1] and `p[l] = P[l] / sqrt(K[l] T[l])`, from p[l+1]; x = ln K[l], y = ln K[l+1].

    `P[l] = (sigma_w2 mean z phi phi') P[l+1] / K[l+1]` plus what is independent of it;
    `T[l]/T[l+1] = chi_1 (1 + u) (1 + s (p[l+1]^2 - 1))`, `s = sigma_w2 E phi^2 phi'^2 / (n K[l+1])`
    over chi_1: of n directions one carries p^2 in the place of 1.
    """
    log_chi, log_weights = log_w + units.log_slope2, log_w + units.log_square
    log_V = np.logaddexp(log_b, log_weights)
    s = (1 + units.both) * np.exp(log_weights - y) / n
    # s (p^2 - 1) >= -s; below n = 2 or so s may pass 1, which leading order does not describe
    gained = log_chi + log_u + np.log1p(np.maximum(s * (p**2 - 1), -0.9))
    mixed = units.pull * np.exp(log_weights - (x + y) / 2)
    mixed += units.regression * (np.exp((y - x) / 2) - np.exp(log_V - (x + y) / 2))
    free = np.exp(log_chi) * units.radial - units.pull**2 * np.exp(2 * log_weights - x - log_V)
    new = mixed * p + np.sqrt(np.maximum(free, 0)) * rng.standard_normal(len(p))
    return gained, new * np.exp(-gained / 2)
