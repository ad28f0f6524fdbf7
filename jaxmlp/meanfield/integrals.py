"""Gaussian integrals of an activation: Gauss-Legendre on panels that end at its kinks.

Panels are graded, `g = centre + scale sinh(v)` with v equally divided: fine near each kink and
near 0, coarse far out, so that one rule serves variances q from 1e-16 to 1e16. The number of panels
grows until two answers agree; what never agrees is NaN here and an error at the public edge.
Everything is float64 on the host, whatever the caller's precision.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations
from jaxmlp.activations import Activation

SMALLEST, LARGEST = 1e-16, 1e16  # variances that are integrated; beyond, power laws go on
REACH = 38.0  # standard deviations; beyond it the Gaussian density is below the range of float64
AGREEMENT = 1e-12  # of two successive answers, relative to the integral of |f|
FEWEST, MOST = 4, 4096  # panels on each side of each kink: where to start, and to give up
NODES = 16  # of Gauss-Legendre on a panel
REACH_OF_TWO = 12.0  # as REACH, for double integrals: the density beyond is 5e-32 of that at 0
MOST_OF_TWO = 64  # panels in each of the two dimensions, 1e6 nodes
SMALLEST_ANGLE = 1e-6  # 1 - cos is 5e-13 there; below, rounding takes over
_BLOCKS = 2**13, 2**11  # lengths for which phi, and phi with phi', are compiled: one each
_AT_ONCE = 2**20  # nodes of integrals evaluated at once: 8 MB in each of a few arrays


class Moments(NamedTuple):
    """Expectations over `z ~ N(0, q)`, arrays like q.

    square: E phi(z)^2. slope2: E phi'(z)^2, phi' as backpropagation has it, 0 at a jump.
    gain: dE phi(z)^2 / dq = E z phi phi' / q, jumps counted.
    """

    square: np.ndarray
    slope2: np.ndarray
    gain: np.ndarray


def elementwise(activation: str | Activation) -> Activation:
    """Return the activation; softmax mixes the units and has no place in the theory."""
    activation = activations.get(activation)
    if activation is activations.softmax:
        raise ValueError("mean-field theory needs an elementwise activation, got softmax")
    activations.check_derivative(activation)
    return activation


def moments(activation: str | Activation, q) -> Moments:
    """Return the moments for every variance q from 0 to infinity.

    Below 1e-16 and above 1e16 they follow the power laws with which they end there.

    Raises:
      ValueError: for a negative q, softmax, or an activation that the panels do not resolve.

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
    return ValueError(
        f"the integrals of activation {activation.name!r} do not settle at a variance of {q:.3g}: "
        "name its kinks, or keep the variance where it oscillates less"
    )


def moments_or_nan(activation: Activation, q, most_panels: int = MOST) -> Moments:
    """As `moments`, with NaN for a q that so many panels do not resolve."""
    q = np.asarray(q, np.float64)
    if activation.homogeneous:
        slope2 = _mean_slope2(activation)
        square = q * slope2 if slope2 else np.zeros_like(q)  # not inf times 0
        return Moments(square, np.full_like(q, slope2), np.full_like(q, slope2))
    inside = np.clip(q.ravel(), SMALLEST, LARGEST)
    found = _moments(activation, inside, most_panels)
    beyond = inside != q.ravel()
    if beyond.any():
        further = np.where(inside < 1, 4 * inside, inside / 4)[beyond]  # a second point of the law
        neighbour = _moments(activation, further, most_panels)
        with np.errstate(all="ignore"):
            law = np.log(found[:, beyond] / neighbour) / np.log(inside[beyond] / further)
            law = np.where(found[:, beyond] == 0, 0, np.round(law, 6))  # 2 points give 7 digits
            power = np.exp(law * np.log(q.ravel()[beyond] / inside[beyond]))
            found[:, beyond] *= np.where(law == 0, 1, power)
    found = _exact_at_zero(activation, q, Moments(*found.reshape(-1, *q.shape)))
    return _exact_at_infinity(activation, q, found)


