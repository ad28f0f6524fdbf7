"""Pennington et al. 2017: singular values of the Jacobian, Gaussian against orthogonal weights.

The layers are square, and the depth is much smaller than the width, as the theory assumes.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxmlp
from experiments.papers.claims import Claim, Reproduced, mean_and_error
from experiments.papers.options import Config
from jaxmlp import meanfield
from jaxmlp.initializers import gaussian
from jaxmlp.plotting.style import BLUE, VERMILION, bare

PAPER = "Pennington et al. 2017"
DEPTH = 4
KINDS = {  # name: activation, sigma_w2
    "linear": ("linear", 1.0),
    "ReLU": ("relu", 2.0),
    "tanh": ("tanh", 1.05),
}
WEIGHTS = ("gaussian", "orthogonal")
FORMULA = "formula of the paper, its number not read"


def reproduce(config: Config) -> Reproduced:
    width, num_nets = (24, 2) if config.smoke else (200, 8)
    claims, seen = [], {}
    for kind, (activation, sigma_w2) in KINDS.items():
        for weights in WEIGHTS:
            squares = squared_singular_values(kind, weights, width, num_nets, config.seed)
            seen[kind, weights] = squares
            spread, error = mean_and_error(squares.var(1) / squares.mean(1) ** 2)
            theory = meanfield.jacobian(activation, sigma_w2, 0.0, DEPTH, weights)
            derived = theory.relative_variance
            claims.append(Claim(
                f"variance / mean^2 of s^2, {kind}, {weights}", spread,
                4 * error + 0.02 * derived + 1e-6, error, derived, where=FORMULA,
            ))  # fmt: skip
    largest, error = mean_and_error(seen["linear", "gaussian"].max(1))
    edge = 10 ** float(meanfield.jacobian("linear", 1.0, 0.0, DEPTH).log10_largest or 0)
    # at n units the largest value strays from the edge by parts of n^(-2/3)
    claims.append(Claim("largest s^2, linear, gaussian", largest, 3 * width ** (-2 / 3) * edge,
                        error, edge, where=FORMULA))  # fmt: skip
    return Reproduced(claims, figure(seen, claims, width))


def squared_singular_values(kind: str, weights: str, width: int, num_nets: int, seed: int):
    """Return those of `D[L] W[L] ... D[1] W[1]`, at an input of the length that layers keep."""
    activation, sigma_w2 = KINDS[kind]
    init = gaussian(sigma_w2)
    if weights == "orthogonal":
        init = jax.nn.initializers.orthogonal(sigma_w2**0.5)
    mlp = jaxmlp.MLP((width,) * (DEPTH + 1), hidden=activation, output=activation, use_bias=False)
    signs = np.sign(np.random.default_rng(seed).normal(size=(1, width)))
    x = (settled(activation, sigma_w2) / sigma_w2) ** 0.5 * signs.astype(np.float32)
    spectrum = jaxmlp.jacobian_spectrum(mlp)
    keys = jax.random.split(jax.random.key(seed), num_nets)
    log10 = np.array([spectrum(mlp.init(key, init), x)[0] for key in keys])
    return 10 ** (2 * log10)  # 0 where a gate is closed


def settled(activation: str, sigma_w2: float) -> float:
    """Return the length of the layers; for tanh it is that of the fixed point."""
    q = meanfield.fixed_point(activation, sigma_w2, 0.0).q
    return 1.0 if activation != "tanh" else q


def figure(seen, claims, width):
    fig, axes = plt.subplots(1, 3, figsize=(8, 3.2), layout="constrained")
    for ax, kind in zip(axes, KINDS, strict=True):
        for weights, colour in zip(WEIGHTS, (VERMILION, BLUE), strict=True):
            s = np.sqrt(np.maximum(seen[kind, weights], 1e-12)).ravel()
            ax.hist(s, 60, range=(0, 4), density=True, histtype="step", color=colour,
                    label=weights.replace("gauss", "Gauss"))  # fmt: skip
        spreads = [claim.ours for claim in claims if f", {kind}," in claim.what]
        gauss, orthogonal = (f"{spread:.2g}" if spread > 1e-6 else "0" for spread in spreads[:2])
        ax.set_title(f"{kind}: {gauss} Gaussian,\n{orthogonal} orthogonal")
        ax.set(xlabel="singular value", yscale="log")
        bare(ax)
    axes[0].set_ylabel("density")
    axes[1].legend()
    fig.suptitle(f"{DEPTH} layers of {width}: variance of s^2 over its squared mean")
    return fig
