"""Which variances of weights and biases let gradients through?

The plane of (sigma_w2, sigma_b2) coloured by chi_1, by which mean-field theory says the squared
norm of dz changes at every layer: gradients vanish below 1 and explode above. The line chi_1 = 1 is
the edge of chaos. Dots are networks that were drawn and measured, in the same colours.

Source: S. Schoenholz et al., "Deep information propagation", 2017.
"""

import dataclasses
import math

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the phase diagram."""

    activation: str = "tanh"
    """hidden activation; with arguments as leaky_relu:0.1"""
    table: bool = False
    """print the critical points of every activation instead"""
    largest_w2: float = 4.0
    """the plane ends at this sigma_w2"""
    largest_b2: float = 0.3
    """and at this sigma_b2"""
    points: int = 60
    """points of theory along each side"""
    dots: int = 5
    """measured networks along each side"""
    depth: int = 30
    """hidden layers of a measured network"""
    width: int = 256
    """their width"""
    num_nets: int = 5
    """networks for each dot"""


def main(config: Config) -> None:
    results = common.Results("phase_diagram", config)
    if config.table:
        rows = criticality()
        common.table("Where gradients keep their size, chi_1 = 1; norm factor of a layer", rows)
        print("sigma_b2 = 0 and 0.05; lecun, he: sqrt(chi_1) at the fixed point, without biases.")
        results.csv(rows, "_table")
    else:
        diagram, rows = plane(config), measure(config)
        common.table(f"chi_1 of {config.activation}, predicted and measured", rows)
        results.csv(rows)
        results.figure(draw(config, diagram, rows))
    results.close()


def criticality() -> list[dict]:
    """A row for each activation: critical points, and gradient factors of named weights."""
    from jaxmlp import meanfield

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
    """The theory on a grid."""
    import numpy as np

    from jaxmlp import checks, meanfield

    w2 = checks.positive_number("largest_w2", config.largest_w2)
    b2 = checks.positive_number("largest_b2", config.largest_b2)
    n = checks.integer("points", config.points, at_least=2)
    return meanfield.phase_diagram(
        config.activation, np.linspace(w2 / n, w2, n), np.linspace(0, b2, n)
    )


def measure(config: Config) -> list[dict]:
    """The factor of |dz|^2 a layer, geometric mean over the deeper half, beside chi_1."""
    import numpy as np

    import jaxmlp
    from jaxmlp import initializers, meanfield

    n, depth = config.dots, config.depth
    w2 = np.linspace(0, config.largest_w2, n + 1)[1:] - config.largest_w2 / (2 * n)
    b2 = np.linspace(0, config.largest_b2, n + 1)[:-1] + config.largest_b2 / (2 * n)
    variances = [(float(w), float(b)) for w in w2 for b in b2]
    table = jaxmlp.depth_sweep(
        activations=config.activation, inits=[initializers.gaussian(*v) for v in variances],
        depths=depth, seeds=range(config.seed, config.seed + config.num_nets), width=config.width,
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


def draw(config: Config, diagram, rows: list[dict]):
    """The plane with its dots."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from jaxmlp import plotting

    figure, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
    plotting.phase_diagram(diagram, ax)
    w2, b2, chi = ([row[name] for row in rows] for name in ("sigma_w2", "sigma_b2", "measured"))
    plotting.measured_factors(w2, b2, chi, ax)
    ratios = [row["measured"] / row["predicted"] for row in rows if row["predicted"] > 0]
    worst = max((abs(math.log(r)) for r in ratios if r > 0), default=math.nan)
    figure.suptitle(
        f"{len(rows)} measured factors (dots, {config.num_nets} networks each) are within "
        f"{math.expm1(worst):.0%} of chi_1", fontsize=11,
    )  # fmt: skip
    return figure


if __name__ == "__main__":
    config = common.parse(Config, __doc__)
    if config.smoke:
        config = dataclasses.replace(config, points=6, dots=2, depth=6, width=16, num_nets=1)
    common.run(main, config)
