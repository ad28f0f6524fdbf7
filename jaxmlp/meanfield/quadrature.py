"""Quadrature for Gaussian integrals of an activation: graded panels, and values in float64.

The panels are equal in v, with `g = centre + scale sinh(v)`. So they are fine near each kink and
near 0 and coarse far out, and one rule serves variances q from 1e-16 to 1e16.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.activations import Activation

REACH = 38.0  # standard deviations; beyond it the Gaussian density is below the range of float64
REACH_OF_TWO = 12.0  # REACH for double integrals; the density there is 5e-32 of that at 0
NODES = 16  # chosen: nodes of Gauss-Legendre on a panel
_BLOCKS = 2**13, 2**11  # chosen: the lengths of array for which phi, and phi and phi', compile


def panels(centres, scale, num: int, reach: float = REACH) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of a standard Gaussian integral, finer towards each centre.

    Args:
      centres: (..., k) ascending. Those beyond `reach` are moved to it; their panels are empty.
      scale: (..., 1) or a number, the distance from a centre at which panels begin to widen.
      num: panels on each side of each centre.
    """
    # Between two centres the border is the middle
    centres, scale = np.clip(centres, -reach, reach), np.asarray(scale)[..., None]
    middles = (centres[..., 1:] + centres[..., :-1]) / 2
    end = np.full((*centres.shape[:-1], 1), reach)
    borders = np.concatenate([-end, middles, end], axis=-1)
    span = np.stack([borders[..., :-1] - centres, borders[..., 1:] - centres], axis=-1)
    # Nodes at g = centre +- scale sinh(v), with weights that hold dg/dv and the density
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
    """Return nodes and weights of Gauss-Legendre on [0, 1], cut into `num` panels."""
    x, w = np.polynomial.legendre.leggauss(NODES)
    return ((np.arange(num)[:, None] + (x + 1) / 2) / num).ravel(), np.tile(w / 2 / num, num)


def centres_of(activation: Activation) -> np.ndarray:
    """Return the kinks and 0, where elu, softsign and others have a corner in the slope."""
    return np.unique([0.0, *activation.kinks])


# --- the activation, in float64 -------------------------------------------------------------------


def values(activation: Activation, Z: np.ndarray) -> np.ndarray:
    """Return phi(Z) in float64."""
    return _in_blocks(_values, _BLOCKS[0], activation, Z)[0]


def values_and_slopes(activation: Activation, Z: np.ndarray) -> Sequence[np.ndarray]:
    """Return phi(Z) and phi'(Z) in float64; phi' by autodiff if the activation has none."""
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
    """Return `compiled(activation, Z)`, computed in blocks of one length, so it compiles once."""
    flat = np.zeros(max(1, -(-Z.size // block)) * block)
    flat[: Z.size] = Z.ravel()
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_device(cpu):
        parts = [compiled(activation, part) for part in flat.reshape(-1, block)]
    joined = [np.concatenate([np.asarray(x) for x in one]) for one in zip(*parts, strict=True)]
    return [one[: Z.size].reshape(Z.shape) for one in joined]
