"""Many random networks at once, forwards and backwards by hand in NumPy, for one input each.

The convention is that of the remedies: with a residual `S = S_prev + alpha Z` at hidden layers
2..depth, with a norm `A = phi(norm(S))`, and an output layer of one unit that is plain.
"""

import itertools
import math

import numpy as np
from scipy.special import expit, ndtr


def _relu(U):
    return np.maximum(U, 0), (U > 0).astype(U.dtype)


def _leaky(slope):
    return lambda U: (np.where(U > 0, U, slope * U), np.where(U > 0, 1, slope).astype(U.dtype))


def _tanh(U):
    A = np.tanh(U)
    return A, 1 - A**2


def _sigmoid(U):
    A = expit(U)
    return A, A * (1 - A)


def _gelu(U):
    cdf = ndtr(U)
    return U * cdf, cdf + U * np.exp(-(U**2) / 2) / math.sqrt(2 * math.pi)


ACTIVATIONS = {  # U -> phi(U), phi'(U)
    "linear": lambda U: (U, np.ones_like(U)),
    "relu": _relu,
    "leaky_relu:0.3": _leaky(0.3),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "softplus": lambda U: (np.logaddexp(0, U), expit(U)),
    "gelu": _gelu,
}


def _normed(S, norm):
    """Return U, and the function from dU to dS."""
    if norm is None:
        return S, lambda dU: dU
    centred = S - S.mean(axis=-1, keepdims=True) if norm == "layer" else S
    size = np.sqrt((centred**2).mean(axis=-1, keepdims=True))
    U = centred / size

    def back(dU):
        dU = dU - dU.mean(axis=-1, keepdims=True) if norm == "layer" else dU
        return (dU - U * (dU * U).mean(axis=-1, keepdims=True)) / size

    return U, back


def draw(sizes, nets, seed=0, dtype=np.float32):
    """Return standard normals: inputs of mean square 1, a weight and a bias for each layer."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((nets, 1, sizes[0])).astype(dtype)
    X *= math.sqrt(sizes[0]) / np.linalg.norm(X, axis=2, keepdims=True)
    shapes = [((nets, *pair), (nets, 1, pair[1])) for pair in itertools.pairwise(sizes)]
    return X, [tuple(rng.standard_normal(s, dtype) for s in pair) for pair in shapes]


def log10_stream(normals, name, sigma_w2, sigma_b2=0.0, *, alpha=None, norm=None):
    """Return log10 |dS[l]| / |dS[L]| of every network, (nets, L). dS[L] is the number 1."""
    X, layers = normals
    phi, depth, dtype = ACTIVATIONS[name], len(layers) - 1, X.dtype
    scales = [
        np.sqrt(w / W.shape[1]).astype(dtype)
        for w, (W, _) in zip(np.broadcast_to(sigma_w2, depth + 1), layers, strict=True)
    ]
    A, S, saved = X, None, []
    for l in range(1, depth + 1):
        W, b = layers[l - 1]
        Z = (A @ W) * scales[l - 1] + dtype.type(math.sqrt(sigma_b2)) * b
        S = Z if l == 1 or alpha is None else S + dtype.type(alpha) * Z
        U, back = _normed(S, norm)
        A, slope = phi(U)
        saved.append((slope, back))

    dZ, dS = np.ones((len(X), 1, 1), dtype), None
    log10, found = np.zeros(len(X)), [np.zeros(len(X))]
    for l in range(depth, 0, -1):
        slope, back = saved[l - 1]
        dA = (dZ @ np.swapaxes(layers[l][0], 1, 2)) * scales[l]
        straight = 0 if dS is None or alpha is None else dS
        dS = back(dA * slope) + straight
        size = np.linalg.norm(dS, axis=2, keepdims=True)
        dS, log10 = dS / size, log10 + np.log10(size.ravel())
        dZ = dS if l == 1 or alpha is None else dtype.type(alpha) * dS
        found.append(log10)
    return np.array(found[::-1]).T
