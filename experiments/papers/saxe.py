"""Saxe et al. 2014: linear networks learn their modes one after the other, as the exact solution.

Inputs are white and weights start aligned with the modes, as the solution assumes. Beside it are
small random weights, which it does not cover.
"""

import itertools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxmlp
from experiments.papers.claims import Claim, Reproduced
from experiments.papers.options import Config
from jaxmlp import Layer
from jaxmlp.plotting.style import COLOURS, bare

PAPER = "Saxe et al. 2014"
STRENGTHS = np.array([3.0, 2.0, 1.0])
START = 1e-3
FORMULA = "formula of the paper, its number not read"


def reproduce(config: Config) -> Reproduced:
    rate = 0.02 if config.smoke else 2e-3  # 1 / tau, in steps
    claims, curves = [], {}
    for num_weights in (2, 4):
        t, strengths = learned(rate, num_weights, config.seed)
        curves[num_weights] = t, strengths
        for k, s in enumerate(STRENGTHS[[0, -1]]):
            mode = strengths[:, [0, -1][k]]
            derived = half_time(s, num_weights)
            claims.append(Claim(
                f"time to half of mode {s:g}, {num_weights} weights",
                float(np.interp(s / 2, mode, t)), 0.01 * derived + 2 * rate, 0.0, derived,
                where=FORMULA,
            ))  # fmt: skip
    return Reproduced(claims, figure(curves, learned(rate, 2, config.seed, aligned=False)))


def exact(t, s: float, a0: float = START):
    """Return the strength of a mode with two weights: `s e^(2st) / (e^(2st) - 1 + s/a0)`."""
    return s / (1 + (s / a0 - 1) * np.exp(-2 * s * t))


def half_time(s: float, num_weights: int, a0: float = START) -> float:
    """Return the time from a0 to s/2: the integral of `da / (n a^(2 - 2/n) (s - a))`."""
    n = num_weights
    if n == 2:
        return float(np.log(s / a0 - 1) / (2 * s))
    u = np.linspace(np.log(a0), np.log(s / 2), 20001)  # in log a
    a = np.exp(u)
    return float(np.trapezoid(a / (n * a ** (2 - 2 / n) * (s - a)), u))


def learned(rate: float, num_weights: int, seed: int, aligned: bool = True):
    """Return times, and the strengths of the modes then, by gradient descent."""
    rng = np.random.default_rng(seed)
    d, m = len(STRENGTHS), 8
    U, V = (np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in "UV")
    X = np.linalg.qr(rng.normal(size=(m, d)))[0] * m**0.5  # X.T @ X / m is the identity
    Y = X @ (U * STRENGTHS) @ V.T
    root = START ** (1 / num_weights)
    bases = [U, *[np.eye(d)] * (num_weights - 1), V]
    params = tuple(
        Layer(jnp.asarray(root * left @ right.T if aligned else 0.02 * rng.normal(size=(d, d)),
                          jnp.float32))
        for left, right in itertools.pairwise(bases)
    )  # fmt: skip
    mlp = jaxmlp.MLP((d,) * (num_weights + 1), hidden="linear", output="linear", use_bias=False)
    J = jaxmlp.Objective(mlp, "half_squared_error")
    end = 1.4 * half_time(STRENGTHS[-1], num_weights)
    epochs, every = int(end / rate), max(1, int(0.02 / rate))

    def strengths(params, X, Y):
        product = params[0].W
        for layer in params[1:]:
            product = product @ layer.W
        return jnp.diag(U.T @ product @ V)

    X, Y = jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)
    _, history = jaxmlp.fit(
        J, params, X, Y, optimizer=rate, epochs=epochs, record=jax.jit(strengths), every=every
    )
    seen = np.asarray(history.record)
    return rate * every * np.arange(1, len(seen) + 1), seen


def figure(curves, random):
    fig, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained", sharey=True)
    letter = plt.rcParams["font.size"]
    for ax, (num_weights, (t, strengths)) in zip(axes, curves.items(), strict=False):
        for s, mode, colour in zip(STRENGTHS, strengths.T, COLOURS, strict=False):
            ax.plot(t[::5], mode[::5], ".", ms=0.3 * letter, color=colour)
            if num_weights == 2:
                ax.plot(t, exact(t, s), color=colour)
                ax.annotate(f"mode {s:g}", (t[-1], s), (0, 2), textcoords="offset points",
                            ha="right", va="bottom", color=colour, fontsize="small")  # fmt: skip
            ax.axvline(half_time(s, num_weights), color=colour, ls=":")
        ax.set_title(f"{num_weights} weights, aligned: half is learned\nwhere theory says (dotted)")
    t, strengths = random
    for mode, colour in zip(strengths.T, COLOURS, strict=False):
        axes[2].plot(t, mode, color=colour)
    axes[2].set_title("2 weights, small random start:\nthe order of the modes is the same")
    for ax in axes:
        ax.set(xlabel="learning rate x steps", ylim=(-0.1, STRENGTHS[0] + 0.5))
        bare(ax)
    axes[0].set_ylabel("strength of a mode")
    return fig
