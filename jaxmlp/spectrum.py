"""Singular values of the input-output Jacobian at any depth, by a rule for the walk.

A frame travels back: f cotangents of each sample. At every layer QR makes them orthonormal, and the
triangle R is taken out. The product of all R, newest first, has the singular values of the
Jacobian. It spans hundreds of decades; `frames` holds it and finds its singular values.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp import activations, checks, edge, magnitudes, walk
from jaxmlp import layer as arithmetic
from jaxmlp.backprop import check_derivatives
from jaxmlp.frames import Frame, graded, orthonormal, rotated, square
from jaxmlp.layer import Spec
from jaxmlp.mlp import MLP
from jaxmlp.scaled import times_power
from jaxmlp.storage import canonical
from jaxmlp.walk import Rule

QR_STEPS = 3  # chosen: how many QR steps come before the rotations


class Stream(NamedTuple):
    """Hold the rows that a residual adds on the way back; `is_open` if the layer above has one."""

    rows: Array
    is_open: Array


class LyapunovExponents(NamedTuple):
    """Hold exponents in nats a layer, largest first; -inf for a direction that is closed.

    per_layer: `(L, m, k)`, for each layer l and sample the growth of each direction on the way back
    through W[l] and the activation and norm below it; for l = 1 through W[1] alone.
    mean: `(k,)`, over layers and samples.
    standard_error: `(k,)`, that of the mean, from the spread over the layers. Samples share the
    weights, so they count as one.
    """

    per_layer: Float[Array, "L m k"]
    mean: Float[Array, " k"]
    standard_error: Float[Array, " k"]


def jacobian_spectrum(mlp: MLP) -> Callable:
    """Return the function for the singular values of each sample's Jacobian, at any depth.

    The Jacobian is `d A[L] / d x`, `(d_L, d_0)`. It is computed in float64, whatever the dtype of
    the parameters; but under `jax.jit` in their dtype. Derivatives are those of backpropagation: if
    act' of a saturated unit rounds to 0, the unit is closed.

    Returns:
      `f(params, X, k=None)` -> `(m, min(d_0, d_L))`, log10 of the singular values, largest first.
      -inf is an exact 0. It comes from counting the open directions, of which closed gates, a
      narrow layer, a norm with norm_eps 0 and a softmax leave fewer. NaN is a value that is not
      resolved: a layer shrinks one direction below 2e-14 of another (by act' of saturated units or
      a W without full rank), or a pre-activation leaves the range.

      If k is less than all, only the k outputs with the largest derivative are followed: the result
      is the spectrum of these rows of the Jacobian. Each value is at most the true one, and the
      difference does not grow with depth. The time falls with k.

    Raises:
      ValueError, TypeError: as `MLP.apply`, for k beyond min(d_0, d_L), and for an activation
        without a derivative.

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
      `f(params, X, k=None)` -> `LyapunovExponents` of the first k directions, by default
      `min(d_0, ..., d_L)` of them. They are the logs of the diagonal of R, layer by layer. Their
      sums over the layers differ from the logs of the singular values by a few nats, a difference
      that does not grow with depth.

    Raises:
      ValueError, TypeError: as `jacobian_spectrum`.
    """
    check_derivatives(mlp)

    def exponents(params, X, k: int | None = None) -> LyapunovExponents:
        return _in_double(functools.partial(_exponents, mlp, _count(mlp, k)), mlp, params, X)

    return exponents


def _count(mlp: MLP, k: int | None) -> int:
    """Return k, by default all; refuse more than there are."""
    full = min(mlp.sizes[0], mlp.sizes[-1])
    k = full if k is None else checks.integer("k", k, at_least=1)
    if k > full:
        raise ValueError(f"k must be at most min(d_0, d_L) = {full}, got {k}")
    return k


def _in_double(function: Callable, mlp: MLP, params, X):
    """Call the function with float64 arguments, even if x64 is off; under a trace it stays off."""
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
    missing = k - log_s.shape[1]  # above 0 if a layer is narrow: these are 0
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
    """Return how many of k directions can be open in every layer; a softmax closes one."""
    K = mlp.sizes[-1]
    closed = mlp.specs[-1].activation == activations.softmax and K > 1
    return min(k, K - closed, *mlp.sizes)


def _walked(mlp: MLP, k: int, params, X):
    """Return the inputs' frame, the open logs of layers 1..L, whether a layer leaves the range."""
    full = min(mlp.sizes[0], mlp.sizes[-1])
    # Neighbours of equal shape become a stack, because a loop compiles as fast as one layer
    frames, runs = rule(_directions(mlp, k)), dataclasses.replace(mlp, stack_from=1).runs
    # Forwards as the magnitudes go, back with the frame of the output
    params = [magnitudes.measured(layer) for layer in canonical(runs, params)]
    (A, _), saved, ahead = walk.forward(frames, runs, params, (magnitudes.scaled_input(X), None))
    begin = output_frame(
        mlp.specs[-1], params[-1].layer, saved[-1].U, A.mantissa, None if k == full else k
    )
    (frame, _, _), logs = walk.backward(frames, runs, params, saved, (None, begin, A))
    broken = jnp.any(jnp.stack([jnp.any(reading.above_range) for reading in ahead]))
    return square(orthonormal(frame)), walk.in_line(runs, logs), broken


