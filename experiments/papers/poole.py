"""Poole et al. 2016: the length map, the correlation map, and chaos, in tanh networks.

The paper: 1,000 units. Here: 400. sigma_b is 0.3, sigma_w 1.3, 2.5 and 4.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxmlp
from experiments.papers.claims import Claim, Reproduced, draw, mean_and_error
from experiments.papers.options import Config
from jaxmlp import meanfield
from jaxmlp.initializers import gaussian
from jaxmlp.plotting.style import COLOURS, bare

PAPER = "Poole et al. 2016, fig. 1-2"
SIGMA_WS, SIGMA_B2, DEPTH = (1.3, 2.5, 4.0), 0.09, 16
STARTS = (0.0, 0.5, 0.9, 0.999)  # correlations of the inputs
START = 2  # the one in the table


def reproduce(config: Config) -> Reproduced:
    width, num_nets = (32, 2) if config.smoke else (400, 12)
    X = inputs(width)
    mlp = jaxmlp.MLP((width, *[width] * DEPTH), hidden="tanh", output="linear")
    J = jaxmlp.Objective(mlp, "half_squared_error")
    Y = np.zeros((len(X), width), np.float32)
    read = jax.jit(jax.vmap(lambda p: [t.Z for t in jaxmlp.trace(J)(p, X, Y)]))
    claims, seen = [], {}
    for sigma_w in SIGMA_WS:
        params = draw(mlp, gaussian(sigma_w**2, SIGMA_B2), num_nets, config.seed)
        Z = np.stack([np.asarray(z) for z in read(params)])  # (L, nets, samples, units)
        lengths = np.mean(Z**2, axis=-1)
        products = np.mean(Z[:, :, :1] * Z, axis=-1)
        cosines = products / np.sqrt(lengths[:, :, :1] * lengths)
        seen[sigma_w] = lengths, cosines
        point = meanfield.fixed_point("tanh", sigma_w**2, SIGMA_B2)
        ours, error = mean_and_error(lengths[-5:].mean((0, 2)))
        claims.append(Claim(f"length q*, sigma_w {sigma_w:g}", ours,
                            4 * error + 0.01 * point.q, error, point.q))  # fmt: skip
        ours, error = mean_and_error(cosines[-1, :, 1 + START])
        claims.append(Claim(
            f"correlation at layer {DEPTH} from {STARTS[START]}, sigma_w {sigma_w:g}", ours,
            4 * error + 0.01, error, theory(sigma_w)[1][START][-1],
        ))  # fmt: skip
    return Reproduced(claims, figure(seen, width))


def inputs(width: int) -> np.ndarray:
    """Return a sample of length 1, and others of given correlations with it."""
    U = np.linalg.qr(np.random.default_rng(0).normal(size=(width, 2)))[0].T * width**0.5
    c = np.array((1.0, *STARTS))[:, None]
    return (c * U[0] + np.sqrt(1 - c**2) * U[1]).astype(np.float32)


def theory(sigma_w: float) -> tuple[list[float], list[list[float]]]:
    """Return the lengths and the correlations of the layers, from the maps."""
    q = [sigma_w**2 + SIGMA_B2]
    c = [[(sigma_w**2 * start + SIGMA_B2) / q[0]] for start in STARTS]
    for _ in range(DEPTH - 1):
        for each in c:
            each.append(meanfield.correlation_map("tanh", sigma_w**2, SIGMA_B2, q[-1], each[-1]))
        q.append(float(meanfield.length_map("tanh", sigma_w**2, SIGMA_B2, q[-1])))
    return q, c


def figure(seen, width):
    fig, axes = plt.subplots(2, 2, figsize=(8, 5.4), sharex=True, layout="constrained")
    axes = axes.ravel()
    layers = np.arange(1, DEPTH + 1)
    for (sigma_w, (lengths, cosines)), colour, ax in zip(
        seen.items(), COLOURS, axes[1:], strict=False
    ):
        q, c = theory(sigma_w)
        axes[0].plot(layers, lengths.mean((1, 2)), ".", color=colour, label=f"sigma_w {sigma_w:g}")
        axes[0].plot(layers, q, color=colour)
        for k, curve in enumerate(c):
            ax.plot(layers, cosines[:, :, k + 1].mean(1), ".", color=COLOURS[k])
            ax.plot(layers, curve, color=COLOURS[k])
        point = meanfield.fixed_point("tanh", sigma_w**2, SIGMA_B2)
        kind = "order" if point.chi_1 < 1 else "chaos"
        ax.set_title(f"sigma_w {sigma_w:g}, {kind}: they meet at {point.c:.2f}")
        ax.set(xlabel="layer", ylabel="correlation", ylim=(-0.05, 1.05))
        bare(ax)
    axes[0].set_title("Lengths settle in a few layers")
    axes[0].set(ylabel="length q")
    axes[0].legend()
    axes[1].set_xlabel("")
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    bare(axes[0])
    fig.suptitle(f"Length, and correlation of two inputs: tanh, width {width} (lines: theory)")
    return fig
