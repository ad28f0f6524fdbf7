"""Gaussian integrals of an activation, by Gauss-Legendre quadrature on panels split at its kinks.

The number of panels is doubled until two answers agree. If they never do, the answer is NaN here,
and the public functions raise an error. Everything is float64 on the host, whatever the caller's
precision.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxmlp import activations
from jaxmlp.activations import Activation
from jaxmlp.meanfield.quadrature import (
    NODES,
    REACH_OF_TWO,
    centres_of,
    panels,
    values,
    values_and_slopes,
)

SMALLEST, LARGEST = 1e-16, 1e16  # chosen: variances that are integrated; power laws go on beyond
AGREEMENT = 1e-12  # chosen: how near two successive answers are, relative to the integral of |f|
FEWEST, MOST = 4, 4096  # chosen: panels on each side of each kink, at the start and at most
MOST_OF_TWO = 64  # chosen: the most panels in each of two dimensions, 1e6 nodes in all
SMALLEST_ANGLE = 1e-6  # 1 - cos is 5e-13 there; at smaller angles rounding takes over
_AT_ONCE = 2**20  # chosen: nodes evaluated at once, 8 MB in each of a few arrays


class Moments(NamedTuple):
    """Hold expectations over `z ~ N(0, q)`, arrays like q.

    square: E phi(z)^2. slope2: E phi'(z)^2, with the phi' of backpropagation, which is 0 at a jump.
    gain: dE phi(z)^2 / dq = E z phi phi' / q, where jumps do count.
    """

    square: np.ndarray
    slope2: np.ndarray
    gain: np.ndarray


def elementwise(activation: str | Activation) -> Activation:
    """Return the activation; refuse softmax, because it mixes the units."""
    activation = activations.get(activation)
    if activation is activations.softmax:
        raise ValueError("mean-field theory needs an elementwise activation, got softmax")
    activations.check_derivative(activation)
    return activation


def moments(activation: str | Activation, q) -> Moments:
    """Return the moments for variances q from 0 to infinity.

    Below 1e-16 and above 1e16 they are continued by the power laws that hold there.

    Raises:
      ValueError: for a negative q, softmax, and an activation whose integrals do not settle.

    Example:
      >>> moments("relu", [1.0, 4.0]).square
      array([0.5, 2. ])
    """
    activation = elementwise(activation)
    if not (np.asarray(q) >= 0).all():
        raise ValueError(f"q must be at least 0, got {q}")
    found = moments_or_nan(activation, q)
    bad = np.isnan(found.square)
    if bad.any():
        raise unresolved(activation, np.asarray(q)[bad].flat[0])
    return found


def unresolved(activation: Activation, q: float) -> ValueError:
    """Return the error for integrals that do not settle at a variance q."""
    return ValueError(
        f"the integrals of activation {activation.name!r} do not settle at a variance of {q:.3g}: "
        "name its kinks, or keep the variance where it oscillates less"
    )


def moments_or_nan(activation: Activation, q, most_panels: int = MOST) -> Moments:
    """Return `moments`, with NaN for a q whose integrals do not settle with so many panels."""
    q = np.asarray(q, np.float64)
    if activation.homogeneous:
        slope2 = _mean_slope2(activation)
        square = q * slope2 if slope2 else np.zeros_like(q)  # not inf times 0
        return Moments(square, np.full_like(q, slope2), np.full_like(q, slope2))
    inside = np.clip(q.ravel(), SMALLEST, LARGEST)
    found = _moments(activation, inside, most_panels)
    # Beyond the range: the power law through the last point and one a factor of 4 inside
    beyond = inside != q.ravel()
    if beyond.any():
        further = np.where(inside < 1, 4 * inside, inside / 4)[beyond]
        neighbour = _moments(activation, further, most_panels)
        with np.errstate(all="ignore"):
            law = np.log(found[:, beyond] / neighbour) / np.log(inside[beyond] / further)
            law = np.where(found[:, beyond] == 0, 0, np.round(law, 6))  # two points give 7 digits
            power = np.exp(law * np.log(q.ravel()[beyond] / inside[beyond]))
            found[:, beyond] *= np.where(law == 0, 1, power)
    found = _exact_at_zero(activation, q, Moments(*found.reshape(-1, *q.shape)))
    return _exact_at_infinity(activation, q, found)


@functools.cache
def _mean_slope2(activation) -> float:
    """Return E phi'^2 of an activation that is a straight line on each side of 0."""
    return float(np.mean(values_and_slopes(activation, np.array([-1.0, 1.0]))[1] ** 2))


def _exact_at_zero(activation, q, found):
    """Return the moments with slope2 and gain at q = 0 taken from phi' on both sides of 0."""
    if not (q == 0).any():
        return found
    near = 1e-100  # small enough for phi to be a line, and large enough to be a normal float64
    (A, D) = values_and_slopes(activation, np.array([-near, near]))
    slope2 = np.where(q == 0, np.mean(D**2), found.slope2)
    passes_0 = np.abs(A).max() < 10 * near  # phi(0) = 0 if phi' is below 10
    gain = np.where((q == 0) & passes_0, np.mean(D**2), found.gain)
    return found._replace(slope2=slope2, gain=gain)


