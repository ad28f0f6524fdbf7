"""Residual connections and normalisation at infinite width.

`U[l] = norm(S[l])`, `A[l] = phi(U[l])`, `Z[l+1] = A[l] W[l+1] + b[l+1]`. Hidden layers 2..depth may
have a residual, `S[l+1] = S[l] + alpha Z[l+1]`; all others have `S = Z`. q is the variance of the
units of S, r the factor of the norm, K = E phi(u)^2 and D = E phi'(u)^2, with u a unit of U.

- A norm divides by a mean over n units. At large n that mean does not fluctuate, so
  `r^2 = 1 / (q + eps)`, and u has variance q / (q + eps), about 1. "layer" also subtracts a mean,
  and both norms remove one or two of n directions from dS. These are corrections of order 1/n, so
  the two norms are the same here.
- The entries of W[l+1] have mean 0 and do not depend on S[l]. So Z adds its variance and no
  covariance, for any E phi: `q' = q + alpha^2 (sigma_w2 K + sigma_b2)`.
- `dS[l] = dS[l+1] + alpha r phi'(U[l]) (W[l+1] dS[l+1])`. The two terms have no covariance, for the
  same reason. So E|dS|^2 grows on the way back by `1 + alpha^2 sigma_w2 r^2 D` a layer.
- Without the residual both recursions lose their first term, and alpha is 1.

After a norm (with a small eps) `c = sigma_w2 K + sigma_b2` and `d = sigma_w2 D` are constants.
Without a residual the factor is d/c. With one, `q[l] = q[1] + (l-1) alpha^2 c`, and the product of
the factors `1 + alpha^2 d / q[l]` over N layers is a power law of order N^(d/c):
`G(N + a + d/c) G(a) / (G(N + a) G(a + d/c))`, `a = q[1] / (alpha^2 c)`, G the Gamma function.

None of this holds in the other order, `A + alpha phi(Z)`: if E phi is not 0, the layers add a mean,
and the two terms are not independent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxmlp import checks, norms
from jaxmlp.meanfield.integrals import moments
from jaxmlp.norms import Norm

INVERSE_ROOT, REZERO = "1/sqrt(depth)", "rezero"


class Stream(NamedTuple):
    """Describe the stream in layers 2..L, `S = keep S_prev + gain Z`.

    keep: whether the layer has a residual. gain: alpha if it has, else 1. Both are arrays of length
    L-1. norm: the norm before phi, or None.
    """

    keep: np.ndarray
    gain: np.ndarray
    norm: Norm | None

    def seen(self, q):
        """Return the variance that phi gets, that of `norm(S)`, if S has variance q."""
        return q if self.norm is None else q / (q + self.norm.eps)

    def shrink2(self, q):
        """Return r^2, the square of the norm's factor; 1 without a norm."""
        return 1.0 if self.norm is None else 1 / (q + self.norm.eps)


def stream(residual, norm, norm_eps, depth: int, widths: Sequence[int] | None) -> Stream:
    """Return the stream of an MLP with these options."""
    alpha, found = strength(residual, depth), norms.get(norm, norm_eps)
    # "layer" removes two directions of dS, so 3 units are needed for one to be left
    if found is not None and widths is not None and min(widths) < 3:
        raise ValueError(
            f"a norm over {min(widths)} units lets no derivative through: 3 are needed"
        )
    # The output has no residual, nor has a layer whose width differs from that below
    keep = np.arange(2, depth + 2) <= depth
    if widths is not None:
        keep[:-1] &= np.diff(widths) == 0
    if alpha is None:
        return Stream(np.zeros_like(keep), np.ones(depth), found)
    return Stream(keep, np.where(keep, alpha, 1.0), found)


def strength(residual, depth: int | None) -> float | None:
    """Return the number alpha; None without a residual."""
    if residual is None:
        return None
    if residual == REZERO:
        return 0.0  # its alpha is learned, and starts at 0
    if residual == INVERSE_ROOT:
        if depth is None:
            raise ValueError(
                f"a fixed point in depth needs an alpha that does not depend on depth, "
                f'got residual="{INVERSE_ROOT}"'
            )
        return depth**-0.5
    if isinstance(residual, str):
        raise checks.unknown_name("residual", residual, (INVERSE_ROOT, REZERO))
    return checks.positive_number("residual", residual)


def lengths(activation, w, b, q0, stream: Stream) -> np.ndarray:
    """Return the variance of the units of S in layers 1..L."""
    q = [w[0] * q0 + b]
    for w_next, keep, gain in zip(w[1:], stream.keep, stream.gain, strict=True):
        with np.errstate(over="ignore"):
            added = w_next * float(moments(activation, stream.seen(q[-1])).square) + b
            q.append((q[-1] if keep else 0.0) + gain**2 * added)
    return np.array(q)


def factors(activation, w, q, stream: Stream) -> np.ndarray:
    """Return `E|dS[l]|^2 / E|dS[l+1]|^2` for layers l = 1..L-1."""
    through = w[1:] * moments(activation, stream.seen(q[:-1])).slope2 * stream.shrink2(q[:-1])
    return stream.keep + stream.gain**2 * through