# --- the rule -------------------------------------------------------------------------------------


def rule(num_logs: int) -> Rule:
    """Return the rule that carries a frame back and reads the logs that were taken out.

    The way forward is that of `magnitudes`, with an exponent.
    """

    def backward(spec: Spec, measured: magnitudes.Measured, kept: magnitudes.Kept, carry):
        dA, dS, A = carry
        layer, frame, left = measured.layer, dS if dA is None else dA, None
        # Back through the activation and the norm to the stream
        if dA is not None:
            rows, left = _onto_stream(spec, layer, kept, A.mantissa, dA.rows, dS)
            frame = dA._replace(rows=rows)
        # Take R out of the frame
        frame = orthonormal(frame, left)
        # Back through the weight
        rows = arithmetic.gate(spec, layer) * frame.rows
        below = frame._replace(rows=arithmetic.through_weight(layer, rows))
        if below.rows.shape[1] > below.rows.shape[2]:
            below = square(orthonormal(below))
        stream = None if spec.residual is None else Stream(frame.rows, jnp.array(True))
        return (below, stream, kept.A_prev), _open_logs(frame, num_logs)

    forward = functools.partial(magnitudes.forward, statistics=False)
    return Rule(forward, backward, lambda frame: Stream(0 * frame.rows, jnp.array(False)))


def _onto_stream(spec: Spec, layer, kept: magnitudes.Kept, A, rows, stream: Any):
    """Return rows carried from the output of a layer to its stream, and how many may be open."""
    slope = jnp.broadcast_to(arithmetic.derivative(spec, layer, kept.U, A), A.shape)
    rows, d = rows * slope[:, None], A.shape[1]
    left = jnp.sum(slope != 0, axis=1)
    if spec.norm is not None:
        assert kept.U is not None  # a norm keeps all three
        assert kept.r is not None
        assert kept.r_k is not None
        r = times_power(kept.r, -kept.r_k)
        rows = jax.vmap(functools.partial(spec.norm.vjp, kept.U, r), 1, 1)(rows)
        # "layer" closes the direction of the mean, and a norm without eps that of U. Gates may have
        # closed the same ones, so the smaller number counts
        left = jnp.minimum(left, d - spec.norm.centred - (spec.norm.eps == 0))
    if stream is not None:
        rows = rows + stream.rows
        left = jnp.where(stream.is_open, d, left)
    return rows, left


def _open_logs(frame: Frame, k: int):
    """Return g of the first k rows, with -inf for closed rows and NaN for those not resolved."""
    logs = jnp.where(jnp.arange(k) < frame.known[:, None], frame.g[:, :k], jnp.nan)
    return jnp.where(jnp.arange(k) < frame.rank[:, None], logs, -jnp.inf)


def output_frame(spec: Spec, layer, U, A: Float[Array, "m K"], k: int | None) -> Frame:
    """Return the frame of the output's Z: the rows of its Jacobian J, or the k largest of them.

    The sizes of the rows go to g at once, because those of a saturated output may span any number
    of decades. The rows of a softmax's J add up to 0, so the one with the largest a is left out:
    `J = C diag(a) rows`, with `rows_i = e_i - a` and `C.T C = 1 + ones`. The triangle of C goes to
    U.
    """
    # The rows, by the size of their derivative
    (m, K), is_softmax = A.shape, spec.activation == activations.softmax
    whole = k is None and is_softmax and K > 1
    sizes = A if is_softmax else jnp.abs(arithmetic.derivative(spec, layer, U, A))
    sizes = jnp.broadcast_to(sizes, A.shape)
    order = jnp.argsort(-sizes, axis=1)
    order = order[:, 1:] if whole else order[:, :k]
    f = order.shape[1]
    sizes = jnp.take_along_axis(sizes, order, axis=1)
    rows, triangle = jax.nn.one_hot(order, K, dtype=A.dtype), jnp.eye(f, dtype=A.dtype)
    if is_softmax:  # 1 - a as a sum of the others, because the difference cancels
        others = jnp.sum(A[:, None] * (1 - rows), axis=2, keepdims=True)
        rows = jnp.where(rows > 0, others, -A[:, None])
    if whole:  # C.T C = L.T L: the Cholesky factor, computed from the last corner
        corner = jnp.linalg.cholesky(jnp.eye(f, dtype=A.dtype) + 1)
        triangle = corner[::-1, ::-1]
    # The factors, and the number of open rows
    scale = jnp.diagonal(triangle)
    rank = jnp.sum(sizes != 0, axis=1)
    rank = jnp.minimum(rank, jnp.sum(A != 0, axis=1) - 1) if is_softmax else rank
    g = jnp.log(jnp.where(sizes > 0, sizes, 1)) + jnp.log(scale)
    U_m = jnp.broadcast_to(triangle / scale[:, None], (m, f, f))
    return Frame(rows, g, U_m, rank, jnp.full(m, f))
