"""The theory on a grid, the networks on a coarser one, and the table of critical points."""

import numpy as np

import jaxmlp
from experiments import common
from experiments.phase_diagram.options import Config
from jaxmlp import initializers, meanfield


def criticality() -> list[dict]:
    """Return a row for each activation: critical points, and factors of named weights."""

    def point(p, why: str) -> str:
        if p is None:
            return why
        q = "any" if p.q is None else f"{p.q:.4g}"
        return f"sigma_w2 {p.sigma_w2:.4f}, q {q}, {p.stability}"

    return [
        {
            "activation": row["activation"],
            "critical at sigma_b2 = 0": point(row["critical"], row["why_none"]),
            "at 0.05": point(row["critical_biased"], row["why_none"]),
            "lecun": row["lecun"],
            "he": row["he"],
        }
        for row in meanfield.criticality_table()
    ]


def plane(config: Config):
    """Return the theory on a grid."""
    w2, b2, n = config.largest_w2, config.largest_b2, config.points
    return meanfield.phase_diagram(
        config.activation, np.linspace(w2 / n, w2, n), np.linspace(0, b2, n)
    )


def measure(config: Config) -> list[dict]:
    """Return the factor of |dz|^2 a layer, its mean over the deeper half, beside chi_1."""
    n, depth = config.dots, config.depth
    w2 = np.linspace(0, config.largest_w2, n + 1)[1:] - config.largest_w2 / (2 * n)
    b2 = np.linspace(0, config.largest_b2, n + 1)[:-1] + config.largest_b2 / (2 * n)
    variances = [(float(w), float(b)) for w in w2 for b in b2]
    table = jaxmlp.depth_sweep(
        activations=config.activation, inits=[initializers.gaussian(*v) for v in variances],
        depths=depth, seeds=common.seeds(config, config.num_nets), width=config.width,
        X=np.ones((1, config.width)), Y=np.zeros((1, 1)), loss="half_squared_error",
    )  # fmt: skip
    rows = []
    for w, b in variances:
        own = table.select(init=initializers.gaussian(w, b).name).columns()
        delta = own["log10_delta"].reshape(config.num_nets, depth + 1).mean(axis=0)
        first = depth // 2  # from here on q has settled
        factor = 10 ** (2 * (delta[first] - delta[-1]) / (depth - first))
        chi = meanfield.fixed_point(config.activation, w, b).chi_1
        rows.append({"sigma_w2": w, "sigma_b2": b, "predicted": chi, "measured": float(factor)})
    return rows
