"""The spectra and exponents of networks of a kind, and what theory says of them."""

import math
from typing import NamedTuple

import jax
import numpy as np

import jaxmlp
from experiments import common
from experiments.jacobian.options import VARIANCES, Config
from jaxmlp import initializers, meanfield, spectrum


class Measured(NamedTuple):
    """Networks of one kind: log10_s `(nets, n)`, largest first; exponents `(nets, L, n)` in decades
    of the directions, layer by layer, of the deepest Gaussian ones, None of others; the theory of
    the Jacobian at infinite width, with each layer at its own length."""

    activation: str
    weights: str
    depth: int
    log10_s: np.ndarray
    exponents: np.ndarray | None
    predicted: meanfield.Jacobian


def measure(config: Config, activation: str, weights: str, depth: int) -> Measured:
    """Draw networks, and take the Jacobian at one input of mean square 1.

    Every layer has the activation, the last one too, as in the theory.
    """
    n, sigma_w2 = config.width, VARIANCES[activation]
    mlp = jaxmlp.MLP((n,) * (depth + 1), hidden=activation, output=activation, use_bias=False)
    init = initializers.gaussian(sigma_w2, 0.0)
    if weights == "orthogonal":
        init = jax.nn.initializers.orthogonal(math.sqrt(sigma_w2))
    spectra, exponents = [], []
    for seed in common.seeds(config, config.num_nets):
        params = mlp.init(jax.random.key(seed), init)
        X = np.random.default_rng(seed).standard_normal((1, n), np.float32)
        X /= np.sqrt(np.mean(X**2))
        spectra.append(np.asarray(spectrum.jacobian_spectrum(mlp)(params, X))[0])
        if weights == "gaussian" and depth == max(config.depths):
            of = spectrum.lyapunov_exponents(mlp)(params, X)
            exponents.append(np.asarray(of.per_layer)[:, 0] / math.log(10))
    predicted = meanfield.jacobian(
        activation, sigma_w2, 0.0, depth, weights, q0=sigma_w2, transient=True
    )
    settled = meanfield.jacobian(activation, sigma_w2, 0.0, depth, weights)
    if math.isclose(settled.relative_variance, predicted.relative_variance, rel_tol=1e-6):
        predicted = settled  # with its largest value, which is known for layers that are alike
    by_layer = np.array(exponents) if exponents else None
    return Measured(activation, weights, depth, np.array(spectra), by_layer, predicted)


def theory(config: Config, activation: str, weights: str):
    """Decades a layer of every direction as the depth grows, and the share that is cut in a layer;
    None where they are not known."""
    n, sigma_w2 = config.width, VARIANCES[activation]
    if activation == "linear" and weights == "orthogonal":
        return np.full(n, math.log10(sigma_w2) / 2), np.zeros(n)
    if weights == "gaussian" and activation == "linear":
        return meanfield.linear_exponents(n, sigma_w2) / math.log(10), np.zeros(n)
    if weights == "gaussian" and activation == "relu":
        of = meanfield.relu_exponents(n, sigma_w2)
        return of.exponents / math.log(10), of.cut
    return None


def row(m: Measured) -> dict:
    """The numbers of one kind; means over the networks."""
    s = m.log10_s
    squares = 10 ** (2 * (s - s[:, :1]))  # relative to the largest, so that none leaves the range
    mean = squares.mean(axis=1)
    spread, largest = squares.var(axis=1) / mean**2, m.predicted.log10_largest
    return {
        "activation": m.activation, "weights": m.weights, "layers": m.depth,
        "log10 largest": float(s[:, 0].mean()),
        "predicted": math.nan if largest is None else largest / 2,
        "log10 of rms": float(np.mean(s[:, 0] + np.log10(mean) / 2)),
        "predicted ": m.predicted.log10_mean / 2,
        "spread of s^2": float(np.mean(spread)),
        "+-": float(np.std(spread, ddof=1) / math.sqrt(len(s))) if len(s) > 1 else math.nan,
        "predicted  ": m.predicted.relative_variance,
        "open": float(np.isfinite(s).sum(axis=1).mean()),
    }  # fmt: skip


def all_values(found: list[Measured]) -> common.Rows:
    """One row for each singular value."""
    return [
        {
            "activation": m.activation, "weights": m.weights, "layers": m.depth, "network": k,
            "index": i + 1, "log10_s": value,
        }
        for m in found
        for k, values in enumerate(m.log10_s)
        for i, value in enumerate(values)
    ]  # fmt: skip
