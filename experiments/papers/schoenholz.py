"""Schoenholz et al. 2017, figure 5: tanh networks train to a depth of about six xi_c.

The paper: width 300 on MNIST. Here: the experiment `trainability`, smaller.
"""

import numpy as np

from experiments.papers.claims import Claim, Reproduced
from experiments.papers.options import Config

PAPER = "Schoenholz et al. 2017, fig. 5"


def reproduce(config: Config) -> Reproduced:
    from experiments.trainability import figures, measured
    from experiments.trainability.options import Config as Trainability

    options: dict = {"maps": ("tanh",), "num_seeds": 1, "seed": config.seed}
    if config.smoke:
        small = {"depths": (2, 4), "sigma_w2s": (1.0, 1.76), "width": 8, "num_steps": 20}
        options |= small | {"num_samples": 128}
    else:
        depths = (5, 10, 15, 20, 30, 40, 60, 80)
        options |= {"depths": depths, "sigma_w2s": (1.0, 1.25, 1.76, 2.5, 3.25, 4.0)}
    of_map = Trainability(**options)
    X, Y = measured.samples(of_map)
    rows = measured.trained_map(of_map, "tanh", X, Y, lambda done, total: None)
    columns = [row for row in measured.scales(of_map, rows) if row["sigma_w2"] != 1.76]
    ratios = [row["ratio"] for row in columns if np.isfinite(row["ratio"])] or [np.nan]
    error = float(np.std(ratios) / len(ratios) ** 0.5)
    claim = Claim(
        "depth at half accuracy / xi_c, median off the edge", float(np.median(ratios)), 2.0, error,
        published=6.0, where="fig. 5: the line 6 xi_c",
    )  # fmt: skip
    title = (
        f"tanh networks train to a depth of {claim.ours:.1f} xi_c (median off the edge of chaos)"
    )
    return Reproduced([claim], figures.draw(of_map, rows, title))
