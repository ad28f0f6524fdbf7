"""Klambauer et al. 2017: SELU keeps mean 0 and variance 1. Its gradients grow all the same."""

import math

import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import erfc

import jaxmlp
from experiments import common
from experiments.papers.claims import Claim, Reproduced, draw, mean_and_error
from experiments.papers.options import Config
from jaxmlp import meanfield
from jaxmlp.plotting.style import BLUE, VERMILION, bare

PAPER = "Klambauer et al. 2017"
DEPTH = 60


def reproduce(config: Config) -> Reproduced:
    width, num_nets, depth = (16, 2, 4) if config.smoke else (256, 16, DEPTH)
    selu = jaxmlp.activations.get("selu").fn
    lam, alpha = constants()
    far = float(selu(np.float32(-40.0)))
    point = meanfield.fixed_point("selu", 1.0, 0.0)
    claims = [
        Claim("lambda", float(selu(np.float32(1.0))), 5e-5, 0.0, lam, 1.0507, "eq. 14"),
        Claim("alpha", -far / float(selu(np.float32(1.0))), 5e-5, 0.0, alpha, 1.6733, "eq. 14"),
    ]
    X, Y = common.digits(128)
    X = X / np.sqrt(np.mean(X**2, axis=1, keepdims=True))  # each sample of length 1
    mlp = jaxmlp.MLP((64, *[width] * depth, 10), hidden="selu", stack_from=2)
    J = jaxmlp.Objective(mlp, "cross_entropy")
    params = draw(mlp, jaxmlp.initializers.gaussian(1.0), num_nets, config.seed)
    flow = jax.jit(jax.vmap(lambda p: jaxmlp.gradient_flow(J, statistics=False)(p, X, Y)))(params)
    activation = 2 * np.asarray(flow.log10_activation)[:, :depth] - math.log10(width)
    ours, error = mean_and_error(10 ** activation[:, -1])
    claims.append(Claim(f"mean square of an activation at layer {depth}", ours, 4 * error + 0.02,
                        error, point.q, 1.0, "fixed point (0, 1)"))  # fmt: skip
    claims.append(Claim(
        "slope of the variance map at the fixed point", measured_slope(), 5e-3, 0.0,
        point.chi_par, 0.782648, "Jacobian of the map at (0, 1)",
    ))  # fmt: skip
    delta = np.asarray(flow.log10_delta)[:, :depth]
    ours, error = mean_and_error((delta[:, 0] - delta[:, -1]) / (depth - 1))
    claims.append(Claim("decades by which dZ grows a layer", ours, 4 * error, error,
                        math.log10(point.chi_1) / 2, where="not in the paper"))  # fmt: skip
    return Reproduced(claims, figure(activation, delta, point, width))


def constants() -> tuple[float, float]:
    """Return lambda and alpha from E phi = 0 and E phi^2 = 1 for z ~ N(0, 1)."""
    half = math.exp(0.5) * erfc(math.sqrt(0.5)) / 2  # E e^z over z < 0
    below = half - 0.5
    alpha = -math.sqrt(1 / (2 * math.pi)) / below
    square = math.exp(2.0) * erfc(math.sqrt(2.0)) / 2 - 2 * half + 0.5  # E (e^z - 1)^2, z < 0
    return 1 / math.sqrt(0.5 + alpha**2 * square), alpha


def measured_slope(step: float = 0.02, num: int = 2_000_000) -> float:
    """Return d Var selu(z) / d Var z at 1 for normal z, by a difference over quantiles."""
    from scipy.special import ndtri

    z = ndtri((np.arange(num) + 0.5) / num)
    lam, alpha = constants()

    def variance(q):
        x = math.sqrt(q) * z
        return np.var(lam * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))

    return float((variance(1 + step) - variance(1 - step)) / (2 * step))


def figure(activation, delta, point, width):
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    layers = np.arange(1, activation.shape[1] + 1)
    left.plot(layers, 10**activation.T, color=BLUE, lw=0.7, alpha=0.6)
    left.axhline(1, color="black", ls="--", lw=1)
    left.set(xlabel="layer", ylabel="mean square of A", ylim=(0, 2))
    left.set_title(
        f"SELU keeps its length: {10 ** activation[:, -1].mean():.2f} at layer "
        f"{layers[-1]}\n({len(delta)} networks of width {width})",
    )
    grown = delta - delta[:, -1:]
    right.plot(layers, grown.T, color=VERMILION, lw=0.7, alpha=0.6)
    slope = math.log10(point.chi_1) / 2
    right.plot(layers, slope * (layers[-1] - layers), color="black", ls="--", label="theory")
    right.set(xlabel="layer", ylabel="log10 of |dZ| over the last's")
    right.set_title(f"Its gradients grow on the way down,\n{slope:.3f} decades a layer")
    right.legend()
    for ax in (left, right):
        bare(ax)
    return fig
