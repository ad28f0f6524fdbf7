"""The one figure: what the norms find, and what they cost."""


def found_and_cost(found: dict, rows: list[dict]):
    """Precision and recall of flipped labels; time and memory against a plain gradient."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(9.6, 3.2), layout="constrained", width_ratios=(1.3, 1, 1)
    )
    precision_and_recall(found, rows, left)
    cost(rows, "time", middle).legend(frameon=False, fontsize=8)
    cost(rows, "memory", right).set_yticklabels([])
    return figure


def precision_and_recall(found: dict, rows: list[dict], ax):
    """A thin line for each network."""
    from sklearn.metrics import precision_recall_curve

    from jaxmlp import plotting

    curves = {
        name: [precision_recall_curve(each.flipped, each.score)[:2] for each in repetitions]
        for name, repetitions in found.items()
    }
    plotting.precision_recall(curves, ax).legend(frameon=False, fontsize=8, loc="lower left")
    tops = [row["precision in top"] for row in rows]
    ax.set_title(
        "Of as many largest norms as labels were\n"
        f"flipped, {min(tops):.0%} to {max(tops):.0%} are of flipped labels",
        fontsize=9,
    )
    return ax


def cost(rows: list[dict], what: str, ax):
    """Two bars for each model: ours and vmap(grad), over a plain gradient."""
    import numpy as np

    from jaxmlp.plotting import style

    at, ratios = np.arange(len(rows)), {}
    for shift, name, colour in ((-0.2, "ours", style.BLUE), (0.2, "vmap(grad)", style.VERMILION)):
        ratios[name] = [row[f"{what}, {name}"] for row in rows]
        ax.barh(at + shift, ratios[name], 0.4, label=name, color=colour)
    ax.set(xscale="log", xlabel=f"{what} / plain gradient")
    ax.set_yticks(at, [row["model"].replace(" (", "\n(") for row in rows], fontsize=8)
    ax.invert_yaxis()
    ax.axvline(1, color=style.GREY, ls="--", lw=1)
    ends = {name: f"{min(values):.2g} to {max(values):.2g}" for name, values in ratios.items()}
    ax.set_title(f"{what}: {ends['ours']},\nby vmap(grad) {ends['vmap(grad)']}", fontsize=9)
    return style.bare(ax)
