"""Singular values of the input-output Jacobian at any depth: the walk's rule 3.

What travels back is a frame: f cotangents of each sample, made orthonormal at every layer. With
`rows` the frame carried through a layer, `rows.T = Q.T R`, and the product of all R, newest first,
has the singular values of the Jacobian. It spans hundreds of decades, so it is carried as
`diag(exp g) U`, U a unit upper triangle:

    g_i <- g_i + ln|R_ii|,    U <- F U,    F_ij = R_ij / R_ii exp(g_j - g_i).

The g alone are the logs of no singular value: they are off by up to 3 nats. At the end three QR
steps of the same kind on U.T bring the triangle near a diagonal one, and one-sided Jacobi rotations
take what is left, on rows of length 1 beside the logs of their lengths.

Sources: G. Benettin et al., "Lyapunov characteristic exponents", 1980; D. E. Stewart, "A new
algorithm for the SVD of a long product of matrices", 1997; J. Demmel and K. Veselic, "Jacobi's
method is more accurate than QR", 1992.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlp import activations, checks, edge, magnitudes, walk
from jaxmlp import layer as arithmetic
from jaxmlp.backprop import check_derivatives
from jaxmlp.layer import Spec
from jaxmlp.mlp import MLP
from jaxmlp.scaled import times_power
from jaxmlp.storage import canonical
from jaxmlp.walk import Rule

UNRESOLVED = 100  # roundings: a direction that a layer shrinks to less of another is lost in them
QR_STEPS = 3
SWEEPS = 30  # at most; 5 to 9 are taken


class Frame(NamedTuple):
    """Hold f cotangents of each sample, and the factors that were taken out of them.

    rows `(m, f, d)`. g `(m, f)`, U `(m, f, f)`: see above. rank `(m,)`: rows from there on are
    zero, closed by gates, norms or the output. known `(m,)`: rows from there on are not resolved.
    """

    rows: Array
    g: Array
    U: Array
    rank: Array
    known: Array


class Stream(NamedTuple):
    """Hold the rows that a residual hands down; `is_open` if there is one above."""

    rows: Array
    is_open: Array


class LyapunovExponents(NamedTuple):
    """Hold exponents in nats a layer, largest first; -inf for a direction that is closed.

    per_layer `(L, m, k)`: of layer l and sample i, growth of the i-th direction on the way back
    through W[l] and the activation and norm below it; W[1] alone for the first.
    mean `(k,)`: over layers and samples. standard_error `(k,)`: of that mean, from the spread over
    the layers; samples share the weights and count as one.
    """

    per_layer: Float[Array, "L m k"]
    mean: Float[Array, " k"]
    standard_error: Float[Array, " k"]


def jacobian_spectrum(mlp: MLP) -> Callable:
    """Return the function for the singular values of each sample's Jacobian, right at any depth.

    The Jacobian is `d A[L] / d x`, `(d_L, d_0)`. It is computed in float64, whatever the dtype of
    the parameters; within `jax.jit` in the dtype that is given. Derivatives are those of
    backpropagation: a saturated unit whose act' rounds to 0 is closed.

    Returns:
      `f(params, X, k=None)` -> `(m, min(d_0, d_L))` log10 of the singular values, largest first.
      -inf is an exact 0: closed gates, a narrow layer, a norm with norm_eps 0 or a softmax leave no
      more directions open; it comes from counting them. NaN: not resolved, for a layer shrinks one
      direction to less than 2e-14 of another (act' of saturated units, or a W of no full rank), or
      a pre-activation leaves the range.

      With k values, fewer than all, k outputs are followed, those of the largest derivative: the
      result is the spectrum of these rows of the Jacobian. Each is at most the true one; what is
      missing does not grow with depth. The time falls as k does.

    Raises:
      ValueError, TypeError: as `MLP.apply`; for k beyond min(d_0, d_L); for an activation without a
        derivative.

    Example:
      >>> import jaxmlp
      >>> mlp = jaxmlp.MLP((8,) * 502, hidden="tanh", output="linear")
      >>> params = mlp.init(jax.random.key(0), "orthogonal")
      >>> found = jacobian_spectrum(mlp)(params, jnp.ones((1, 8)))
      >>> found.shape, bool(jnp.isfinite(found).all())
      ((1, 8), True)
    """
    check_derivatives(mlp)

    def spectrum(params, X, k: int | None = None) -> Float[Array, "m k"]:
        return _in_double(functools.partial(_spectrum, mlp, _count(mlp, k)), mlp, params, X)

    return spectrum


def lyapunov_exponents(mlp: MLP) -> Callable:
    """Return the function for the exponents with which directions grow on the way back.

    Returns:
      `f(params, X, k=None)` -> `LyapunovExponents` of the first k directions, by default of
      `min(d_0, ..., d_L)`: logs of the diagonal of R, layer by layer, computed as
      `jacobian_spectrum` does. Their sums over the layers miss the logs of the singular values by a
      few nats that do not grow with depth.

    Raises:
      ValueError, TypeError: as `jacobian_spectrum`.
    """
    check_derivatives(mlp)

    def exponents(params, X, k: int | None = None) -> LyapunovExponents:
        return _in_double(functools.partial(_exponents, mlp, _count(mlp, k)), mlp, params, X)

    return exponents


def _count(mlp: MLP, k: int | None) -> int:
    full = min(mlp.sizes[0], mlp.sizes[-1])
    k = full if k is None else checks.integer("k", k, at_least=1)
    if k > full:
        raise ValueError(f"k must be at most min(d_0, d_L) = {full}, got {k}")
    return k


def _in_double(function: Callable, mlp: MLP, params, X):
    """Call with float64 arguments, on concrete ones also where x64 is off."""
    dtype = edge.checked_params(mlp, params)
    X = edge.checked_inputs(mlp.sizes[0], X, dtype)
    concrete = all(checks.is_concrete(leaf) for leaf in jax.tree.leaves((params, X)))
    if not concrete:
        wide = jnp.promote_types(dtype, jnp.float32)
        return function(jax.tree.map(lambda x: x.astype(wide), params), X.astype(wide))
    with jax.enable_x64(True):
        result = function(*jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (params, X)))
    keep = jnp.promote_types(dtype, jnp.float32)
    return jax.tree.map(lambda x: x.astype(keep), result)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _spectrum(mlp: MLP, k: int, params, X):
    frame, _, broken = _walked(mlp, k, params, X)
    for _ in range(QR_STEPS):
        frame = graded(frame)
    log_s = jax.vmap(rotated)(frame.g, frame.U, frame.rank) / math.log(10)
    place = jnp.arange(log_s.shape[1])
    log_s = jnp.where((place >= frame.known[:, None]) | broken, jnp.nan, log_s)
    log_s = jnp.where(place >= frame.rank[:, None], -jnp.inf, log_s)
    missing = k - log_s.shape[1]  # of a narrow layer
    return jnp.pad(log_s, ((0, 0), (0, max(missing, 0))), constant_values=-jnp.inf)[:, :k]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _exponents(mlp: MLP, k: int, params, X) -> LyapunovExponents:
    k = _directions(mlp, k)
    frame, logs, broken = _walked(mlp, k, params, X)
    logs = jnp.concatenate([_open_logs(frame, k)[None], logs])  # of x, and of layers 1..L
    grown = logs[:-1] - logs[1:]
    grown = jnp.where(logs[:-1] == -jnp.inf, -jnp.inf, grown)
    grown = jnp.where(broken, jnp.nan, grown)
    of_layers = grown.mean(axis=1)
    L = len(grown)
    spread = jnp.where(jnp.isfinite(of_layers).all(axis=0), of_layers.std(axis=0, ddof=1), jnp.nan)
    return LyapunovExponents(grown, of_layers.mean(axis=0), spread / math.sqrt(L))


def _directions(mlp: MLP, k: int) -> int:
    """How many directions can be open in every layer."""
    K = mlp.sizes[-1]
    closed = mlp.specs[-1].activation == activations.softmax and K > 1
    return min(k, K - closed, *mlp.sizes)


def _walked(mlp: MLP, k: int, params, X):
    """Return the inputs' frame, the open logs of layers 1..L, whether a layer leaves the range."""
    full = min(mlp.sizes[0], mlp.sizes[-1])
    # Neighbours of equal shape become a stack: a loop compiles as fast as one layer
    one, runs = rule(_directions(mlp, k)), dataclasses.replace(mlp, stack_from=1).runs
    # Forwards as the magnitudes go, back with the frame of the output
    params = [magnitudes.measured(layer) for layer in canonical(runs, params)]
    (A, _), saved, ahead = walk.forward(one, runs, params, (magnitudes.scaled_input(X), None))
    top = output_frame(
        mlp.specs[-1], params[-1].layer, saved[-1].U, A.mantissa, None if k == full else k
    )
    (frame, _, _), logs = walk.backward(one, runs, params, saved, (None, top, A))
    broken = jnp.any(jnp.stack([jnp.any(reading.above_range) for reading in ahead]))
    return square(orthonormal(frame)), walk.in_line(runs, logs), broken


# --- the rule -------------------------------------------------------------------------------------


def rule(num_logs: int) -> Rule:
    """Return the rule that carries a frame back and reads the logs that were taken out.

    The way forward is that of the magnitudes, with an exponent.
    """

    def backward(spec: Spec, measured: magnitudes.Measured, kept: magnitudes.Kept, carry):
        dA, dS, A = carry
        layer, frame, left = measured.layer, dS if dA is None else dA, None
        # Through the activation and the norm, onto the stream
        if dA is not None:
            rows, left = _onto_stream(spec, layer, kept, A.mantissa, dA.rows, dS)
            frame = dA._replace(rows=rows)
        # Take R out of the frame
        frame = orthonormal(frame, left)
        # Through the weight
        rows = arithmetic.gate(spec, layer) * frame.rows
        below = frame._replace(rows=arithmetic.through_weight(layer, rows))
        if below.rows.shape[1] > below.rows.shape[2]:
            below = square(orthonormal(below))
        stream = None if spec.residual is None else Stream(frame.rows, jnp.array(True))
        return (below, stream, kept.A_prev), _open_logs(frame, num_logs)

    forward = functools.partial(magnitudes.forward, statistics=False)
    return Rule(forward, backward, lambda frame: Stream(0 * frame.rows, jnp.array(False)))


def _onto_stream(spec: Spec, layer, kept: magnitudes.Kept, A, rows, stream: Any):
    """Carry rows from the output of a layer to its stream; count the directions left open."""
    slope = jnp.broadcast_to(arithmetic.derivative(spec, layer, kept.U, A), A.shape)
    rows, d = rows * slope[:, None], A.shape[1]
    left = jnp.sum(slope != 0, axis=1)
    if spec.norm is not None:
        assert kept.U is not None  # as with r and its exponent: a norm keeps them
        assert kept.r is not None
        assert kept.r_k is not None
        r = times_power(kept.r, -kept.r_k)
        rows = jax.vmap(functools.partial(spec.norm.vjp, kept.U, r), 1, 1)(rows)
        # It closes the mean and, without eps, U; what gates have closed already may be these
        left = jnp.minimum(left, d - spec.norm.centred - (spec.norm.eps == 0))
    if stream is not None:
        rows = rows + stream.rows
        left = jnp.where(stream.is_open, d, left)
    return rows, left


def _open_logs(frame: Frame, k: int):
    """g of the first k rows, -inf for those that are closed, NaN for those not resolved."""
    logs = jnp.where(jnp.arange(k) < frame.known[:, None], frame.g[:, :k], jnp.nan)
    return jnp.where(jnp.arange(k) < frame.rank[:, None], logs, -jnp.inf)


def output_frame(spec: Spec, layer, U, A: Float[Array, "m K"], k: int | None) -> Frame:
    """Return the frame of the output's Z: the rows of its Jacobian, or the k largest of them.

    Sizes go to g at once: those of a saturated output span any number of decades. A softmax has
    `J = C diag(a) rows`, `rows_i = e_i - a`, without the largest a: the rows of J add up to 0. The
    triangle of C, `C.T C = 1 + ones`, goes to U.
    """
    (m, K), is_softmax = A.shape, spec.activation == activations.softmax
    whole = k is None and is_softmax and K > 1
    sizes = A if is_softmax else jnp.abs(arithmetic.derivative(spec, layer, U, A))
    sizes = jnp.broadcast_to(sizes, A.shape)
    order = jnp.argsort(-sizes, axis=1)
    order = order[:, 1:] if whole else order[:, :k]
    f = order.shape[1]
    sizes = jnp.take_along_axis(sizes, order, axis=1)
    rows, triangle = jax.nn.one_hot(order, K, dtype=A.dtype), jnp.eye(f, dtype=A.dtype)
    if is_softmax:
        others = jnp.sum(A[:, None] * (1 - rows), axis=2, keepdims=True)  # 1 - a without rounding
        rows = jnp.where(rows > 0, others, -A[:, None])
    if whole:  # C.T C = L.T L, by Cholesky from the last corner
        corner = jnp.linalg.cholesky(jnp.eye(f, dtype=A.dtype) + 1)
        triangle = corner[::-1, ::-1]
    scale = jnp.diagonal(triangle)
    rank = jnp.sum(sizes != 0, axis=1)
    rank = jnp.minimum(rank, jnp.sum(A != 0, axis=1) - 1) if is_softmax else rank
    g = jnp.log(jnp.where(sizes > 0, sizes, 1)) + jnp.log(scale)
    U_m = jnp.broadcast_to(triangle / scale[:, None], (m, f, f))
    return Frame(rows, g, U_m, rank, jnp.full(m, f))


# --- taking factors out ---------------------------------------------------------------------------


def orthonormal(frame: Frame, left: Array | None = None) -> Frame:
    """Make the rows orthonormal, and take the triangle into g and U.

    Of the rows no more than `left` are independent; the others end as parts of these.
    """
    f, d = frame.rows.shape[1:]
    is_open = jnp.arange(f) < frame.rank[:, None]
    Q, R = jnp.linalg.qr(jnp.swapaxes(frame.rows * is_open[..., None], 1, 2))
    rank = jnp.minimum(frame.rank, min(f, d) if left is None else jnp.minimum(left, d))
    # Rows that end as exact zeros, as with weights of 0, are closed; those near it are not resolved
    size = jnp.abs(jnp.diagonal(R, axis1=1, axis2=2))
    place = jnp.arange(size.shape[1])
    last = jnp.max(jnp.where(size != 0, place + 1, 0), axis=1)
    smallest = UNRESOLVED * jnp.finfo(R.dtype).eps * size.max(axis=1, keepdims=True)
    lost = (place < jnp.minimum(rank, last)[:, None]) & ~(size > smallest)
    any_lost = lost.any(axis=1)
    known = jnp.minimum(frame.known, jnp.where(any_lost, jnp.argmax(lost, axis=1), d))
    rank = jnp.where(any_lost, rank, jnp.minimum(rank, last))
    still = place < rank[:, None]
    rows = jnp.swapaxes(Q, 1, 2) * still[..., None]
    g, F = scaled_triangle(R, frame.g, still, is_open)
    return Frame(rows, g, F @ frame.U, rank, known)


def square(frame: Frame) -> Frame:
    """Leave a triangle of as many columns as rows: `U = T Q`, Q has no part in singular values."""
    if frame.U.shape[1] == frame.U.shape[2]:
        return frame
    R = jnp.linalg.qr(jnp.swapaxes(frame.U[:, ::-1], 1, 2), mode="r")
    U = jnp.swapaxes(R, 1, 2)[:, ::-1, ::-1]
    size = jnp.abs(jnp.diagonal(U, axis1=1, axis2=2))
    size = jnp.where(size > 0, size, 1)
    return frame._replace(g=frame.g + jnp.log(size), U=U / size[..., None])


def graded(frame: Frame) -> Frame:
    """Take a QR step: the triangle of `U.T` has the same singular values, nearer a diagonal one."""
    R = jnp.linalg.qr(jnp.swapaxes(frame.U, 1, 2), mode="r")
    is_open = jnp.arange(frame.g.shape[1]) < frame.rank[:, None]
    g, F = scaled_triangle(R, frame.g, is_open, is_open)
    return frame._replace(g=g, U=F)


def scaled_triangle(R, g, still, was):
    """Return the new g and F; rows that are not `still` open are 0, columns that never `were`."""
    r = R.shape[1]
    size = jnp.abs(jnp.diagonal(R, axis1=1, axis2=2))
    size = jnp.where(still & (size > 0), size, 1)
    kept = still[:, :, None] & was[:, None, :] & (R != 0)
    apart = jnp.where(kept, g[:, None, :] - g[:, :r, None], 0)
    F = jnp.where(kept, R / size[..., None] * jnp.exp(apart), 0)
    return g[:, :r] + jnp.log(size), F


# --- the last triangle ----------------------------------------------------------------------------


def rotated(g: Float[Array, " n"], U: Float[Array, "n n"], rank) -> Float[Array, " n"]:
    """Return ln of the singular values of `diag(exp g) U`, largest first; rows from rank on are 0.

    Pairs of rows are rotated until all are orthogonal. A row is a unit vector and the log h of its
    length; of two rows with lengths 1 and rho <= 1 and cosine p the rotation has the tangent
    `t = -2 rho p / (1 - rho^2 + sqrt((1 - rho^2)^2 + 4 rho^2 p^2))`, and only `t rho` and `t / rho`
    are needed: a rho below the range is 0, and the step that of Gram and Schmidt.
    """
    n = len(g)
    if n == 1:
        return g + jnp.log(jnp.abs(U[0]))
    is_open = jnp.arange(n) < rank
    h, V = _unit_rows(jnp.where(is_open, g, -1e30), U)  # so far down that it has no part in any
    pairs = jnp.asarray(_pairs(n))
    tolerance = 16 * jnp.finfo(U.dtype).eps

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
        both = jnp.concatenate([upper, lower])
        logs = jnp.concatenate([h[i], h[j]]) + jnp.log(jnp.tile(cosine, 2))
        logs, both = _unit_rows(logs, both)
        at = jnp.concatenate([i, j])
        return h.at[at].set(logs), V.at[at].set(both), jnp.maximum(worst, jnp.abs(p).max())

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
    size = jnp.linalg.norm(V, axis=1)
    size = jnp.where(size == 0, 1, size)
    return h + jnp.log(size), V / size[:, None]


@functools.cache
def _pairs(n: int) -> np.ndarray:
    """Turns in which every two of n rows meet once: (turns, 2, pairs), as in a round robin."""
    players = [*range(n), *([None] if n % 2 else [])]
    turns = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        turn = zip(players[:half], players[: half - 1 : -1], strict=True)
        turns.append([pair for pair in turn if None not in pair])
        players = [players[0], players[-1], *players[1:-1]]
    return np.swapaxes(np.array(turns), 1, 2)
