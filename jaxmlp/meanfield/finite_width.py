"""Networks of finite width, simulated with three random numbers for each layer.

In a layer of n units, sums over units fluctuate by 1/sqrt(n). So the log of a gradient norm differs
from network to network, and its mean differs from mean field. Three numbers of the layers
l = 1..L-1 are followed, each given those of the layers before:

- Forwards `K[l]`, the variance of z[l] given the layers below:
  `K[l+1] = sigma_b2 + sigma_w2 mean phi(z[l])^2`, with mean V(K[l]), the length map.
- Backwards `T[l] = |dz[l]|^2 = chi_1(K[l]) T[l+1] (1 + u)`. u has variance
  `(3 E phi'^4 / (E phi'^2)^2 - 1) / n` and is correlated with the fluctuation of K[l+1], because
  both come from the same units.
- Backwards `P[l] = z[l] . dz[l]`. W[l+1] is not independent of z[l+1], so dz[l] has a part along
  `phi(z[l]) P[l+1] / K[l+1]`. This part grows by about chi_par a layer and not by sqrt(chi_1).

Sources: Hanin & Nica 2020, "Products of many large random matrices and gradients in deep neural
networks", for ReLU; Roberts, Yaida & Hanin 2022, "The principles of deep learning theory", for K.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from jaxmlp.meanfield.integrals import LARGEST, SMALLEST, expect
from jaxmlp.meanfield.quadrature import values_and_slopes

DRAWS = 10_000  # simulated networks: the mean is then known to 1% of a standard deviation
STEP = 0.04  # chosen: of ln K in tables. Straight lines between are off by 5e-5
MARGIN = 8  # chosen: of ln K in tables, beyond mean field, because narrow networks stray
PANELS = 128  # chosen: the most panels of an integral in a table
AT_ONCE = 2**21  # chosen: numbers drawn at once, 16 MB in each of a few arrays


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
    """Return mean and variance of ln X, X the mean of `phi'^2 xi^2` over n units, xi normal.

    It is exact if phi' has two values, each with probability 1/2. Let V have Gumbel's distribution
    and `U = V - ln(n X)`. Then `P(U > u) = E exp(-e^u n X)`, a Laplace transform that is known. So
    the mean and variance of ln X are those of U with V's subtracted. Layers of ReLU in which no
    unit is active are left out.
    """
    slopes2 = values_and_slopes(activation, np.array([-1.0, 1.0]))[1] ** 2
    # The density of U falls as n e^u on the left and at least as e^(-u/2) on the right, so it is
    # e^-60 at both ends. With equal steps of 0.05 its sum is exact up to exp(-2 pi^2 / 0.05)
    u = np.arange(-60 - math.log(n), 120, 0.05) - math.log(slopes2.max())
    s = slopes2[:, None] * np.exp(u)
    # (1 + 2 s)^(-1/2) is the transform of xi^2, its derivative -(1 + 2 s)^(-3/2)
    transform = np.mean((1 + 2 * s) ** (-1 / 2), axis=0) ** (n - 1)
    density = transform * np.mean(s * (1 + 2 * s) ** (-3 / 2), axis=0)
    density /= density.sum()
    mean = density @ u
    variance = density @ (u - mean) ** 2
    # V has mean -euler_gamma and variance pi^2 / 6
    return -np.euler_gamma - mean - math.log(n), variance - math.pi**2 / 6


# --- other activations: three numbers for each layer ----------------------------------------------


class Units(NamedTuple):
    """Hold the moments of one unit that the recursions need, over a grid of ln K, at one width n.

    With f = `phi^2 / E phi^2` and g = `phi'^2 xi^2 / E phi'^2`, xi standard normal:
    log_square, log_slope2: ln E phi^2 and ln E phi'^2.
    square_var: the variance of f. cov: the covariance of f and g. rho: their correlation.
    log_u, log_u_sd: mean and standard deviation of ln(1 + u), 1 + u the mean of g over n units; by
    the gamma distribution of the same variance.
    pull: `E z phi phi' / E phi^2`. regression: the slope of the regression of `z phi phi'` on
    phi^2. radial: `E z^2 phi'^2 / (K E phi'^2)`.
    """

    log_square: np.ndarray
    log_slope2: np.ndarray
    square_var: np.ndarray
    cov: np.ndarray
    rho: np.ndarray
    log_u: np.ndarray
    log_u_sd: np.ndarray
    pull: np.ndarray
    regression: np.ndarray
    radial: np.ndarray


class Table(NamedTuple):
    """Hold `Units` on the grid `low, low + STEP, ...` of ln K."""

    low: float
    units: Units

    def at(self, x: np.ndarray) -> Units:
        """Interpolate. Beyond the ends the two logarithms go on as lines, the others stay."""
        place = (x - self.low) / STEP
        i = np.clip(place.astype(int), 0, len(self.units.pull) - 2)
        beyond, part = place - i, np.clip(place - i, 0, 1)
        return Units(*(
            y[i] + (beyond if k < 2 else part) * (y[i + 1] - y[i]) for k, y in enumerate(self.units)
        ))  # fmt: skip


@functools.lru_cache(maxsize=16)  # chosen: activations, 100 kB each
def _expectations(activation, low: int, high: int) -> np.ndarray:
    """Return the expectations over one unit from which `_table` is made."""

    def integrands(g, A, D):  # second and fourth moments
        return A**2, D**2, A**4, D**4, (A * D) ** 2, (g * D) ** 2, g * A * D, g * A**3 * D

    K = np.exp(np.arange(low, high, STEP))
    return expect(activation, K, integrands, PANELS)


@functools.lru_cache(maxsize=64)  # chosen: widths, 100 kB each
def _table(activation, low: int, high: int, n: int) -> Table:
    """Return the moments of layers of n units for ln K from low to high."""
    from scipy.special import digamma, polygamma

    f2, d2, f4, d4, f2d2, g2d2, gfd, gf3d = _expectations(activation, low, high)
    var, root = f4 - f2**2, np.exp(np.arange(low, high, STEP) / 2)
    covariance = root * (gf3d - gfd * f2)
    known = var > 1e-12 * f4  # a smaller one is the rounding error of f4 - f2^2
    regression = np.divide(covariance, var, out=np.zeros_like(var), where=known)
    with np.errstate(divide="ignore", invalid="ignore"):  # phi' may be below the range of float64
        square_var, slope2_var, cov = (
            var / f2**2,
            3 * d4 / d2**2 - 1,
            f2d2 / (f2 * d2) - 1,
        )
        scale, shape = np.sqrt(square_var * slope2_var), n / slope2_var
        rho = np.clip(np.divide(cov, scale, out=np.zeros_like(scale), where=scale > 0), -1, 1)
        units = Units(
            np.log(f2), np.log(d2), square_var, cov, rho, digamma(shape) - np.log(shape),
            np.sqrt(polygamma(1, shape)), root * gfd / f2, regression, g2d2 / d2,
        )  # fmt: skip
    return Table(low, units)


def _simulated(activation, sigma_w2, sigma_b2, q, widths):
    """Return mean and variance of ln T over simulated networks, drawn in batches."""
    # The range of ln K for the tables; K is at least sigma_b2
    low, high = (np.log(np.clip(limit, SMALLEST, LARGEST)) for limit in (q.min(), q.max()))
    lowest = math.log(sigma_b2) if sigma_b2 else -math.inf
    ends = math.floor(max(low - MARGIN, lowest)), math.ceil(high + MARGIN)
    tables = [_table(activation, *ends, n) for n in widths]
    # Sums of ln T and its square, less about its mean, so that they do not cancel
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
    """Return ln T of layers 1..L in `size` networks."""
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
    """Return the units' moments, and draws of ln K[l+1] and of ln(1 + u), both normal."""
    g, h = rng.standard_normal((2, len(units.pull)))
    noise = np.log1p(units.square_var / n)
    y = np.logaddexp(log_b, log_w + units.log_square + np.sqrt(noise) * g - noise / 2)
    mixed = units.rho * g + np.sqrt(1 - units.rho**2) * h
    return units, y, units.log_u + units.log_u_sd * mixed


