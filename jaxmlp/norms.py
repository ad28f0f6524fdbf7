"""Normalisations of the stream S, each with its hand-derived derivative beside it.

Both act on the units of one sample, so every sample keeps a gradient of its own:

| norm | U | r |
|---|---|---|
| layer | `(S - mean S) r` | `1 / sqrt(mean (S - mean S)^2 + eps)` |
| rms | `S r` | `1 / sqrt(mean S^2 + eps)` |

Means are over the d units of a sample, also in the variance (1/d). Nothing is learned. Batch
normalisation is refused: it couples the samples, so no sample has a gradient of its own.

Sources: J. L. Ba et al., "Layer normalization", 2016; B. Zhang and R. Sennrich, "Root mean square
layer normalization", 2019.
"""

import dataclasses
import math
import numbers
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from jaxmlp.checks import unknown_name


@dataclasses.dataclass(frozen=True)
class Norm:
    """Describe a norm: its name, the eps under the root, whether the mean is subtracted."""

    name: str
    eps: float
    centred: bool

    def apply(self, S: Inexact[Array, "m d"], eps: Any = None):
        """Return the normalised stream and each sample's r, `(U, r)` of shapes (m, d), (m, 1).

        r is NaN if a square overflows. The formula would give 0 then, an error that nobody sees.
        """
        wide = S.astype(jnp.promote_types(S.dtype, jnp.float32))
        if self.centred:
            wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(wide * wide, axis=-1, keepdims=True)
        r = 1 / jnp.sqrt(variance + (self.eps if eps is None else eps))
        r = jnp.where(variance == jnp.inf, jnp.nan, r)
        return (wide * r).astype(S.dtype), r.astype(S.dtype)

    def vjp(self, U: Float[Array, "m d"], r: Float[Array, "m 1"], dU: Float[Array, "m d"]):
        """Return `dS = r (dU - U mean(U dU) - mean dU)`; only "layer" has the last term.

        The term in U is there because r depends on S: `dr/dS = -r^2 U / d`, for any eps.
        """
        inner = dU - U * jnp.mean(U * dU, axis=-1, keepdims=True)
        if self.centred:
            inner = inner - jnp.mean(dU, axis=-1, keepdims=True)
        return r * inner


def get(name: str | None, eps: Any = 1e-6) -> Norm | None:
    """Return the norm of that name, or None for None.

    Raises:
      ValueError: for an unknown name, for "batch", and for an eps that is negative or not finite.
      TypeError: for anything else.
    """
    if isinstance(eps, bool) or not isinstance(eps, numbers.Real):
        raise TypeError(f"norm_eps must be a number, got {eps!r}")
    if not (math.isfinite(eps) and float(eps) >= 0):
        raise ValueError(f"norm_eps must be finite and at least 0, got {eps}")
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f'norm must be None, "layer" or "rms", got {name!r}')
    if name.startswith("batch"):
        raise ValueError(
            "batch normalisation couples the samples of a batch, so that no sample has a gradient "
            'of its own: use norm="layer" or "rms"'
        )
    if name not in ("layer", "rms"):
        raise unknown_name("norm", name, ("layer", "rms"))
    return Norm(name, float(eps), name == "layer")
