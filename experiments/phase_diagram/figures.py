"""The figure: the plane of the theory, with its measured networks."""

import math

import matplotlib.pyplot as plt
import numpy as np

from experiments.phase_diagram.options import Config
from jaxmlp import plotting


def draw(config: Config, diagram, rows: list[dict]):
    """Draw the plane with its dots."""
    figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    plotting.phase_diagram(diagram, ax)
    measured_factors(rows, ax)
    named_weights(config, ax)
    ratios = [row["measured"] / row["predicted"] for row in rows if row["predicted"] > 0]
    worst = max((abs(math.log(r)) for r in ratios if r > 0), default=math.nan)
    figure.suptitle(
        f"{len(rows)} measured factors (dots, {config.num_nets} networks each) are within "
        f"{math.expm1(worst):.0%} of chi_1",
    )  # fmt: skip
    return figure


def measured_factors(rows: list[dict], ax):
    """Draw measured networks as dots on a `phase_diagram`, in its colours."""
    plane = ax.collections[0]
    w2, b2, chi = ([row[name] for row in rows] for name in ("sigma_w2", "sigma_b2", "measured"))
    ax.scatter(
        w2, b2, c=np.clip(chi, plane.norm.vmin, plane.norm.vmax), norm=plane.norm,
        cmap=plane.cmap, edgecolors="black", linewidths=1.5, zorder=3,
        s=plt.rcParams["font.size"] ** 2,
    )  # fmt: skip
    return ax


def named_weights(config: Config, ax):
    """Mark lecun and he, which have no biases, on the lower edge."""
    letter = plt.rcParams["font.size"]
    for name, w2 in (("lecun", 1.0), ("he", 2.0)):
        if w2 < config.largest_w2:
            ax.plot(w2, 0, "^", color="black", ms=0.9 * letter, clip_on=False, zorder=5)
            ax.annotate(name, (w2, 0), (0, 0.8 * letter), textcoords="offset points", ha="center",
                        va="bottom", zorder=5)  # fmt: skip
    return ax
