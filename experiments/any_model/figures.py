"""What the norms find, and what they cost: here and elsewhere."""

import matplotlib.pyplot as plt
from sklearn.metrics import precision_recall_curve

from experiments.any_model.cost import CLIPPED, NORMS
from experiments.per_sample.figures import precision_recall
from jaxmlp.plotting import style

COLOURS = {
    "here": style.BLUE,
    "vmap(grad)": style.VERMILION,
    "jax_privacy": style.COLOURS[2],
    "BackPACK": style.COLOURS[3],
    "Opacus": style.COLOURS[4],
}


def found_and_cost(found: dict, told: list[dict], costs: list[dict]):
    """Precision and recall of flipped labels; time and memory against a plain gradient."""
    figure = plt.figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplot_mosaic([["found", "found"], ["time", "memory"]])
    left, middle, right = (axes[name] for name in ("found", "time", "memory"))
    curves = {
        name: [precision_recall_curve(each.flipped, each.score)[:2] for each in repetitions]
        for name, repetitions in found.items()
    }
    precision_recall(curves, left).get_legend().set_loc("lower left")
    tops = [row["precision in top"] for row in told]
    left.set_title(
        "Of as many largest norms as labels were "
        f"flipped, {min(tops):.0%} to {max(tops):.0%} are of flipped labels",
    )
    rows = [row for row in costs if row["quantity"] == NORMS]
    bars(rows, "time", middle).legend()
    bars(rows, "memory", right).set_yticklabels([])
    for ax, what in ((middle, "time"), (right, "memory")):
        ours, naive = (
            [row[what] for row in rows if row["library"] == library]
            for library in ("here", "vmap(grad)")
        )
        ax.set_title(
            f"{what} of norms: {times(min(ours))} to {times(max(ours))},\n"
            f"by vmap(grad) {times(min(naive))} to {times(max(naive))}"
        )
    return figure


def peers(rows: list[dict]):
    """The time of each library over its own plain gradient, of dense networks."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
    for ax, quantity in zip(axes, (NORMS, CLIPPED), strict=True):
        here = [row for row in rows if row["quantity"] == quantity]
        bars(here, "time", ax).legend()
        ours = max(row["time"] for row in here if row["library"] == "here")
        others = [row["time"] for row in here if row["library"] != "here"]
        rest = f", others {times(min(others))} to {times(max(others))}" if others else ""
        ax.set_title(f"{quantity}: here at most {times(ours)}{rest}")
    return figure


def times(ratio: float) -> str:
    """Two digits of a small ratio, a large one whole."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def bars(rows: list[dict], what: str, ax):
    """A bar for each library beside the model's name; quartiles of the times as a line."""
    models = list(dict.fromkeys((row["model"], row["batch"]) for row in rows))
    libraries = [name for name in COLOURS if any(row["library"] == name for row in rows)]
    for i, library in enumerate(libraries):
        mine = [row for row in rows if row["library"] == library]
        height = 0.8 / len(libraries)
        at = [models.index((row["model"], row["batch"])) - 0.4 + height * (i + 0.5) for row in mine]
        ax.barh(at, [row[what] for row in mine], height, label=library, color=COLOURS[library])
        if what == "time":
            lows, highs = ([row[end] for row in mine] for end in ("low", "high"))
            ax.hlines(at, lows, highs, color="black", lw=1)
    ax.set(xscale="log", xlabel=f"{what} / plain gradient")
    labels = [f"{name}\nbatch {batch}" for name, batch in models]
    ax.set_yticks(range(len(models)), labels, fontsize="small")
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
    ax.axvline(1, color=style.GREY, ls="--")
    return style.bare(ax)