@functools.cache
def _mean_slope2(activation) -> float:
    """E phi'^2 of a straight line on each side of 0."""
    return float(np.mean(values_and_slopes(activation, np.array([-1.0, 1.0]))[1] ** 2))


def _exact_at_zero(activation, q, found):
    """Take the slopes at q = 0 from both sides of 0 itself."""
    if not (q == 0).any():
        return found
    near = 1e-100  # a normal float64, and phi is a straight line up to there
    (A, D) = values_and_slopes(activation, np.array([-near, near]))
    slope2 = np.where(q == 0, np.mean(D**2), found.slope2)
    passes_0 = np.abs(A).max() < 10 * near
    gain = np.where((q == 0) & passes_0, np.mean(D**2), found.gain)
    return found._replace(slope2=slope2, gain=gain)


def _exact_at_infinity(activation, q, found):
    """Take slopes that have a limit at q = inf from far out: there phi is a straight line."""
    at_end = np.isinf(q) & (found.slope2 > 0) & np.isfinite(found.slope2)
    if not at_end.any():
        return found
    far = 1e50  # its sixth power is a float64, and powers of activations are of lower degree
    slope2 = np.mean(values_and_slopes(activation, np.array([-far, far]))[1] ** 2)
    return Moments(found.square, *(np.where(at_end, slope2, old) for old in found[1:]))


def _moments(activation, q, most_panels):
    found = expect(activation, q, lambda g, A, D: (A**2, D**2, g * A * D), most_panels)
    found[2] /= np.sqrt(q)
    for kink, jump in jumps(activation):
        density = np.exp(-(kink**2) / (2 * q)) / np.sqrt(2 * np.pi * q)
        found[2] += kink * jump * density / (2 * q)
    return found


@functools.cache
def jumps(activation: Activation) -> list[tuple[float, float]]:
    """Where phi itself jumps, and by how much phi^2 does."""
    kinks = np.array(activation.kinks)
    step = 1e-9 * np.maximum(1, np.abs(kinks))  # phi moves by 1e-9 where it does not jump
    above, below = (values_and_slopes(activation, kinks + d)[0] for d in (step, -step))
    return [
        (kink, a**2 - b**2) for kink, a, b in zip(kinks, above, below, strict=True)
        if abs(a - b) > 1e-6  # far above that
    ]  # fmt: skip


# --- one Gaussian ---------------------------------------------------------------------------------


def expect(
    activation: Activation, q: np.ndarray, integrands: Callable, most_panels: int = MOST
) -> np.ndarray:
    """Return `E f(g, phi(z), phi'(z))` with `z = sqrt(q) g`, g standard normal, for every q.

    Args:
      q: (n,) positive variances.
      integrands: `f(g, A, D)` -> a sequence of arrays like A.
      most_panels: where to give up, on each side of each kink.

    Returns:
      (number of integrands, n); NaN for a q where panels did not resolve the activation.
    """
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
    """The integrals with so many panels, and those of the absolute values; a few q at a time."""
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

    It is `E phi^2 - E phi(u1) phi(u2)` without the cancellation near theta = 0; to 1e-10, below
    theta = 1e-6 to 1e-6. The inner integral, over u2 given u1, is smooth in u1 between the kinks.
    """
    if theta == 0:
        return 0.0
    if theta < SMALLEST_ANGLE and not jumps(activation):
        return theta**2 / 2 * q * float(moments(activation, q).slope2)
    num, old = 2, _double_integral(activation, q, theta, 2)
    while num < MOST_OF_TWO:
        num = -(-4 * num // 3)  # a third more, rounded up: the time is that of num^2
        new = _double_integral(activation, q, theta, num)
        # phi(u1) - phi(u2) is about theta and rounds at 1e-16; two dimensions double the errors
        if abs(new - old) <= (10 * AGREEMENT + 1e-15 / theta) * new:
            return new
        old = new
    raise unresolved(activation, q)


def _double_integral(activation, q, theta, num):
    root, c, s = np.sqrt(q), np.cos(theta), np.sin(theta)
    centres = centres_of(activation)
    g, outer = panels(centres / root, min(1, 1 / root, s), num, REACH_OF_TWO)
    of_u2 = np.append((centres / root - c * g[:, None]) / s, np.zeros((len(g), 1)), axis=1)
    h, inner = panels(np.sort(of_u2, axis=1), min(1, 1 / (s * root)), num, REACH_OF_TWO)
    u2 = values(activation, root * (c * g[:, None] + s * h))
    apart = values(activation, root * g)[:, None] - u2
    return float(outer @ np.einsum("ij,ij,ij->i", apart, apart, inner)) / 2


# --- panels ---------------------------------------------------------------------------------------


def panels(centres, scale, num: int, reach: float = REACH) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of a standard Gaussian integral, graded towards each centre.

    Args:
      centres: (..., k) ascending; those out of reach are moved to its end, where panels are empty.
      scale: (..., 1) or a number, the width at which the grading begins.
      num: panels on each side of each centre.
    """
    centres, scale = np.clip(centres, -reach, reach), np.asarray(scale)[..., None]
    middles = (centres[..., 1:] + centres[..., :-1]) / 2
    end = np.full((*centres.shape[:-1], 1), reach)
    borders = np.concatenate([-end, middles, end], axis=-1)
    span = np.stack([borders[..., :-1] - centres, borders[..., 1:] - centres], axis=-1)
    longest = np.arcsinh(np.abs(span) / scale)[..., None]
    scale = np.sign(span)[..., None] * scale[..., None]
    x, w = _unit_panels(num)
    e = np.exp(longest * x)  # sinh and cosh from one exponential: most of the time is spent here
    g = centres[..., None, None] + scale / 2 * (e - 1 / e)
    weights = np.exp(-(g**2) / 2) * (e + 1 / e)
    weights *= np.abs(scale) / 2 * longest * (w / np.sqrt(2 * np.pi))
    return g.reshape(*centres.shape[:-1], -1), weights.reshape(*centres.shape[:-1], -1)