def _backward(x, units: Units, y, log_u, p, log_w, log_b, n, rng):
    """Return ln(T[l] / T[l+1]) and `p[l] = P[l] / sqrt(K[l] T[l])`, from p[l+1].

    x is ln K[l], y is ln K[l+1]. `P[l] = (sigma_w2 mean z phi phi') P[l+1] / K[l+1]` plus an
    independent part. `T[l] / T[l+1] = chi_1 (1 + u) (1 + s (p[l+1]^2 - 1))`, with
    `s = sigma_w2 E phi^2 phi'^2 / (n K[l+1] chi_1)`: one of n directions has p^2 and not 1.
    """
    log_chi, log_weights = log_w + units.log_slope2, log_w + units.log_square
    log_V = np.logaddexp(log_b, log_weights)
    s = (1 + units.cov) * np.exp(log_weights - y) / n
    # s (p^2 - 1) is at least -s. Below about n = 2, s may exceed 1, which leading order does not
    # describe. Chosen: it is kept above -0.9, so that the log exists
    gained = log_chi + log_u + np.log1p(np.maximum(s * (p**2 - 1), -0.9))
    mixed = units.pull * np.exp(log_weights - (x + y) / 2)
    mixed += units.regression * (np.exp((y - x) / 2) - np.exp(log_V - (x + y) / 2))
    free = np.exp(log_chi) * units.radial - units.pull**2 * np.exp(2 * log_weights - x - log_V)
    new = mixed * p + np.sqrt(np.maximum(free, 0)) * rng.standard_normal(len(p))
    return gained, new * np.exp(-gained / 2)
