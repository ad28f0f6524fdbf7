"""Per-sample instruments: quantities of the samples' own gradients, computed in one walk.

Sample i's own gradient in layer l is `a_i (outer) dz_i`, with `a_i` a row of `A[l-1]` and `dz_i`
a row of `dZ[l]`. So these quantities are computed without any array of shape (m, parameters):

| quantity | formula; behind it, what b, slope and alpha (the direct parameters) add | shape |
|---|---|---|
| norm | `sqrt(|a_i|^2 |dz_i|^2 + sum |direct_i|^2)` | `(m,)` |
| second moment | `(A^2).T @ (dZ^2) / m`; means of squares | `(d_in, d_out)` |
| inner products | `(A A^T) * (dZ dZ^T) + sum D D^T` | `(m, m)` |
| clipped mean | `A.T @ (w * dZ) / m`; weighted means | `(d_in, d_out)` |

The functions of `readouts` take arrays, also those of a dense layer of any JAX model. Those of
`transforms` take an Objective. `of` takes the loss of any JAX model, and `explain` says what `of`
will do with it.
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
