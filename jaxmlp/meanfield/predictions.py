"""Predictions for each layer of a network: mean field, and the spread of networks of finite width.

What a depth sweep measures for one input, the norm of dS[l] over that at the output, is predicted
for wide networks (`E|dS[l]|^2 = chi_1 E|dS[l+1]|^2`) and for networks of a given width. S is z
itself, or, with a residual, what the layers add to.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxmlp import checks, initializers, report
from jaxmlp.activations import Activation
from jaxmlp.initializers import Initializer
from jaxmlp.meanfield import finite_streams, finite_width, remedies
from jaxmlp.meanfield.correlations import decorrelation
from jaxmlp.meanfield.integrals import SMALLEST
from jaxmlp.meanfield.lengths import NOISE, checked


class Prediction(NamedTuple):
    """Predictions for layers 1..L, arrays of length L, for one input; compare with `GradientFlow`.

    q: variance of the units of S[l].
    chi_1: factor of squared gradients, E|dS[l]|^2 / E|dS[l+1]|^2; NaN for the output layer.
    correlation: of S[l] between two inputs of the same mean square and cosine c0.
    log10_stream: log10 of |dS[l]| / |dS[L]| at infinite width; 0 for the output layer.
    log10_delta: the same of dz[l]: less by log10 alpha where the layer has a residual, -inf with
      "rezero", whose gates are closed at birth.
    mean, sd: of log10_stream over networks of that width; None without a width.
    low, high: `mean -+ 3 sd / sqrt(num_nets)`, where the mean of so many networks lies in about
      99.7% of all cases; None without a width.
    """

    q: np.ndarray
    chi_1: np.ndarray
    correlation: np.ndarray
    log10_stream: np.ndarray
    log10_delta: np.ndarray
    mean: np.ndarray | None = None
    sd: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def __repr__(self):
        return report.text_of(self, _shown)

    def _repr_html_(self):
        return report.html_of(self, _shown)


def _shown(of: Prediction) -> report.Shown:
    told = {"log10_stream": of.log10_stream, "mean": of.mean, "sd": of.sd}
    columns = {"q": of.q, "chi_1": of.chi_1, "correlation": of.correlation, **told}
    line = f"Prediction for {len(of.q):,} layers"
    return report.Shown(line, report.every_few(columns, "layer"), dict.fromkeys(told, ".2f"))


def predict(
    activation: str | Activation,
    sigma_w2: float | Sequence[float] | np.ndarray,
    sigma_b2: float,
    depth: int,
    q0: float = 1.0,
    *,
    c0: float = 0.0,
    width: int | Sequence[int] | None = None,
    num_nets: int = 1,
    residual: float | str | None = None,
    norm: str | None = None,
    norm_eps: float = 1e-6,  # that of MLP
) -> Prediction:
    """Predict length, correlation and gradient norm at each layer of an MLP.

    For one input, or for each input by itself: an rms over a batch has another mean. The theory
    takes the direction of dz[L] to be independent of the weights. That holds exactly with one
    output and any loss, and with two under softmax and cross-entropy; nearly with more classes; not
    where many outputs meet a squared error with targets near 0, for then dz[L] is z[L].

    Finite width: exact for linear, ReLU, leaky ReLU and PReLU, with biases or without; else to
    leading order in 1/width, at any depth/width, from 10,000 simulated networks of three numbers
    for each layer (`meanfield/finite_width.py`). With a residual or a norm, from 1,000 to 10,000
    networks drawn exactly, in a time that grows with depth and width
    (`meanfield/finite_streams.py`). The seeds are fixed. Weights are Gaussian: a named
    initialisation has the same band up to 1/width, orthogonal weights have a narrower one.

    Args:
      activation: of every hidden layer; prelu at the slope it starts with.
      sigma_w2: `fan_in * Var W`, one number or one for each of the L layers (`variances`).
      sigma_b2: `Var b`.
      depth: number of hidden layers; L = depth + 1.
      q0: mean square of the input's entries, `|x|^2 / d_0`.
      c0: cosine of two inputs.
      width: of the hidden layers, one or one for each; None for infinite width only.
      num_nets: over how many networks a mean is taken; sets low and high.
      residual, norm, norm_eps: as `MLP` takes them (`meanfield/remedies.py` has the formulas). The
        norms differ at finite width only.

    Raises:
      ValueError: for numbers out of range or of the wrong length; an activation that cannot be
        integrated; an unknown residual or norm; a norm over fewer than 3 units, which lets no
        derivative through.

    Example:
      >>> of = predict("relu", 2.0, 0.0, depth=50, width=256, num_nets=20)
      >>> of.q.shape, round(float(of.log10_delta[0]), 9), round(float(of.mean[0]), 3)
      ((51,), 0.0, -0.107)
      >>> of = predict("relu", 2.0, 0.0, depth=50, residual="1/sqrt(depth)")
      >>> round(float(10 ** of.log10_stream[0]), 2), round(math.sqrt(math.e), 2)
      (1.62, 1.65)
    """
    depth = checks.integer("depth", depth, at_least=1)
    num_nets = checks.integer("num_nets", num_nets, at_least=1)
    w = _for_each("sigma_w2", sigma_w2, depth + 1)
    w = np.array([checks.positive_number("sigma_w2", float(value)) for value in w])
    activation, _, b = checked(activation, w[0], sigma_b2)
    if not -1 <= c0 <= 1:
        raise ValueError(f"c0 must lie in -1..1, got {c0}")
    widths = None
    if width is not None:
        widths = [checks.integer("width", n, at_least=1) for n in _for_each("width", width, depth)]
    stream = remedies.stream(residual, norm, norm_eps, depth, widths)
    q = remedies.lengths(activation, w, b, checks.positive_number("q0", q0), stream)
    chi_1 = np.append(remedies.factors(activation, w, q, stream), np.nan)
    with np.errstate(divide="ignore"):
        infinite = _from_output(np.log10(chi_1[:-1]) / 2)
        of_z = np.append(0.0, np.log10(stream.gain))
    correlations = _correlations(activation, w, b, q, q0, c0, stream)
    wide = Prediction(q, chi_1, correlations, infinite, infinite + of_z)
    if widths is None:
        return wide
    mean, sd = _over_networks(activation, w, b, wide, widths, stream)
    reach = 3 * sd / math.sqrt(num_nets)  # 99.7% of a normal law
    return wide._replace(mean=mean, sd=sd, low=mean - reach, high=mean + reach)


def _over_networks(activation, w, b, wide: Prediction, widths, stream):
    """Mean and standard deviation of log10_stream."""
    if wide.chi_1[-2] == 0:  # step and sign: no gradient in any network
        return wide.log10_stream, np.zeros(len(w))
    if stream.norm is None and not stream.keep.any():
        of_ln = finite_width.statistics(activation, w, b, wide.q, widths)
    else:
        of_ln = finite_streams.statistics(activation, w, b, wide.q[0], widths, stream)
    return np.array(of_ln) / (2 * math.log(10))  # from ln of the square to log10


def variances(init: str | Initializer, sizes: Sequence[int]) -> tuple[np.ndarray, float]:
    """Return sigma_w2 for each layer, `fan_in * Var W`, and sigma_b2 of a named initialisation.

    Args:
      init: "lecun", "he", "glorot" or `initializers.gaussian(...)`. The first three are truncated
        normals; in wide networks the variance alone counts.
      sizes: (d_0, ..., d_L), as `MLP` takes them.

    Raises:
      ValueError: for an initialisation whose entries are not independent, or not known to be.

    Example:
      >>> variances("glorot", (4, 12, 12, 4))
      (array([0.5, 1. , 1.5]), 0.0)
    """
    init = initializers.get(init)
    if init.name not in _VARIANCES and init.unit is not jax.random.normal:
        raise ValueError(
            f"the theory needs independent weights of a known variance, got init {init.name!r}: "
            "give sigma_w2 and sigma_b2 (square orthogonal layers have the lengths of sigma_w2 = 1 "
            "but spread less)"
        )
    factor = _VARIANCES.get(init.name, _of_normal(init))
    shapes = itertools.pairwise(sizes)
    return np.array([factor(d_in, d_out) for d_in, d_out in shapes]), init.sigma_b2


_VARIANCES = {
    "lecun": lambda d_in, d_out: 1.0,
    "he": lambda d_in, d_out: 2.0,
    "glorot": lambda d_in, d_out: 2 * d_in / (d_in + d_out),
}


def _of_normal(init: Initializer) -> Callable:
    """fan_in times the square of the standard deviation that the initialisation states."""

    def factor(d_in, d_out):
        assert init.std is not None
        with jax.enable_x64(True):
            return d_in * float(init.std((d_in, d_out), np.float64)) ** 2

    return factor


def _for_each(name, value, length) -> list:
    """One value for each layer, where one may stand for all."""
    if np.ndim(value) == 0:
        return [value] * length
    if len(value) != length:
        raise ValueError(f"{name} must be one number or {length} of them, got {len(value)}")
    return list(value)


def _from_output(steps):
    """Sums from the output on: what layer l has is the sum of the steps l..L-1."""
    return np.append(np.cumsum(steps[::-1])[::-1], 0.0)


def _correlations(activation, w, b, q, q0, c0, stream):
    """c of each layer; `1 - c` is what is carried, until it and q, or the map at q -> 0, settle."""
    e, close = [w[0] * q0 * (1 - c0) / q[0]], functools.partial(math.isclose, rel_tol=NOISE)
    same = np.diff(w[1:]) == 0  # does layer l + 3 do what layer l + 2 does?
    same &= (np.diff(stream.keep.astype(int)) == 0) & (np.diff(stream.gain) == 0)
    kept = _kept(q, stream)
    for l in range(1, len(q)):
        still = l > 1 and same[l - 2] and close(e[-1], e[-2])
        still = still and (close(q[l - 1], q[l - 2]) or q[l - 2] < SMALLEST)
        if not still:  # a mean of what the layer adds and what the stream has, weighted by q
            added = decorrelation(activation, w[l], b, stream.seen(q[l - 1]), e[-1])
            e.append(kept[l - 1] * e[-1] + (1 - kept[l - 1]) * added)
        else:
            e.append(e[-1])
    return 1 - np.array(e)


def _kept(q, stream):
    """The stream's share in the variance of the layer above, for layers 1..L-1."""
    known = np.isfinite(q[1:]) & (q[1:] > 0)
    share = np.divide(q[:-1], q[1:], out=np.ones(len(q) - 1), where=known)
    if not known.all():  # beyond the range of float64 it is what it has become
        last = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))
        share = share[last]
    return np.where(stream.keep, share, 0.0)
