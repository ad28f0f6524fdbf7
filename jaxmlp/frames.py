"""Frames of vectors whose sizes span hundreds of decades, and the singular values of their product.

A frame holds f rows for each sample, and the factors that were taken out of them. Taking out means:
`rows.T = Q.T R` (QR), the rows become Q, and the triangle R goes to `diag(exp g) U`, U a unit upper
triangle:

    g_i <- g_i + ln|R_ii|,    U <- F U,    F_ij = R_ij / R_ii exp(g_j - g_i).

After many layers the singular values of `diag(exp g) U` are wanted. The g alone are not their
logs: they differ by up to 3 nats. QR steps on U.T bring the triangle near a diagonal one, and
one-sided Jacobi rotations, on rows of length 1 and the logs of their lengths, do the rest.

Sources: G. Benettin et al., "Lyapunov characteristic exponents", 1980; D. E. Stewart, "A new
algorithm for the SVD of a long product of matrices", 1997; J. Demmel and K. Veselic, "Jacobi's
method is more accurate than QR", 1992.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

UNRESOLVED = 100  # chosen: a row shrunk below 100 eps of the largest is lost in its rounding
SWEEPS = 30  # chosen: the most sweeps of rotations; 5 to 9 are needed


class Frame(NamedTuple):
    """Hold f rows for each sample, and the factors that were taken out of them.

    rows: `(m, f, d)`. g: `(m, f)`, U: `(m, f, f)`: the factors `diag(exp g) U`.
    rank: `(m,)`, how many rows are open; the others are zero, closed by gates, norms or the output.
    known: `(m,)`, how many rows are resolved; the others are lost in rounding.
    """

    rows: Array
    g: Array
    U: Array
    rank: Array
    known: Array


def orthonormal(frame: Frame, left: Array | None = None) -> Frame:
    """Return the frame with orthonormal rows, and the triangle of QR in its factors.

    left: the most rows that can be independent. The others are closed.
    """
    f, d = frame.rows.shape[1:]
    is_open = jnp.arange(f) < frame.rank[:, None]
    Q, R = jnp.linalg.qr(jnp.swapaxes(frame.rows * is_open[..., None], 1, 2))
    rank = jnp.minimum(frame.rank, min(f, d) if left is None else jnp.minimum(left, d))
    # Rows at the end that are exactly 0, as with weights of 0, are closed. If one is small against
    # the largest, it and all behind it are not resolved
    size = jnp.abs(jnp.diagonal(R, axis1=1, axis2=2))
    place = jnp.arange(size.shape[1])
    last = jnp.max(jnp.where(size != 0, place + 1, 0), axis=1)
    smallest = UNRESOLVED * jnp.finfo(R.dtype).eps * size.max(axis=1, keepdims=True)
    lost = (place < jnp.minimum(rank, last)[:, None]) & ~(size > smallest)
    any_lost = lost.any(axis=1)
    known = jnp.minimum(frame.known, jnp.where(any_lost, jnp.argmax(lost, axis=1), d))
    rank = jnp.where(any_lost, rank, jnp.minimum(rank, last))
    # The new rows, and the triangle that goes to the factors
    stays_open = place < rank[:, None]
    rows = jnp.swapaxes(Q, 1, 2) * stays_open[..., None]
    g, F = scaled_triangle(R, frame.g, stays_open, is_open)
    return Frame(rows, g, F @ frame.U, rank, known)


def square(frame: Frame) -> Frame:
    """Return the frame with a square triangle T, `U = T Q`; Q does not change singular values."""
    if frame.U.shape[1] == frame.U.shape[2]:
        return frame
    R = jnp.linalg.qr(jnp.swapaxes(frame.U[:, ::-1], 1, 2), mode="r")
    U = jnp.swapaxes(R, 1, 2)[:, ::-1, ::-1]
    size = jnp.abs(jnp.diagonal(U, axis1=1, axis2=2))
    size = jnp.where(size > 0, size, 1)
    return frame._replace(g=frame.g + jnp.log(size), U=U / size[..., None])


def graded(frame: Frame) -> Frame:
    """Return the frame after a QR step on `U.T`: the same singular values, nearer a diagonal."""
    R = jnp.linalg.qr(jnp.swapaxes(frame.U, 1, 2), mode="r")
    is_open = jnp.arange(frame.g.shape[1]) < frame.rank[:, None]
    g, F = scaled_triangle(R, frame.g, is_open, is_open)
    return frame._replace(g=g, U=F)


def scaled_triangle(R, g, stays_open, was_open):
    """Return the new g and F. Rows of F that close are 0, and so are columns that were closed."""
    r = R.shape[1]
    size = jnp.abs(jnp.diagonal(R, axis1=1, axis2=2))
    size = jnp.where(stays_open & (size > 0), size, 1)
    kept = stays_open[:, :, None] & was_open[:, None, :] & (R != 0)
    apart = jnp.where(kept, g[:, None, :] - g[:, :r, None], 0)
    F = jnp.where(kept, R / size[..., None] * jnp.exp(apart), 0)
    return g[:, :r] + jnp.log(size), F


# --- singular values of the triangle --------------------------------------------------------------


def rotated(g: Float[Array, " n"], U: Float[Array, "n n"], rank) -> Float[Array, " n"]:
    """Return ln of the singular values of `diag(exp g) U`, largest first.

    Rows from rank on are 0. Pairs of rows are rotated until all are orthogonal; the lengths are
    then the singular values. A row is held as a unit vector and the log h of its length. For two
    rows with lengths 1 and rho <= 1 and cosine p, the rotation has the tangent
    `t = -2 rho p / (1 - rho^2 + sqrt((1 - rho^2)^2 + 4 rho^2 p^2))`. Only `t rho` and `t / rho` are
    needed. So rho may underflow to 0; the rotation is then a step of Gram and Schmidt.
    """
    n = len(g)
    if n == 1:
        return g + jnp.log(jnp.abs(U[0]))
    is_open = jnp.arange(n) < rank
    h, V = _unit_rows(jnp.where(is_open, g, -1e30), U)  # -1e30: so small that it changes no other
    pairs = jnp.asarray(_pairs(n))
    tolerance = 16 * jnp.finfo(U.dtype).eps  # chosen: of a cosine that counts as 0

    def rotate(turn, state):
        h, V, worst = state
        i, j = pairs[turn]
        i, j = jnp.where(h[i] >= h[j], i, j), jnp.where(h[i] >= h[j], j, i)
        p, rho = jnp.sum(V[i] * V[j], axis=1), jnp.exp(h[j] - h[i])
        gap = 1 - rho**2
        root = gap + jnp.sqrt(gap**2 + 4 * (rho * p) ** 2)
        over_rho = -2 * p / jnp.where(root == 0, 1, root)  # t / rho
        t = rho * over_rho
        cosine = 1 / jnp.sqrt(1 + t**2)
        upper = V[i] - (t * rho)[:, None] * V[j]
        lower = V[j] + over_rho[:, None] * V[i]
        rows = jnp.concatenate([upper, lower])
        logs = jnp.concatenate([h[i], h[j]]) + jnp.log(jnp.tile(cosine, 2))
        logs, rows = _unit_rows(logs, rows)
        at = jnp.concatenate([i, j])
        return h.at[at].set(logs), V.at[at].set(rows), jnp.maximum(worst, jnp.abs(p).max())

    def sweep(state):
        count, h, V, _ = state
        return count + 1, *jax.lax.fori_loop(0, len(pairs), rotate, (h, V, jnp.zeros((), V.dtype)))

    def unfinished(state):
        return (state[0] < SWEEPS) & (state[3] > tolerance)

    begin = (0, h, V, jnp.ones((), V.dtype))
    _, h, _, worst = jax.lax.while_loop(unfinished, sweep, begin)
    h = jnp.where(worst <= tolerance, h, jnp.nan)
    return -jnp.sort(-jnp.where(is_open, h, -jnp.inf))


def _unit_rows(h, V):
    """Return rows of length 1, and the logs of lengths h with their lengths added."""
    size = jnp.linalg.norm(V, axis=1)
    size = jnp.where(size == 0, 1, size)
    return h + jnp.log(size), V / size[:, None]


@functools.cache
def _pairs(n: int) -> np.ndarray:
    """Return the turns of a round robin, (turns, 2, pairs): each two of n rows meet once."""
    players = [*range(n), *([None] if n % 2 else [])]
    turns = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        turn = zip(players[:half], players[: half - 1 : -1], strict=True)
        turns.append([pair for pair in turn if None not in pair])
        players = [players[0], players[-1], *players[1:-1]]
    return np.swapaxes(np.array(turns), 1, 2)
