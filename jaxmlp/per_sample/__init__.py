"""Per-sample instruments: every quantity of the samples' own gradients, read off one walk.

Sample i's own gradient in layer l is `a_i (outer) dz_i`, with `a_i` a row of `A[l-1]` and `dz_i`
one of `dZ[l]`; so nothing of shape (m, parameters) is formed for

| quantity | formula, and what the direct parameters (b, slope, alpha) add | shape |
|---|---|---|
| norm | `sqrt(|a_i|^2 |dz_i|^2 + sum |direct_i|^2)` | `(m,)` |
| second moment | `(A^2).T @ (dZ^2) / m`; means of squares | `(d_in, d_out)` |
| inner products | `(A A^T) * (dZ dZ^T) + sum D D^T` | `(m, m)` |
| clipped mean | `A.T @ (w * dZ) / m`; weighted means | `(d_in, d_out)` |

`readouts` takes arrays, of a dense layer of any JAX model; `transforms` takes an Objective; `of`
takes the loss of any JAX model, and `explain` says what it will do.
"""

from jaxmlp.per_sample.any_model import explain, of
from jaxmlp.per_sample.instruments import NoiseScale
from jaxmlp.per_sample.readouts import GradientMoments, deviation, grads, gram, mean, moments, norms
from jaxmlp.per_sample.transforms import (
    clipped_grad,
    gradient_gram,
    gradient_moments,
    instruments,
    noise_scale,
    per_sample_grads,
    per_sample_norms,
    per_sample_sq_norms,
)

__all__ = [
    "GradientMoments",
    "NoiseScale",
    "clipped_grad",
    "deviation",
    "explain",
    "gradient_gram",
    "gradient_moments",
    "grads",
    "gram",
    "instruments",
    "mean",
    "moments",
    "noise_scale",
    "norms",
    "of",
    "per_sample_grads",
    "per_sample_norms",
    "per_sample_sq_norms",
]