def _exact_at_infinity(activation, q, found):
    """Return the moments with slopes at q = inf taken far out, where phi is a straight line."""
    at_end = np.isinf(q) & (found.slope2 > 0) & np.isfinite(found.slope2)
    if not at_end.any():
        return found
    far = 1e50  # chosen: even its sixth power is in range, and no activation grows so fast
    slope2 = np.mean(values_and_slopes(activation, np.array([-far, far]))[1] ** 2)
    return Moments(found.square, *(np.where(at_end, slope2, old) for old in found[1:]))


def _moments(activation, q, most_panels):
    """Return square, slope2 and gain by integration."""
    found = expect(activation, q, lambda g, A, D: (A**2, D**2, g * A * D), most_panels)
    found[2] /= np.sqrt(q)
    # A jump of phi^2 at a kink adds its part of dE phi^2 / dq
    for kink, jump in jumps(activation):
        density = np.exp(-(kink**2) / (2 * q)) / np.sqrt(2 * np.pi * q)
        found[2] += kink * jump * density / (2 * q)
    return found


@functools.cache
def jumps(activation: Activation) -> list[tuple[float, float]]:
    """Return where phi itself jumps, and by how much phi^2 jumps there."""
    kinks = np.array(activation.kinks)
    step = 1e-9 * np.maximum(1, np.abs(kinks))  # over it phi changes by 1e-9 if it does not jump
    above, below = (values_and_slopes(activation, kinks + d)[0] for d in (step, -step))
    return [
        (kink, a**2 - b**2) for kink, a, b in zip(kinks, above, below, strict=True)
        if abs(a - b) > 1e-6  # chosen: far above 1e-9
    ]  # fmt: skip


# --- one Gaussian ---------------------------------------------------------------------------------


def expect(
    activation: Activation, q: np.ndarray, integrands: Callable, most_panels: int = MOST
) -> np.ndarray:
    """Return `E f(g, phi(z), phi'(z))` with `z = sqrt(q) g`, g standard normal, for every q.

    Args:
      q: (n,) positive variances.
      integrands: `f(g, A, D)` -> a sequence of arrays like A.
      most_panels: the number of panels on each side of each kink at which to give up.

    Returns:
      (number of integrands, n); NaN for a q whose answers did not agree.
    """
    # Double the panels for every q that is still open
    num = FEWEST
    old, _ = _integrals(activation, q, integrands, num)
    values, open_ = np.full_like(old, np.nan), np.arange(len(q))
    while len(open_) and num < most_panels:
        num *= 2
        new, sizes = _integrals(activation, q[open_], integrands, num)
        done = (np.abs(new - old) <= AGREEMENT * sizes).all(axis=0)
        values[:, open_[done]] = new[:, done]
        old, open_ = new[:, ~done], open_[~done]
    return values


def _integrals(activation, q, integrands, num):
    """Return the integrals of f and of |f| with `num` panels on each side of each kink."""
    centres = centres_of(activation)
    step = max(1, _AT_ONCE // (2 * NODES * num * len(centres)))
    parts = []
    for i in range(0, len(q), step):
        root = np.sqrt(q[i : i + step, None])
        g, weights = panels(centres / root, 1 / np.maximum(1, root), num)
        with np.errstate(over="ignore", invalid="ignore"):
            f = np.stack(integrands(g, *values_and_slopes(activation, root * g)))
            parts.append([np.sum(f * weights, axis=-1), np.sum(np.abs(f) * weights, axis=-1)])
    return np.concatenate(parts, axis=-1)


# --- two correlated Gaussians ---------------------------------------------------------------------


def half_difference(activation: Activation, q: float, theta: float) -> float:
    """Return `E (phi(u1) - phi(u2))^2 / 2`, u1 and u2 of variance q and correlation cos(theta).

    It equals `E phi^2 - E phi(u1) phi(u2)`, but does not cancel near theta = 0. It is accurate to
    1e-10, and to 1e-6 below theta = 1e-6.
    """
    if theta == 0:
        return 0.0
    if theta < SMALLEST_ANGLE and not jumps(activation):
        return theta**2 / 2 * q * float(moments(activation, q).slope2)
    num, old = 2, _double_integral(activation, q, theta, 2)
    while num < MOST_OF_TWO:
        num = -(-4 * num // 3)  # a third more, rounded up, because the time grows with num^2
        new = _double_integral(activation, q, theta, num)
        # phi(u1) - phi(u2) is about theta and is rounded at 1e-16: the relative error is
        # 1e-15 / theta with room. Chosen: 10 AGREEMENT, because it is a double integral
        if abs(new - old) <= (10 * AGREEMENT + 1e-15 / theta) * new:
            return new
        old = new
    raise unresolved(activation, q)


def _double_integral(activation, q, theta, num):
    """Return the integral of `half_difference` with `num` panels in each dimension.

    The inner integral, over u2 given u1, is smooth in u1 between the kinks.
    """
    root, c, s = np.sqrt(q), np.cos(theta), np.sin(theta)
    centres = centres_of(activation)
    g, outer = panels(centres / root, min(1, 1 / root, s), num, REACH_OF_TWO)
    of_u2 = np.append((centres / root - c * g[:, None]) / s, np.zeros((len(g), 1)), axis=1)
    h, inner = panels(np.sort(of_u2, axis=1), min(1, 1 / (s * root)), num, REACH_OF_TWO)
    u2 = values(activation, root * (c * g[:, None] + s * h))
    apart = values(activation, root * g)[:, None] - u2
    return float(outer @ np.einsum("ij,ij,ij->i", apart, apart, inner)) / 2
