"""Hanin 2018, Hanin & Rolnick 2018: the spread of log |dz| grows with the sum of 1 / width.

He ReLU networks of several depths, some with bottlenecks. Only the sum over the layers counts: if
it is the same, so is the spread.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import digamma, polygamma
from scipy.stats import binom

import jaxmlp
from experiments.papers.claims import Claim, Reproduced, draw
from experiments.papers.options import Config
from jaxmlp.plotting import style
from jaxmlp.plotting.style import BLUE, VERMILION, bare

PAPER = "Hanin 2018; Hanin & Rolnick 2018"
NETWORKS = {
    "5 layers of 20": [20] * 5,
    "10 layers of 40": [40] * 10,
    "20 layers of 80": [80] * 20,
    "10 layers of 80, two of 16": [80] * 4 + [16] + [80] * 4 + [16],
    "20 layers of 40": [40] * 20,
    "5 layers of 80, 5 of 14": [80] * 5 + [14] * 5,
    "40 layers of 40": [40] * 40,
}


def reproduce(config: Config) -> Reproduced:
    num_nets = 40 if config.smoke else 800
    networks = dict(list(NETWORKS.items())[:1]) if config.smoke else NETWORKS
    claims, points = [], {}
    for name, widths in networks.items():
        R = log_ratios(widths, num_nets, config.seed)
        ours = float(R.var(ddof=1))
        # the standard error of a variance, by the fourth moment
        error = float(np.sqrt((np.mean((R - R.mean()) ** 4) - ours**2) / len(R)))
        derived = sum(map(derived_variance, widths))
        points[name] = sum(1 / n for n in widths), ours, error, derived
        claims.append(Claim(
            f"variance of ln(|dz[1]|^2 / |dz[L]|^2), {name}", ours, 4 * error, error, derived,
            where="theorem: it grows with sum 1/n; constant not read",
        ))  # fmt: skip
    return Reproduced(claims, figure(points, num_nets))


def log_ratios(widths: list[int], num_nets: int, seed: int) -> np.ndarray:
    """Return ln(|dz[1]|^2 / |dz[L]|^2) of one sample, for networks that are not dead."""
    mlp = jaxmlp.MLP((10, *widths, 10), hidden="relu", output="linear", stack_from=2)
    J = jaxmlp.Objective(mlp, "half_squared_error")
    rng = np.random.default_rng(seed)
    X, Y = (rng.normal(size=(1, 10)).astype(np.float32) for _ in "XY")
    Y = 1e6 * Y  # so far that dz[L] does not depend on the network, as theory supposes
    flow = jaxmlp.gradient_flow(J, statistics=False)
    delta = jax.jit(jax.vmap(lambda p: flow(p, X, Y).log10_delta))(draw(mlp, "he", num_nets, seed))
    R = 2 * np.log(10) * np.asarray(delta[:, 0] - delta[:, -1], np.float64)
    return R[np.isfinite(R)]


def derived_variance(n: int) -> float:
    """Return the variance of `ln(2 chi^2_k / n)`, k ~ Bin(n, 1/2) the active units, k >= 1.

    It is about 5/n: 4/n from the chi-square, and 1/n from the number of active units.
    """
    k = np.arange(1, n + 1)
    weight = binom.pmf(k, n, 0.5)
    weight /= weight.sum()
    mean = digamma(k / 2)
    return float(weight @ polygamma(1, k / 2) + weight @ mean**2 - (weight @ mean) ** 2)


def figure(points, num_nets):
    ax = style.new_axes(figsize=(8, 3.8))
    letter = plt.rcParams["font.size"]
    names = sorted(points, key=lambda name: points[name][0])
    for row, name in enumerate(names):
        total, ours, error, derived = points[name]
        bottleneck = "," in name or "14" in name
        ax.errorbar(ours, row, xerr=2 * error, fmt="o",
                    color=VERMILION if bottleneck else BLUE)  # fmt: skip
        ax.plot(derived, row, "|", ms=1.4 * letter, color="black")
        ax.plot(
            5 * total,
            row,
            "d",
            ms=0.5 * letter,
            color="0.6",
            label=None if row else "5 x sum of 1/width",
        )
    ax.set_yticks(range(len(names)), [f"{n}: {points[n][0]:.2f}" for n in names], fontsize="small")
    ax.set(xlabel="variance of ln |dz[1]|^2", ylabel="network: sum of 1/width", xlim=(0, None))
    ax.figure.suptitle(
        "The spread of the gradient follows the sum of 1/width, bottlenecks included "
        f"(red; black: exact; {num_nets:,} ReLU networks each)"
    )
    ax.legend(loc="lower right")
    return bare(ax).figure
