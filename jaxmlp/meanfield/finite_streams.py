"""Finite width with residuals and norms: networks drawn along their own vectors.

For one input, W[l+1] meets two vectors only: A[l] forwards, which it takes to zeta, and dZ[l+1] on
the way back. Given zeta, what is left of n^2 Gaussian weights is independent of all that was seen:

    W dZ = A (zeta . dZ) / |A|^2 + sqrt(sigma_w2 / n) |dZ| (g - A (A . g) / |A|^2),

g standard normal. So 2 n numbers a layer draw the network of n^2 weights exactly, at every width
and with every activation, residual and norm: mean and spread are those of so many networks, and
nothing in them is of leading order. The time is that of n, which `finite_width` does not need.
"""

import math
from typing import NamedTuple

import numpy as np

from jaxmlp.meanfield.integrals import values_and_slopes
from jaxmlp.meanfield.remedies import Stream

UNITS = 2**24  # units simulated, over all layers and networks: about a second
FEWEST, MOST = 1000, 10_000  # networks: the mean is known to 3% or 1% of a standard deviation
LEFT = 100  # networks that are not silent: the mean is known to 10% of a standard deviation
AT_ONCE = 2**20  # units simulated at once: 8 MB in each of four arrays


def statistics(activation, sigma_w2, sigma_b2, q1, widths, stream: Stream):
    """Return mean and standard deviation of `ln(|dS[l]|^2 / |dS[L]|^2)`, layers 1..L.

    Networks in which a layer is silent (no ReLU active: dS is 0) are left out, as long as most of
    what was drawn does not fall silent.

    Args:
      sigma_w2: of layers 1..L. q1: variance of z[1]. widths: of layers 1..L-1.
    """
    num = int(np.clip(UNITS // sum(widths), FEWEST, MOST))
    size, rng = max(1, AT_ONCE // sum(widths)), np.random.default_rng(0)
    parts = []
    for i in range(0, num, size):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            rows = _forward(
                activation, sigma_w2, sigma_b2, q1, widths, stream, min(size, num - i), rng
            )
            parts.append(_backward(rows, sigma_w2, sigma_b2, stream, rng))
    log_T = np.concatenate(parts, axis=1)
    if np.isnan(log_T).any() or (log_T == np.inf).any():
        raise ValueError(
            f"activation {activation.name!r} with this residual: some networks leave the range of "
            "float64, so their mean and spread are not known"
        )
    log_T = log_T[:, np.isfinite(log_T[0])]
    if log_T.shape[1] < LEFT:
        raise ValueError(
            f"activation {activation.name!r} at these widths: of {num} networks all but "
            f"{log_T.shape[1]} fall silent (no unit active), so no mean and spread are given"
        )
    return log_T.mean(axis=1), log_T.std(axis=1)


class Row(NamedTuple):
    """A hidden layer of many networks, and what the layer above it adds: arrays (networks, n).

    A, slopes: phi(U), phi'(U). U, r: norm(S) and the norm's factor, None without a norm. square:
    |A|^2. Z: of the layer above, at the scale of A; None for an output. share: of the weights in
    the variance of Z, the biases having the rest.
    """

    A: np.ndarray
    slopes: np.ndarray
    U: np.ndarray | None
    r: np.ndarray | None
    square: np.ndarray
    Z: np.ndarray | None
    share: np.ndarray


def _forward(activation, sigma_w2, sigma_b2, q1, widths, stream: Stream, size, rng) -> list[Row]:
    S, rows = math.sqrt(q1) * rng.standard_normal((size, widths[0])), []
    scale_free = activation.homogeneous and sigma_b2 == 0 and stream.norm is None
    for l, n in enumerate(widths):
        if scale_free:  # the size of S changes nothing further down: it is taken off
            size_of_S = np.sqrt(np.mean(S**2, axis=1, keepdims=True))
            S = np.divide(S, size_of_S, out=np.zeros_like(S), where=size_of_S > 0)
        U, r = (S, None) if stream.norm is None else _normed(S, stream.norm)
        A, slopes = values_and_slopes(activation, U)
        square = np.sum(A**2, axis=1, keepdims=True)
        variance = sigma_w2[l + 1] * square / n + sigma_b2
        of_weights, Z = variance - sigma_b2, None
        share = np.divide(of_weights, variance, out=np.ones_like(variance), where=variance > 0)
        if l + 1 < len(widths):
            Z = np.sqrt(variance) * rng.standard_normal((size, widths[l + 1]))
            S = (S if stream.keep[l] else 0.0) + stream.gain[l] * Z
        rows.append(Row(A, slopes, None if r is None else U, r, square, Z, share))
    return rows


def _backward(rows: list[Row], sigma_w2, sigma_b2, stream: Stream, rng):
    """ln |dS[l]|^2 of layers 1..L, (L, networks); that of the output, one number, is 0."""
    dS, log_T = np.ones((len(rows[0].A), 1)), [np.zeros(len(rows[0].A))]
    for l in range(len(rows) - 1, -1, -1):
        A, slopes, U, r, square, Z, share = rows[l]
        dZ = stream.gain[l] * dS
        length = np.linalg.norm(dZ, axis=1, keepdims=True)
        g, h = rng.standard_normal(A.shape), rng.standard_normal(length.shape)
        # Along A: the weights have given zeta, the part of Z that is not the biases'
        spread = math.sqrt(sigma_w2[l + 1] / A.shape[1]) * length
        along = spread * np.sum(A * g, axis=1, keepdims=True)  # an output knows nothing of zeta
        if Z is not None:
            along = share * np.sum(Z * dZ, axis=1, keepdims=True)
            along += np.sqrt(share * sigma_b2) * length * h
        off = along - spread * np.sum(A * g, axis=1, keepdims=True)
        dA = spread * g + A * np.divide(off, square, out=np.zeros_like(off), where=square > 0)
        # Back through the activation, the norm and the residual
        below = _norm_vjp(dA * slopes, U, r, stream.norm)
        dS = below + dS if stream.keep[l] else below
        size = np.linalg.norm(dS, axis=1, keepdims=True)
        dS = np.divide(dS, size, out=np.zeros_like(dS), where=size != 0)
        log_T.append(log_T[-1] + 2 * np.log(size.ravel()))
    return np.array(log_T[::-1])


def _normed(S, norm):
    """norm(S) and its factor r = 1 / sqrt(variance + eps)."""
    S = S - S.mean(axis=1, keepdims=True) if norm.centred else S
    r = 1 / np.sqrt(np.mean(S**2, axis=1, keepdims=True) + norm.eps)
    return S * r, r


def _norm_vjp(dU, U, r, norm):
    """dS from dU; `dr/dS = -r^2 U / n` gives the term in U."""
    if norm is None:
        return dU
    inner = dU - U * np.mean(U * dU, axis=1, keepdims=True)
    return r * (inner - dU.mean(axis=1, keepdims=True) if norm.centred else inner)
