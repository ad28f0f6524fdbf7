"""Glorot & Bengio 2010, figures 6 and 7: activations and derivatives by layer, two initialisations.

The paper: five hidden layers of 1,000 tanh units on images of shapes. Here: 256 units, digits.
"""

import math

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxmlp
from experiments import common
from experiments.papers.claims import Claim, Reproduced, draw, mean_and_error
from experiments.papers.options import Config
from jaxmlp import meanfield
from jaxmlp.plotting.style import BLUE, bare

PAPER = "Glorot & Bengio 2010, fig. 6-7"
DEPTH = 5
UNIT = {"standard": 1 / 3, "normalised": 1.0}  # n Var W: U(-1, 1) / sqrt(n), eq. 1 and 15; eq. 16


def reproduce(config: Config) -> Reproduced:
    width, num_nets = (16, 2) if config.smoke else (256, 12)
    X, Y = common.digits(128)
    mlp = jaxmlp.MLP((64, *[width] * DEPTH, 10), hidden="tanh")
    J = jaxmlp.Objective(mlp, "cross_entropy")
    read = jax.jit(jax.vmap(lambda p: [(t.A, t.dZ) for t in jaxmlp.trace(J)(p, X, Y)]))
    claims, seen = [], {}
    for name, unit in UNIT.items():
        init = jax.nn.initializers.variance_scaling(unit, "fan_in", "uniform")
        params = draw(mlp, init, num_nets, config.seed)
        seen[name] = [(np.asarray(A), np.asarray(dZ)) for A, dZ in read(params)]

        # |dZ[1]|^2 / |dZ[5]|^2 a layer: n Var W where tanh is linear, chi_1 where it is not
        sizes = [np.mean(dZ**2, axis=(1, 2)) for _, dZ in seen[name]]
        factors = (sizes[0] / sizes[DEPTH - 1]) ** (1 / (DEPTH - 1))
        ours, error = mean_and_error(factors)
        claims.append(Claim(
            f"dZ variance, one layer down / up, {name}", ours, 0.02 + 4 * error, error,
            derived_factor(unit, float(np.mean(X**2))), unit, "eq. 15-16, linear regime",
        ))  # fmt: skip
        ours, error = mean_and_error(singular_values(params, seen[name]))
        claims.append(Claim(
            f"mean singular value of a layer's Jacobian, {name}", ours, 0.05, error,
            derived_singular_value(unit, float(np.mean(X**2))),
        ))  # fmt: skip
    return Reproduced(claims, figure(seen, claims, width))


def derived_factor(sigma_w2: float, mean_square: float) -> float:
    """Return the geometric mean of chi_1 over the hidden layers below the last, by theory."""
    q, logs = sigma_w2 * mean_square, []
    for _ in range(DEPTH - 1):
        logs.append(math.log(sigma_w2 * float(meanfield.moments("tanh", q).slope2)))
        q = float(meanfield.length_map("tanh", sigma_w2, 0.0, q))
    return math.exp(np.mean(logs))


def derived_singular_value(sigma_w2: float, mean_square: float) -> float:
    """Return the mean of the quarter-circle law for square weights, times tanh's rms slope."""
    return 8 / (3 * math.pi) * math.sqrt(derived_factor(sigma_w2, mean_square))


def singular_values(params, layers) -> np.ndarray:
    """Return the mean singular value of dz[l+1] / dz[l] at the first sample, per network."""
    found = []
    for net in range(len(layers[0][0])):
        each = [
            np.linalg.svd(slope[:, None] * np.asarray(params[l + 1].W[net]), compute_uv=False)
            for l, slope in enumerate(1 - A[net, 0] ** 2 for A, _ in layers[: DEPTH - 1])
        ]
        found.append(np.mean(each))
    return np.array(found)


def figure(seen, claims, width):
    fig, axes = plt.subplots(2, 2, figsize=(8, 5), sharex="col", layout="constrained")
    shades = np.linspace(1, 0.25, DEPTH)  # the first is the darkest
    reach = 3 * max(pair[1].std() for layers in seen.values() for pair in layers[:DEPTH])
    for row, (name, layers) in zip(axes, seen.items(), strict=True):
        for column, ax, what in ((0, row[0], "activation"), (1, row[1], "dZ")):
            largest = 1.0 if column == 0 else reach
            for l, pair in enumerate(layers[:DEPTH]):
                density, edges = np.histogram(pair[column], 81, (-largest, largest), density=True)
                centres = (edges[1:] + edges[:-1]) / 2
                ax.plot(centres, density, color=BLUE, alpha=shades[l], label=f"layer {l + 1}")
            ax.set(yscale="log")
            ax.set_xlabel(what if ax in axes[1] else "")
            bare(ax)
        row[0].set_ylabel(f"density, {name}")
    axes[1, 0].legend(loc="lower center")
    factor = [claim.ours for claim in claims if claim.what.startswith("dZ")]
    fig.suptitle(
        f"Five tanh layers of {width}: a layer down, the variance of dZ is {factor[0]:.2f} times\n"
        f"as large with the standard initialisation, {factor[1]:.2f} times with the normalised one",
    )
    return fig
