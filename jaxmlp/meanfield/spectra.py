"""Singular values of the input-output Jacobian in theory: mean, spread, edge, and exponents.

`J = D[L] W[L] ... D[1] W[1]`. D[l] is the diagonal matrix of phi'(z[l]). W[l] has n x n independent
entries of variance sigma_w2 / n, or is sqrt(sigma_w2) times a random orthogonal matrix. For large n
at a fixed depth, if the length has settled, the factors are free. Then their S-transforms multiply
to that of J J^T, which determines the spectrum. With `mu_k = E phi'^(2k)` and s the squared
singular values:

    mean s = (sigma_w2 mu_1)^L,    var s / (mean s)^2 = L (mu_2 / mu_1^2 - 1 - s_1),

with s_1 = -1 for Gaussian weights and 0 for orthogonal ones. The largest s is the edge of the
spectrum. It is the smallest value, over chi > 0, of

    s(chi) = (1 + M) / M (sigma_w2 M / (chi (1 + M)^k))^L,

with `M(chi) = E chi phi'^2 / (1 - chi phi'^2)`, the moment generating function of phi'^2, and k = 0
for Gaussian weights, 1 for orthogonal ones. For linear Gaussian layers the edge is
`sigma_w2^L (L + 1)^(L + 1) / L^L`, about e (L + 1/2) times the mean. In layers of n units the
largest s differs from the edge by a relative n^(-2/3). All of this needs L much smaller than n.

Pennington, Schoenholz & Ganguli 2017, "Resurrecting the sigmoid in deep learning through dynamical
isometry", and 2018, "The emergence of spectral universality in deep networks".
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from jaxmlp import checks
from jaxmlp.activations import Activation
from jaxmlp.meanfield.lengths import checked, length_map, settled
from jaxmlp.meanfield.quadrature import REACH_OF_TWO, centres_of, panels, values_and_slopes

WEIGHTS = {"gaussian": 0, "orthogonal": 1}  # k in s(chi), which is 1 + s_1
PANELS = 64  # chosen: panels for the distribution of phi', on each side of each kink


class Jacobian(NamedTuple):
    """Describe the squared singular values s of the Jacobian of L layers.

    q: the length of the layers; with `transient` that of the last one.
    mean, variance: of s over the spectrum; 0 or inf beyond the range of float64.
    log10_mean: finite at any depth.
    relative_variance: variance / mean^2; 0 if all s are equal.
    log10_largest: that of the largest s, the edge of the spectrum of wide layers; inf if phi' is
      not bounded, None with a width or with `transient`.
    """

    q: float
    mean: float
    variance: float
    log10_mean: float
    relative_variance: float
    log10_largest: float | None


def jacobian(
    activation: str | Activation,
    sigma_w2: float,
    sigma_b2: float,
    depth: int,
    weights: str = "gaussian",
    *,
    q0: float = 1.0,
    transient: bool = False,
    width: int | None = None,
) -> Jacobian:
    """Predict the singular values of the Jacobian of `depth` layers `phi(W a + b)`.

    Without a width for n -> infinity at that depth, all layers at the fixed point that the length
    reaches from q0. With `transient` layer l stands at its own length, `q[1] = q0` and `q[l] =
    length_map(q[l-1])`, and has its own mu_k: the mean is the product of `sigma_w2 mu_1`, the
    relative variance the sum of `mu_2 / mu_1^2 - 1 - s_1`. Few layers that start away from the
    fixed point need that: ten orthogonal tanh layers at criticality spread thirty times wider
    than they do at the fixed point. It holds while depth / n is small: a spectrum of n values is
    else far wider than its mean, and the exponents of `linear_exponents` describe it. A linear
    layer at the output, as an MLP has it, multiplies s by sigma_w2 and, with Gaussian weights, adds
    1 to the relative variance.

    With a width exact at any depth, for Gaussian weights and the activations whose gradient does
    not depend on the length: linear, and without biases ReLU, leaky ReLU and PReLU. There the
    gates are coins of their own, whatever the input (Hanin & Nica 2020). With `X = J J^T`,

        E tr X'^2 = (sigma_w2 / n)^2 ((n (n - 1) mu_1^2 + 2 n mu_2) E tr X^2 + n mu_2 E (tr X)^2),
        E (tr X')^2 = (sigma_w2 / n)^2 (2 n mu_2 E tr X^2 + (n (n - 1) mu_1^2 + n mu_2) E (tr X)^2);

    the mean is that over networks, and the variance that within the spectrum of a network:
    `E tr X^2 / n - E (tr X / n)^2`.

    Raises:
      ValueError: for numbers out of range; weights other than "gaussian" and "orthogonal"; a width
        for which the recursion does not hold, or together with `transient`; an activation that
        cannot be integrated.

    Example:
      >>> of = jacobian("relu", 2.0, 0.0, depth=10)
      >>> of.mean, of.relative_variance
      (1.0, 20.0)
      >>> edge = 10 ** jacobian("linear", 1.0, 0.0, depth=3).log10_largest
      >>> round(edge, 9) == round(4**4 / 3**3, 9)
      True
    """
    activation, w, b = checked(activation, sigma_w2, sigma_b2)
    depth = checks.integer("depth", depth, at_least=1)
    if weights not in WEIGHTS:
        raise checks.unknown_name("weights", weights, WEIGHTS)
    q0 = checks.positive_number("q0", q0)
    if transient:
        if width is not None:
            raise ValueError(
                "transient and width exclude each other: the recursion at a finite width holds "
                "for activations whose gradient does not depend on the length"
            )
        one_on = lambda q, _: float(length_map(activation, w, b, q))  # noqa: E731
        lengths, layers_each = [*itertools.accumulate(range(1, depth), one_on, initial=q0)], 1
    else:
        lengths, layers_each = [settled(activation, w, b, q0)[0]], depth
    # The moments of phi'^2 at each length, and what their layers make together
    laws = [_law(activation, q) for q in lengths]
    moments = [(weight @ slope2, weight @ slope2**2) for slope2, weight in laws]
    if any(mu_1 == 0 for mu_1, _ in moments):  # step and sign
        return Jacobian(lengths[-1], 0.0, 0.0, -math.inf, 0.0, None if transient else -math.inf)
    log10_mean = sum(layers_each * math.log10(w * mu_1) for mu_1, _ in moments)
    ratios = [float(mu_2 / mu_1**2) for mu_1, mu_2 in moments]
    relative = sum(layers_each * (ratio - WEIGHTS[weights]) for ratio in ratios)
    # The largest value, which is known for layers that are alike, or the recursion
    largest = None
    if width is not None:
        _check_recursion(activation, b, weights)
        relative = _relative_variance(checks.integer("width", width, at_least=1), depth, *ratios)
    elif not transient:
        largest = _log_edge(activation, *laws[0], w, depth, WEIGHTS[weights]) / math.log(10)
    # Mean and variance, 0 or inf beyond the range of float64
    with np.errstate(over="ignore"):
        mean = float(np.float64(10) ** log10_mean)
        variance = float(relative * np.float64(mean) ** 2) if relative else 0.0
    return Jacobian(lengths[-1], mean, variance, log10_mean, relative, largest)


def _law(activation, q) -> tuple[np.ndarray, np.ndarray]:
    """Return phi'(z)^2 at quadrature points for z of variance q, and their weights."""
    if activation.homogeneous or q in (0, math.inf):  # phi is a line on each side of 0
        far = {0: 1e-100, math.inf: 1e50}.get(q, 1.0)  # chosen: powers of them are in range
        z, weight = np.array([-far, far]), np.full(2, 1 / 2)
    else:
        root = math.sqrt(q)
        g, weight = panels(centres_of(activation) / root, 1 / max(1, root), PANELS, REACH_OF_TWO)
        z = root * g
    return values_and_slopes(activation, z)[1] ** 2, weight


def _log_edge(activation, slope2, weight, w, depth, power) -> float:
    """Return ln of the edge of the spectrum: the first minimum of s(chi), by finer grids."""
    largest, far = slope2.max(), values_and_slopes(activation, np.array([-1e50, 1e50]))[1] ** 2
    if far.max() > 2 * largest:
        return math.inf

    def log_s(u):
        chi = u[:, None] / largest
        M = (chi * slope2 / (1 - chi * slope2)) @ weight
        chi = chi[:, 0]
        return np.log1p(M) - np.log(M) + depth * (np.log(w * M / chi) - power * np.log1p(M))

    # s(chi) falls until its first minimum, which lies near chi E phi'^2 = 1 / depth. Chosen: 400
    # points from 1e-3 / depth on, denser towards both ends; then 5 grids, each 20 times finer
    low, high = 1e-3 / depth, 1e-12
    u = np.append(np.geomspace(low, 1 / 2, 200), 1 - np.geomspace(1 / 2, high, 200)[1:])
    for _ in range(5):
        s = log_s(u)
        i = int(np.argmax(np.append(np.diff(s) >= 0, True)))
        u = np.linspace(u[max(i - 1, 0)], u[min(i + 1, len(u) - 1)], 41)
    return float(s[i])


def _check_recursion(activation, b, weights):
    """Refuse layers that the recursion at finite width does not describe."""
    if weights != "gaussian":
        raise ValueError("at a finite width the theory needs Gaussian weights, got orthogonal ones")
    low, high = values_and_slopes(activation, np.array([-1.0, 1.0]))[1] ** 2
    if not activation.homogeneous or (b > 0 and low != high):
        raise ValueError(
            "at a finite width the theory needs a linear activation, or ReLU, leaky ReLU or PReLU "
            f"without biases, got {activation.name!r} and sigma_b2 = {b}"
        )


def _relative_variance(n, depth, ratio) -> float:
    """Return `E tr X^2 / n - E (tr X / n)^2` over the mean squared; `ratio = mu_2 / mu_1^2`."""
    step = np.array([[n - 1 + 2 * ratio, n * ratio], [2 * ratio / n, n - 1 + ratio]]) / n
    moments = np.ones(2)  # both are 1 for the identity
    for _ in range(depth):
        moments = step @ moments
    return float(moments[0] - moments[1])


# --- exponents ------------------------------------------------------------------------------------


def linear_exponents(n: int, sigma_w2: float = 1.0) -> np.ndarray:
    """Return the Lyapunov exponents of products of Gaussian n x n layers, largest first.

    `ln s_i / L -> (ln(2 sigma_w2 / n) + psi((n - i + 1) / 2)) / 2` in nats a layer as L grows, s_i
    the i-th singular value itself, not its square; exact for every n, by the chi-square law of the
    diagonal of R in a QR step.

    C. M. Newman 1986, "The distribution of Lyapunov exponents: exact results for random matrices".

    Example:
      >>> round(float(linear_exponents(1)[0]), 6)  # E ln |N(0, 1)|
      -0.635181
    """
    from scipy.special import digamma

    n, sigma_w2 = _checked_layers(n, sigma_w2)
    return (math.log(2 * sigma_w2 / n) + digamma((n - np.arange(n)) / 2)) / 2


class GatedExponents(NamedTuple):
    """Hold the exponents of ReLU layers, `(n,)` arrays, largest first.

    exponents: in nats a layer, of products in which every layer has at least i active units.
    cut: the probability that a layer has fewer than i, which makes s_i 0 for good. After L layers
      s_i is not 0 with probability `(1 - cut)^L`.
    """

    exponents: np.ndarray
    cut: np.ndarray


def relu_exponents(n: int, sigma_w2: float = 2.0) -> GatedExponents:
    """Return the exponents of products of n x n ReLU layers with Gaussian weights, no biases.

    A layer has k of n units active, k binomial, and each active row of W is as any Gaussian row up
    to its sign, which the singular values do not see. So the i-th diagonal entry of R has a
    chi-square of k - i + 1 degrees, and

        `E[ln(2 sigma_w2 / n) + psi((k - i + 1) / 2) | k >= i] / 2`.

    The mean is over k given that k >= i in every layer. Without the condition every exponent is
    -inf, for sooner or later a layer has fewer active units than i.

    Example:
      >>> of = relu_exponents(100)
      >>> bool(of.cut[0] < 1e-30), bool(of.cut[49] > 0.4), round(float(of.exponents[0]), 3)
      (True, True, -0.013)
    """
    from scipy.special import bdtr, digamma, gammaln

    n, sigma_w2 = _checked_layers(n, sigma_w2)
    i, k = np.arange(1, n + 1)[:, None], np.arange(1, n + 1)
    # The law of k given k >= i, from logs: 2^-n is below the range of float64 at n = 1075
    log_law = np.where(k >= i, -gammaln(k + 1) - gammaln(n - k + 1), -np.inf)
    law = np.exp(log_law - log_law.max(axis=1, keepdims=True))
    psi = digamma(np.maximum(k - i + 1, 1) / 2)
    mean = np.sum(law * psi, axis=1) / law.sum(axis=1)
    return GatedExponents((math.log(2 * sigma_w2 / n) + mean) / 2, bdtr(np.arange(n), n, 1 / 2))


def _checked_layers(n, sigma_w2) -> tuple[int, float]:
    return checks.integer("n", n, at_least=1), checks.positive_number("sigma_w2", sigma_w2)
