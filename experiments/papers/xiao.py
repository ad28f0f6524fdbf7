"""Xiao et al. 2018: 10,000 layers train at the edge of chaos with orthogonal weights.

The paper: convolutional tanh networks. Here: the experiment `ten_thousand_layers`, fewer steps.
"""

import math

from experiments import common
from experiments.papers.claims import Claim, Reproduced
from experiments.papers.options import Config
from jaxmlp import meanfield

PAPER = "Xiao et al. 2018"
SIGMA_W2, SIGMA_B2 = 1.05, 2.01e-5


def reproduce(config: Config) -> Reproduced:
    from experiments.ten_thousand_layers import figures, measured
    from experiments.ten_thousand_layers.options import Config as Layers

    small = {"depth": 60, "width": 16, "num_samples": 64, "batch_size": 32}
    options: dict = {"seed": config.seed, "epochs": 2} | (small if config.smoke else {})
    of_layers = Layers(**options)
    X, Y = common.digits(of_layers.num_samples)
    J = measured.objective(of_layers)
    batch = of_layers.batch_size
    flows, _, params = measured.at_birth(of_layers, J, X[:batch], Y[:batch])
    history, steps, _ = measured.trained(of_layers, J, params, X, Y, lambda done, total: None)
    lost = {name: float(log10[-2] - log10[0]) for name, log10 in flows.items()}
    claims = [
        Claim("critical sigma_b2 at sigma_w2 1.05", critical_sigma_b2(), 1e-7, 0.0,
              second_critical_sigma_b2(), SIGMA_B2, "the point of the 10,000 layers"),
        Claim(f"decades of dZ lost over {of_layers.depth:,} layers, orthogonal",
              lost["orthogonal"], 1.0, derived=0.0, where="dynamical isometry, no number"),
        Claim(f"accuracy / that of guessing after {steps} steps, {of_layers.depth:,} layers",
              10 * float(history.accuracy[-1]), math.nan, where="they train, so above 1"),
    ]  # fmt: skip
    fig = figures.birth_and_learning(of_layers, flows, history, steps // of_layers.epochs)
    return Reproduced(claims, fig)


def critical_sigma_b2() -> float:
    """Return sigma_b2 of the package's critical point."""
    point = meanfield.critical_point("tanh", sigma_w2=SIGMA_W2)
    assert point is not None
    return float(point.sigma_b2)


def second_critical_sigma_b2() -> float:
    """Return it by bisection on q with Gauss-Hermite sums: chi_1 = 1, then sigma_b2 from q."""
    import numpy as np

    z, weight = np.polynomial.hermite_e.hermegauss(120)
    weight = weight / math.sqrt(2 * math.pi)
    low, high = 1e-6, 1.0
    for _ in range(200):
        q = (low + high) / 2
        chi = SIGMA_W2 * weight @ np.cosh(math.sqrt(q) * z) ** -4.0
        low, high = (q, high) if chi > 1 else (low, q)
    return float(q - SIGMA_W2 * weight @ np.tanh(math.sqrt(q) * z) ** 2)
