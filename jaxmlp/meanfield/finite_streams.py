"""Networks of finite width with residuals and norms, drawn exactly without drawing their weights.

For one input, W[l+1] multiplies only two vectors: A[l] on the way forward, with the result zeta,
and dZ[l+1] on the way back. Given zeta, the rest of the n^2 Gaussian weights is independent of all
other vectors, so

    W dZ = A (zeta . dZ) / |A|^2 + sqrt(sigma_w2 / n) |dZ| (g - A (A . g) / |A|^2),

with g standard normal. So 2 n random numbers a layer are enough to draw a network of n^2 weights
exactly, for every width, activation, residual and norm. Mean and spread are those of the drawn
networks, without an approximation in 1/n. The time grows with n; that of `finite_width` does not.
"""

import math
from typing import NamedTuple

import numpy as np

from jaxmlp.meanfield.quadrature import values_and_slopes
from jaxmlp.meanfield.remedies import Stream

UNITS = 2**24  # chosen: units simulated, over all layers and networks; about a second
FEWEST, MOST = 1000, 10_000  # networks: the mean is known to 3% or 1% of a standard deviation
LEFT = 100  # networks that must not be silent: the mean is known to 10% of a standard deviation
AT_ONCE = 2**20  # chosen: units simulated at once, 8 MB in each of four arrays


def statistics(activation, sigma_w2, sigma_b2, q1, widths, stream: Stream):
    """Return mean and standard deviation of `ln(|dS[l]|^2 / |dS[L]|^2)`, layers 1..L.

    Networks with a silent layer are left out: no ReLU of it is active, and dS is 0. At least LEFT
    networks must remain.

    Args:
      sigma_w2: of layers 1..L. q1: variance of z[1]. widths: of layers 1..L-1.
    """
    # Draw the networks, in batches that fit in memory
    num = int(np.clip(UNITS // sum(widths), FEWEST, MOST))
    size, rng = max(1, AT_ONCE // sum(widths)), np.random.default_rng(0)
    parts = []
    for i in range(0, num, size):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            rows = _forward(
                activation, sigma_w2, sigma_b2, q1, widths, stream, min(size, num - i), rng
            )
            parts.append(_backward(rows, sigma_w2, sigma_b2, stream, rng))
    # Refuse numbers out of range, and too few networks that are not silent
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
    """Hold a hidden layer of many networks, and Z of the layer above: arrays (networks, n).

    A, slopes: phi(U), phi'(U). U, r: norm(S) and the norm's factor, None without a norm. square:
    |A|^2. Z: that of the layer above, at the scale of A; None if that is the output. share: the
    weights' share in the variance of Z; the biases have the rest.
    """

    A: np.ndarray
    slopes: np.ndarray
    U: np.ndarray | None
    r: np.ndarray | None
    square: np.ndarray
    Z: np.ndarray | None
    share: np.ndarray


def _forward(activation, sigma_w2, sigma_b2, q1, widths, stream: Stream, size, rng) -> list[Row]:
    """Draw `size` networks forwards: one Row for each hidden layer."""
    S, rows = math.sqrt(q1) * rng.standard_normal((size, widths[0])), []
    scale_free = activation.homogeneous and sigma_b2 == 0 and stream.norm is None
    for l, n in enumerate(widths):
        if scale_free:  # the size of S has no influence, and might leave the range
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
    """Return ln |dS[l]|^2 of layers 1..L, (L, networks). The output's dS is the number 1."""
    dS, log_T = np.ones((len(rows[0].A), 1)), [np.zeros(len(rows[0].A))]
    for l in range(len(rows) - 1, -1, -1):
        A, slopes, U, r, square, Z, share = rows[l]
        dZ = stream.gain[l] * dS
        length = np.linalg.norm(dZ, axis=1, keepdims=True)
        g, h = rng.standard_normal(A.shape), rng.standard_normal(length.shape)
        # Along A the weights are known from zeta, the part of Z that the biases do not give. For
        # the output no zeta is drawn, and they are as random along A as across
        spread = math.sqrt(sigma_w2[l + 1] / A.shape[1]) * length
        along = spread * np.sum(A * g, axis=1, keepdims=True)
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
    """Return norm(S) and its factor r = 1 / sqrt(variance + eps)."""
    S = S - S.mean(axis=1, keepdims=True) if norm.centred else S
    r = 1 / np.sqrt(np.mean(S**2, axis=1, keepdims=True) + norm.eps)
    return S * r, r


def _norm_vjp(dU, U, r, norm):
    """Return dS from dU; the term in U is there because `dr/dS = -r^2 U / n`."""
    if norm is None:
        return dU
    inner = dU - U * np.mean(U * dU, axis=1, keepdims=True)
    return r * (inner - dU.mean(axis=1, keepdims=True) if norm.centred else inner)
