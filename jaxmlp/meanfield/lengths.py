"""The length of z from layer to layer in wide networks, and where it settles.

`z[l] = W[l] phi(z[l-1]) + b[l]`, `W ~ N(0, sigma_w2 / fan_in)`, `b ~ N(0, sigma_b2)`. At infinite
width the units of z[l] are Gaussian. Their variance q[l] is called the length, and the length map V
gives `q[l+1] = V(q[l])`. Its fixed points are roots of V(q)/q - 1. They are sought in t = ln q: a
table of V/q - 1 at equally spaced edges shows in which cells a root lies, and there it is the root
of a Chebyshev polynomial.
"""

import functools
import itertools
import math

import numpy as np
from numpy.polynomial import Chebyshev

from jaxmlp import checks
from jaxmlp.activations import Activation
from jaxmlp.meanfield.integrals import (
    LARGEST,
    MOST,
    SMALLEST,
    Moments,
    elementwise,
    moments,
    moments_or_nan,
    unresolved,
)

STEP = 0.25  # chosen: of ln q, between the edges of the cells in which roots are sought
EDGES = np.arange(math.ceil(math.log(SMALLEST) / STEP), math.log(LARGEST) / STEP) * STEP
NOISE = 1e-12  # the accuracy of integrals; smaller relative differences count as 0
DEGREE = 14  # of the polynomial on a cell; measured: right to 4e-15 (6 activations, 5 lengths)
ROUNDING = 1e-9  # chosen: the accuracy of a root of such a polynomial
LONGEST = 300  # chosen: for how many layers a length map that is not increasing is followed


def length_map(activation: str | Activation, sigma_w2: float, sigma_b2: float, q) -> np.ndarray:
    """Return the variance of the next layer, `sigma_w2 E phi(z)^2 + sigma_b2` with `z ~ N(0, q)`.

    Poole et al. 2016, "Exponential expressivity in deep neural networks through transient chaos".

    Example:
      >>> length_map("relu", 2.0, 0.1, [1.0, 4.0])
      array([1.1, 4.1])
    """
    activation, sigma_w2, sigma_b2 = checked(activation, sigma_w2, sigma_b2)
    return sigma_w2 * moments(activation, q).square + sigma_b2


def checked(activation, sigma_w2, sigma_b2) -> tuple[Activation, float, float]:
    """Return the three; refuse an unknown activation, softmax, and what is not a variance."""
    sigma_b2 = nonnegative("sigma_b2", sigma_b2)
    if 0 < sigma_b2 < SMALLEST:
        raise ValueError(f"sigma_b2 must be 0 or at least {SMALLEST}, got {sigma_b2}")
    return elementwise(activation), checks.positive_number("sigma_w2", sigma_w2), sigma_b2


def nonnegative(name: str, value) -> float:
    """Return a number that is 0 or positive; refuse any other."""
    return 0.0 if value == 0 else checks.positive_number(name, value)


def settled(activation, sigma_w2, sigma_b2, q0) -> tuple[float, str]:
    """Return where iterating the length map from q0 ends, and the stability of that point."""
    if not SMALLEST <= q0 <= LARGEST:
        raise ValueError(f"q0 must lie between {SMALLEST} and {LARGEST}, got {q0}")
    excess = _excess(activation, sigma_w2, sigma_b2)
    here = _value(activation, sigma_w2, sigma_b2, math.log(q0))
    # q0 itself may be a fixed point
    if abs(here) <= NOISE:
        flat = np.nanmax(np.abs(excess)) <= NOISE
        return q0, "scale-invariant" if flat else _stability(activation, sigma_w2, sigma_b2, q0)
    # An increasing map goes on to the next root in its direction
    roots = fixed_lengths(activation, sigma_w2, sigma_b2)
    if here > 0:
        q = min((root for root in roots if root > q0), default=math.inf)
    else:
        q = max((root for root in roots if root < q0), default=0.0)
    # Are all integrals on the way known, and is the map increasing there?
    low, high = sorted((math.log(q0), math.log(min(max(q, SMALLEST), LARGEST))))
    between = np.abs(EDGES - (low + high) / 2) <= (high - low) / 2 + STEP
    if np.isnan(excess[between]).any():
        raise unresolved(activation, math.exp(float(EDGES[between & np.isnan(excess)][0])))
    if (scan(activation).gain[between] < 0).any():
        return _iterated(activation, sigma_w2, sigma_b2, q0, roots)
    if math.isinf(q):
        return q, "diverges"
    return q, "stable" if q == 0 else _stability(activation, sigma_w2, sigma_b2, q)


def _stability(activation, sigma_w2, sigma_b2, q):
    """Return the stability of a root q from V/q - 1 a little below and above it."""
    # At a distance h a slope s gives values -s h and s h, and a curvature of about 1 gives h^2 / 2
    # on both sides. With h = 1e-3 a slope below 5e-5 counts as none: the values then have one sign
    # and differ by less than 1e-7
    t, h = math.log(q), 1e-3
    below, above = (_value(activation, sigma_w2, sigma_b2, t + d) for d in (-h, h))
    if below * above > 0 and abs(above - below) < 1e-7:
        return "half-stable"
    return "stable" if above < below else "unstable"