@functools.cache
def _unit_panels(num: int):
    """Nodes and weights of Gauss-Legendre on [0, 1] cut into so many panels."""
    x, w = np.polynomial.legendre.leggauss(NODES)
    return ((np.arange(num)[:, None] + (x + 1) / 2) / num).ravel(), np.tile(w / 2 / num, num)


def centres_of(activation: Activation) -> np.ndarray:
    """The kinks and 0, where elu, softsign and others have a corner in the slope."""
    return np.unique([0.0, *activation.kinks])


# --- the activation, in float64 -------------------------------------------------------------------


def values(activation: Activation, Z: np.ndarray) -> np.ndarray:
    """Return phi(Z) in float64."""
    return _in_blocks(_values, _BLOCKS[0], activation, Z)[0]


def values_and_slopes(activation: Activation, Z: np.ndarray) -> Sequence[np.ndarray]:
    """Return phi(Z) and phi'(Z) in float64; phi' by autodiff where the activation has none."""
    return _in_blocks(_values_and_slopes, _BLOCKS[1], activation, Z)


@functools.partial(jax.jit, static_argnums=0)
def _values(activation: Activation, Z):
    return (jnp.asarray(activation.fn(Z, *_slope(activation)), Z.dtype),)


@functools.partial(jax.jit, static_argnums=0)
def _values_and_slopes(activation: Activation, Z):
    (A,) = _values(activation, Z)
    if activation.derivative is None:
        return A, jax.vmap(jax.grad(lambda z: _values(activation, z)[0]))(Z)
    return A, jnp.asarray(activation.derivative(Z, A, *_slope(activation)), Z.dtype)


def _slope(activation: Activation) -> tuple[float, ...]:
    return () if activation.slope is None else (activation.slope,)


def _in_blocks(compiled, block, activation, Z) -> list[np.ndarray]:
    """Apply to blocks of one length only, so that little is compiled."""
    flat = np.zeros(max(1, -(-Z.size // block)) * block)
    flat[: Z.size] = Z.ravel()
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_device(cpu):
        parts = [compiled(activation, part) for part in flat.reshape(-1, block)]
    joined = [np.concatenate([np.asarray(x) for x in one]) for one in zip(*parts, strict=True)]
    return [one[: Z.size].reshape(Z.shape) for one in joined]
