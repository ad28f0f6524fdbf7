"""The figure: the gradient at birth above, the accuracy after training below."""

import matplotlib.pyplot as plt
import numpy as np

from experiments.remedies.options import Config
from jaxmlp import plotting
from jaxmlp.plotting.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    bare,
    written,
)

COLOURS = {
    "lecun": GREY, "he": "#404040", "orthogonal": "#B8B8B8",
    "residual 1": BLUE, "residual 1/sqrt(depth)": SKY, "rezero": PURPLE, "layer norm": VERMILION,
    "RMS norm": ORANGE, "layer norm, residual 1": GREEN, "RMS norm, residual 1": "#006B4F",
}  # fmt: skip
FLAT, LEARNT, CHANCE = 2, 0.9, 0.2  # decades lost or gained; accuracies of 1 and of 10 classes


def cures(config: Config, found: list, table: list[dict]):
    """Draw a column for each activation: flow at birth with theory as line, then accuracies."""
    acts = list(config.activations)
    figure, axes = plt.subplots(
        2, len(acts), figsize=(3.3 * len(acts) + 1.6, 7.2), sharey="row", squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for act, (above, below) in zip(acts, axes.T, strict=True):
        for b in (b for b in found if b.kind.activation == act):
            flow_at_birth(b, above)
        accuracies([row for row in table if row["activation"] == act], below)
        above.set(title=written(act), xlabel="layer", ylabel="")
    low = min(b.measured.mean(axis=0).min() for b in found)
    axes[0, 0].set(ylabel="log10 of |dS| over the output's")
    axes[0, 0].set_yscale("symlog", linthresh=2, linscale=1.5)
    axes[0, 0].set_ylim(bottom=1.2 * low)
    figure.suptitle(finding(config, table))
    return figure


def flow_at_birth(b, ax):
    """Draw theory as a line with its band, and the measured means as points."""
    colour, L = COLOURS[b.kind.name], b.measured.shape[1]
    if b.predicted:
        plotting.prediction_band(b.predicted, ax, color=colour, label=None)
    some = slice(None, None, max(1, L // 12))
    layer = np.arange(1, L + 1)
    dots = 0.6 * plt.rcParams["font.size"]
    ax.plot(layer[some], b.measured.mean(axis=0)[some], ".", ms=dots, color=colour)
    bare(ax)


def accuracies(rows: list[dict], ax):
    """Draw the mean accuracy of each kind as a bar, with the range over the seeds."""
    names = [row["init"] if row["cure"] == "none" else row["cure"] for row in rows]
    mean, low, high = (
        np.array([row[name] for row in rows]) for name in ("accuracy", "lowest", "highest")
    )
    at = np.arange(len(rows))[::-1]
    ax.barh(at, mean, color=[COLOURS[name] for name in names], height=0.7)
    reach = np.maximum([mean - low, high - mean], 0)  # a mean of equal numbers rounds
    ax.errorbar(mean, at, xerr=reach, fmt="none", ecolor="black", capsize=2)
    ax.axvline(0.1, color="black", ls=":", lw=1)
    ax.set_yticks(at, names)
    ax.set(xlim=(0, 1.05), xlabel="training accuracy")
    bare(ax)


def finding(config: Config, table: list[dict]) -> str:
    """Return the finding: which cures train every activation, and if a flat flow is enough."""
    flat = [row for row in table if abs(row["decades at birth"]) < FLAT]
    untrained = [row for row in flat if row["accuracy"] < CHANCE]
    failed = {row["cure"] for row in table if row["accuracy"] < LEARNT}
    cured = "; ".join(dict.fromkeys(r["cure"] for r in table if r["cure"] not in failed))
    return (
        f"Through {config.depth} layers every activation learns (above {LEARNT:.0%}) with: "
        f"{cured or 'nothing'}.\nA flat gradient is not enough: of {len(flat)} kinds of networks "
        f"with less than {FLAT} decades at birth {len(untrained)} stay below {CHANCE:.0%}"
    )
