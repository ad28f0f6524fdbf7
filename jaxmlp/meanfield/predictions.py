"""Predictions for each layer of a network: mean field, and the spread of networks of finite width.

A depth sweep measures |dS[l]| / |dS[L]| for an input. This is predicted for wide networks
(`E|dS[l]|^2 = chi_1 E|dS[l+1]|^2`) and for networks of a given width. S is z, or the sum to which
layers with a residual add.
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
    """Hold predictions for layers 1..L, arrays of length L; the names are those of `GradientFlow`.

    q: the variance of the units of S[l].
    chi_1: the factor of squared gradients, E|dS[l]|^2 / E|dS[l+1]|^2; NaN for the output layer.
    correlation: between S[l] of two inputs that have the same mean square and cosine c0.
    log10_stream: log10 of |dS[l]| / |dS[L]| at infinite width; 0 for the output layer.
    log10_delta: log10 of |dz[l]| / |dS[L]|. If the layer has a residual, that is log10_stream +
      log10 alpha; with "rezero" it is -inf, because alpha starts at 0.
    mean, sd: of log10_stream over networks of the given width; None without a width.
    low, high: `mean -+ 3 sd / sqrt(num_nets)`. The mean over num_nets networks lies between them in
      about 99.7% of all cases. None without a width.
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

    The prediction is for one input; a root mean square over a batch has another mean. The theory
    assumes that the direction of dz[L] is independent of the weights. That is exact for one output
    with any loss, and for two outputs with softmax and cross-entropy. It is nearly so for more
    classes. It is false for many outputs with a squared error and targets near 0, because dz[L] is
    then z[L].

    mean and sd are exact for linear, ReLU, leaky ReLU and PReLU, with or without biases. For other
    activations they are right to leading order in 1/width, at any depth/width, and come from
    10,000 simulated networks with three numbers for each layer (`meanfield/finite_width.py`). With
    a residual or a norm they come from 1,000 to 10,000 networks that are drawn exactly, in a time
    that grows with depth and width (`meanfield/finite_streams.py`). The seeds are fixed. Weights
    are Gaussian; a named initialisation has the same band up to 1/width, and orthogonal weights
    have a narrower one.

    Args:
      activation: of every hidden layer. prelu has the slope it starts with.
      sigma_w2: `fan_in * Var W`, one number, or one for each of the L layers (`variances`).
      sigma_b2: `Var b`.
      depth: the number of hidden layers; L = depth + 1.
      q0: the mean square of the input's entries, `|x|^2 / d_0`.
      c0: the cosine of two inputs.
      width: that of the hidden layers, one number or one for each; None for infinite width only.
      num_nets: the number of networks whose mean `low` and `high` are for.
      residual, norm, norm_eps: as `MLP` takes them; `meanfield/remedies.py` has the formulas. The
        two norms differ at finite width only.

    Raises:
      ValueError: for numbers out of range or of the wrong length, an activation that cannot be
        integrated, an unknown residual or norm, and a norm over fewer than 3 units, because it lets
        no derivative through.

    Example:
      >>> of = predict("relu", 2.0, 0.0, depth=50, width=256, num_nets=20)
      >>> of.q.shape, round(float(of.log10_delta[0]), 9), round(float(of.mean[0]), 3)
      ((51,), 0.0, -0.107)
      >>> of = predict("relu", 2.0, 0.0, depth=50, residual="1/sqrt(depth)")
      >>> round(float(10 ** of.log10_stream[0]), 2), round(math.sqrt(math.e), 2)
      (1.62, 1.65)
    """
    # Refuse what does not fit
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
    # Infinite width
    stream = remedies.stream(residual, norm, norm_eps, depth, widths)
    q = remedies.lengths(activation, w, b, checks.positive_number("q0", q0), stream)
    chi_1 = np.append(remedies.factors(activation, w, q, stream), np.nan)
    with np.errstate(divide="ignore"):
        steps = np.log10(chi_1[:-1]) / 2
        infinite = np.append(np.cumsum(steps[::-1])[::-1], 0.0)  # layer l: steps l..L-1 added up
        log10_alpha = np.append(0.0, np.log10(stream.gain))
    correlations = _correlations(activation, w, b, q, q0, c0, stream)
    wide = Prediction(q, chi_1, correlations, infinite, infinite + log10_alpha)
    if widths is None:
        return wide
    # Finite width
    if chi_1[-2] == 0:  # step and sign: no network has a gradient
        mean, sd = infinite, np.zeros(len(w))
    else:
        if stream.norm is None and not stream.keep.any():
            of_ln = finite_width.statistics(activation, w, b, q, widths)
        else:
            of_ln = finite_streams.statistics(activation, w, b, q[0], widths, stream)
        mean, sd = np.array(of_ln) / (2 * math.log(10))  # from ln of the square to log10
    reach = 3 * sd / math.sqrt(num_nets)  # 3: 99.7% of a normal distribution
    return wide._replace(mean=mean, sd=sd, low=mean - reach, high=mean + reach)


def variances(init: str | Initializer, sizes: Sequence[int]) -> tuple[np.ndarray, float]:
    """Return sigma_w2 for each layer, `fan_in * Var W`, and sigma_b2 of a named initialisation.

    Args:
      init: "lecun", "he", "glorot" or `initializers.gaussian(...)`. The first three are truncated
        normals; in wide networks the variance alone counts.
      sizes: (d_0, ..., d_L), as `MLP` takes them.

    Raises:
      ValueError: for an initialisation whose entries are not known to be independent.

    Example:
      >>> variances("glorot", (4, 12, 12, 4))
      (array([0.5, 1. , 1.5]), 0.0)
    """
    init = initializers.get(init)
    is_named = init.name in _VARIANCES and init == initializers.get(init.name)
    if not is_named and init.unit is not jax.random.normal:
        raise ValueError(
            f"the theory needs independent weights of a known variance, got init {init.name!r}: "
            "give sigma_w2 and sigma_b2 (square orthogonal layers have the lengths of sigma_w2 = 1 "
            "but spread less)"
        )
    factor = _VARIANCES[init.name] if is_named else _of_normal(init)
    shapes = itertools.pairwise(sizes)
    return np.array([factor(d_in, d_out) for d_in, d_out in shapes]), init.sigma_b2


_VARIANCES = {
    "lecun": lambda d_in, d_out: 1.0,
    "he": lambda d_in, d_out: 2.0,
    "glorot": lambda d_in, d_out: 2 * d_in / (d_in + d_out),
}


def _of_normal(init: Initializer) -> Callable:
    """Return the function for fan_in times the variance that the initialisation states."""

    def factor(d_in, d_out):
        assert init.std is not None
        with jax.enable_x64(True):
            return d_in * float(init.std((d_in, d_out), np.float64)) ** 2

    return factor


def _for_each(name, value, length) -> list:
    """Return one value for each layer; a single number stands for all."""
    if np.ndim(value) == 0:
        return [value] * length
    if len(value) != length:
        raise ValueError(f"{name} must be one number or {length} of them, got {len(value)}")
    return list(value)


def _correlations(activation, w, b, q, q0, c0, stream):
    """Return the correlation of each layer. It is carried as `e = 1 - c`."""
    e, close = [w[0] * q0 * (1 - c0) / q[0]], functools.partial(math.isclose, rel_tol=NOISE)
    same = np.diff(w[1:]) == 0  # whether layer l + 3 does what layer l + 2 does
    same &= (np.diff(stream.keep.astype(int)) == 0) & (np.diff(stream.gain) == 0)
    kept = _kept(q, stream)
    for l in range(1, len(q)):
        # Settled if the layer does what the last one did, with the same e and the same q (or none)
        settled = l > 1 and same[l - 2] and close(e[-1], e[-2])
        settled = settled and (close(q[l - 1], q[l - 2]) or q[l - 2] < SMALLEST)
        if not settled:  # the mean of the stream's e and of what the layer adds, weighted by q
            added = decorrelation(activation, w[l], b, stream.seen(q[l - 1]), e[-1])
            e.append(kept[l - 1] * e[-1] + (1 - kept[l - 1]) * added)
        else:
            e.append(e[-1])
    return 1 - np.array(e)


def _kept(q, stream):
    """Return the stream's share in the variance of the layer above, for layers 1..L-1."""
    known = np.isfinite(q[1:]) & (q[1:] > 0)
    share = np.divide(q[:-1], q[1:], out=np.ones(len(q) - 1), where=known)
    if not known.all():  # if q leaves the range of float64, the last known share goes on
        last = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))
        share = share[last]
    return np.where(stream.keep, share, 0.0)