def _iterated(activation, sigma_w2, sigma_b2, q0, roots):
    """Return where a length map that is not increasing leads; it may be a cycle about a root."""
    path = [q0]
    while len(path) <= LONGEST and not (len(path) > 1 and path[-1] == path[-2]):
        path.append(sigma_w2 * float(moments(activation, path[-1]).square) + sigma_b2)
    nearest = min(roots, key=lambda root: abs(root - path[-1]), default=0.0)
    early, late = (abs(path[i] - nearest) for i in (len(path) // 2, -1))
    # Stable if it has arrived, or if (chosen) the second half of the way brought it nearer by 10%
    return nearest, "stable" if late <= max(ROUNDING * nearest, 0.9 * early) else "oscillates"


def fixed_lengths(activation, sigma_w2, sigma_b2) -> list[float]:
    """Return all q > 0 with V(q) = q: there V/q - 1 changes its sign, or touches 0."""
    excess = _excess(activation, sigma_w2, sigma_b2)
    cell = functools.partial(_polynomial, activation, sigma_w2, sigma_b2)
    roots = roots_in_cells(excess, cell, NOISE)
    for i in np.flatnonzero(_may_touch(excess)):
        roots += _near_touch(cell(i))
    return [math.exp(t) for t in sorted(roots)]


def roots_in_cells(at_edges, cell, noise) -> list[float]:
    """Return all t at which a function crosses 0.

    at_edges: its values at the edges. cell: `cell(i)`, its polynomial on the cell above edge i.
    noise: smaller values have no sign. Where values are NaN no root is sought.
    """
    known, roots = np.flatnonzero(np.abs(at_edges) > noise), []
    for i, j in itertools.pairwise(known):
        if at_edges[i] * at_edges[j] < 0:
            between = [t for k in range(i, j) for t in roots_of(cell(k))]
            roots += between[:1] or [float(EDGES[(i + j) // 2])]
    return roots


def _may_touch(excess):
    """Return in which cells V/q - 1 may touch 0 without changing its sign at the edges.

    Its values there are small and of one sign. Near q = 0 they may be small too, but there they
    follow a power law and change little from edge to edge.
    """
    size, same = np.abs(excess), excess[:-1] * excess[1:] > NOISE**2
    less, more = np.fmin(size[:-1], size[1:]), np.fmax(size[:-1], size[1:])
    # A curvature of about 1 bends V/q - 1 by STEP^2 / 8 = 0.008 over a cell
    small = same & (more < 0.01)
    bent = np.pad(~same | (more > 2 * less), 1)  # chosen: 2; a power q^p reaches it if p > 2.7
    return small & (bent[:-2] | bent[1:-1] | bent[2:])


def _near_touch(excess: Chebyshev) -> list[float]:
    """Return the roots of V/q - 1 in a cell that has one sign at both ends: two, one or none."""
    for t in roots_of(excess.deriv()):
        if abs(excess(t)) <= NOISE:
            return [t]
        if excess(t) * excess(excess.domain[0]) < 0:
            return roots_of(excess)
    return []


def _excess(activation, sigma_w2, sigma_b2):
    """Return V/q - 1 at the edges."""
    return sigma_w2 * scan(activation).square / np.exp(EDGES) + sigma_b2 * np.exp(-EDGES) - 1


def _value(activation, sigma_w2, sigma_b2, t):
    """Return V/q - 1 at q = exp(t)."""
    i = min(max(math.floor((t - EDGES[0]) / STEP), 0), len(EDGES) - 2)
    return float(_polynomial(activation, sigma_w2, sigma_b2, i)(t))


def _polynomial(activation, sigma_w2, sigma_b2, i) -> Chebyshev:
    """Return V/q - 1 as a polynomial in t = ln q on the cell above edge i."""
    ratio, inverse, one = _cell(activation, int(i))
    return Chebyshev(sigma_w2 * ratio + sigma_b2 * inverse - one, [EDGES[i], EDGES[i] + STEP])


@functools.lru_cache(maxsize=4096)  # chosen: the cells of 14 activations, 3 MB
def _cell(activation: Activation, i: int) -> list[np.ndarray]:
    """Return the coefficients of E phi^2 / q, 1 / q and 1 in ln q, on the cell above edge i."""
    ratio = lambda t: moments(activation, np.exp(t)).square * np.exp(-t)  # noqa: E731
    functions = (ratio, lambda t: np.exp(-t), np.ones_like)
    return [interpolated(function, i).coef for function in functions]


def interpolated(function, i: int) -> Chebyshev:
    """Return the polynomial of a function of ln q on the cell above edge i, to about 1e-14."""
    return Chebyshev.interpolate(function, DEGREE, [EDGES[i], EDGES[i] + STEP])


def roots_of(polynomial: Chebyshev) -> list[float]:
    """Return the real roots of a polynomial in its interval, ascending."""
    low, high = polynomial.domain
    found = polynomial.roots()
    real = np.real(found[np.abs(np.imag(found)) <= ROUNDING])
    return sorted(float(t) for t in real if low - ROUNDING <= t <= high + ROUNDING)


@functools.lru_cache(maxsize=64)  # chosen: more than there are activations
def scan(activation: Activation) -> Moments:
    """Return the moments at the edges; NaN if they do not settle with few panels."""
    return moments_or_nan(activation, np.exp(EDGES), most_panels=MOST // 32)  # chosen: 128
