"""The one figure: what the norms find, and what they cost."""


def found_and_cost(found: dict, rows: list[dict]):
    """Precision and recall of flipped labels; time and memory against a plain gradient."""
    import matplotlib.pyplot as plt
    import numpy as np
    from sklearn.metrics import precision_recall_curve

    from jaxmlp import plotting
    from jaxmlp.plotting import style

    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(9.6, 3.2), layout="constrained", width_ratios=(1.3, 1, 1)
    )
    curves = {
        name: [precision_recall_curve(each.flipped, each.score)[:2] for each in repetitions]
        for name, repetitions in found.items()
    }
    plotting.precision_recall(curves, left).legend(frameon=False, fontsize=8, loc="lower left")
    lowest = min(row["precision in top"] for row in rows)
    left.set_title(f"In all models the largest gradients are those\nof flipped labels: {lowest:.0%} "
                   "or more of the top", fontsize=9)  # fmt: skip
    at = np.arange(len(rows))
    for ax, what in ((middle, "time"), (right, "memory")):
        ratios = {}
        for shift, name in ((-0.2, "ours"), (0.2, "vmap(grad)")):
            ratios[name] = [row[f"{what}, {name}"] for row in rows]
            ax.barh(at + shift, ratios[name], 0.4, label=name,
                    color=style.COLOURS[name != "ours"])  # fmt: skip
        ax.set(xscale="log", xlabel=f"{what} / plain gradient")
        ax.set_yticks(at, [row["model"].replace(" (", "\n(") for row in rows], fontsize=8)
        ax.invert_yaxis()
        ax.axvline(1, color=style.GREY, ls="--", lw=1)
        ax.set_title(f"{what}: at most {max(ratios['ours']):.2g}, by vmap(grad)\n"
                     f"{min(ratios['vmap(grad)']):.2g} to {max(ratios['vmap(grad)']):.2g}",
                     fontsize=9)  # fmt: skip
        style.bare(ax)
    right.set_yticklabels([])
    middle.legend(frameon=False, fontsize=8)
    return figure
