"""Targets: labels or rows, which of them a loss takes, and the accuracy."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from jaxmlp.activations import Activation, sigmoid, softmax
from jaxmlp.checks import finite
from jaxmlp.losses import Loss


def targets_as_rows(loss: Loss, Y: Array, K: int, dtype) -> Inexact[Array, "m K"]:
    """Return the targets as rows `(m, K)` of `dtype`. Labels become one-hot rows."""
    if is_labels(loss, Y, K):
        return jax.nn.one_hot(Y, K, dtype=dtype)
    return jnp.reshape(Y, (Y.shape[0], K)).astype(dtype)


def is_labels(loss: Loss, Y, K: int) -> bool:
    """Return whether Y `(m,)` holds class numbers and the loss wants a distribution."""
    integral = np.issubdtype(Y.dtype, np.integer)
    return loss.targets == "distribution" and Y.ndim == 1 and (integral or K > 1)


def check_target_shape(loss: Loss, Y, m: int, K: int) -> None:
    """Refuse targets of a wrong shape or dtype. Values are not read."""
    if Y.dtype.kind not in "biuf" and not jnp.issubdtype(Y.dtype, jnp.floating):
        raise TypeError(f"Y must be numbers, got dtype {Y.dtype}")
    shapes = f"({m}, {K})" + (f" or ({m},)" if K == 1 or loss.targets == "distribution" else "")
    if Y.ndim not in (1, 2):
        raise ValueError(f"Y must have shape {shapes}, got {Y.shape}")
    if Y.shape[0] != m:
        raise ValueError(f"X has {m} samples but Y has {Y.shape[0]}")
    if Y.ndim == 1:  # labels, or the targets of one output
        if is_labels(loss, Y, K) and not np.issubdtype(Y.dtype, np.integer):
            raise TypeError(f"labels in Y must have an integer dtype, got {Y.dtype}")
        if loss.targets != "distribution" and K != 1:
            raise ValueError(f"Y must have shape {shapes} for {K} outputs, got {Y.shape}")
    elif Y.shape[1] != K:
        raise ValueError(f"Y has {Y.shape[1]} columns, but the model has {K} outputs")


def check_target_values(loss: Loss, Y: np.ndarray, K: int) -> None:
    """Refuse labels out of range, rows that are not a distribution, NaN and infinity."""
    if is_labels(loss, Y, K):
        outside = (Y < 0) | (Y >= K)
        if outside.any():
            i = int(np.argmax(outside))
            raise ValueError(
                f"label {Y[i]} at index {i}, but the model has {K} classes (0-{K - 1})"
            )
        return
    rows = np.asarray(Y, np.float64).reshape(len(Y), K)
    finite("Y", rows)
    if loss.targets == "numbers":
        return
    if (rows < 0).any() or (rows > 1).any():
        i, k = (int(j) for j in np.argwhere((rows < 0) | (rows > 1))[0])
        raise ValueError(
            f"targets of {loss.name} are probabilities in [0, 1], but Y[{i}, {k}] is {rows[i, k]:g}"
        )
    if loss.targets == "distribution":
        sums = rows.sum(axis=1)
        half = Y.dtype.itemsize <= 2 and not np.issubdtype(Y.dtype, np.integer)
        # Chosen, with room: a rounded row of bfloat16 sums to 1 within 4e-3, of float32 within 6e-8
        off = np.abs(sums - 1) > (1e-2 if half else 1e-5)
        if off.any():
            i = int(np.argmax(off))
            raise ValueError(f"rows of Y must sum to 1, but row {i} sums to {sums[i]:g}")


def accuracy(loss: Loss, output: Activation, A, Y) -> Float[Array, ""]:
    """Return the share of samples classified right; NaN for a regression.

    One sigmoid output is right if `a > 1/2` agrees with `y > 1/2`. With binary cross-entropy on
    several outputs this is the share of entries that are right. Otherwise the largest entries of
    A and Y must stand in the same place.
    """
    if output not in (softmax, sigmoid):
        return jnp.full((), jnp.nan, jnp.float32)
    if (A.shape[1] == 1 and output == sigmoid) or loss.targets == "probabilities":
        right = (A > 0.5) == (Y > 0.5)
    else:
        right = jnp.argmax(A, axis=1) == jnp.argmax(Y, axis=1)
    return jnp.mean(right, dtype=jnp.float32)
