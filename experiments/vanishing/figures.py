"""The figures: which panel shows what, and titles made of the numbers."""

from experiments.vanishing.chains import ceiling
from experiments.vanishing.measured import Measured
from experiments.vanishing.networks import Config
from experiments.vanishing.steps import deepest, unmoved
from experiments.vanishing.training import LEARNED, RACERS, TARGET, deepest_learned


def draw_products(m: Measured, plt, plotting):
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8, 3.8), width_ratios=(3, 2), layout="constrained"
    )
    lines = {f"{init}: gradient": c.gradient for init, c in m.chains.items()}
    points = {f"{init}: product": c.product for init, c in m.chains.items()}
    plotting.relative_to_output(lines, left, factor=0.25, points=points)
    plotting.relative_to_output(m.gains, right, factor=2)
    told = ", ".join(f"{i} $10^{{{c.gradient[-1]:.1f}}}$" for i, c in m.chains.items())
    top = ceiling(len(m.chains["he"].gradient) - 1)
    left.set_title(f"sigmoid: gradient {told},\nproduct at most $10^{{{top:.1f}}}$", fontsize=10)
    told = ", ".join(f"{act} $10^{{{line[-1]:.1f}}}$" for act, line in m.gains.items())
    right.set_title(f"weights of gain 2:\n{told}", fontsize=10)
    right.set_ylabel("")
    return figure


def draw_bits(rows: list[dict], plt, plotting):
    own = deepest(rows)
    figure, axes = plt.subplots(1, len(own), figsize=(8, 4.2), sharey=True, layout="constrained")
    plotting.unchanged_bits(rows, axes)
    for ax, (act, one) in zip(axes, own.items(), strict=True):
        stay, zero = (f"{unmoved(one)[name]:.0%}" for name in ("unchanged", "zero gradient"))
        title = f"{act}, {one[0]['init']}: {stay} stay,\n{zero} of gradients are 0"
        ax.set_title(title, fontsize=10)
    told, depth = unmoved(own["sigmoid"]), own["sigmoid"][0]["depth"]
    same = f"keeps every bit of {told['frozen']} of {told['layers']} sigmoid layers"
    figure.suptitle(f"{depth} hidden layers: one step {same}", fontsize=11)
    return figure


def draw_training(config: Config, m: Measured, plt, plotting):
    figure, (loss, depth) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    plotting.learning_curves(m.curves, loss)
    loss.axhline(TARGET, color="black", lw=0.8, ls="--")
    loss.set(xscale="log", ylabel=f"loss on digits, rate {config.race_rates[0]:g}")
    times = ", ".join(f"{row['activation']} {row['epochs']:.0f}" for row in m.races[: len(RACERS)])
    loss.set_title(f"epochs to a loss of {TARGET:g}:\n{times}", fontsize=9)
    plotting.accuracy_by_depth(m.grid, depth)
    reach = ", ".join(f"{act} {d}" for act, d in deepest_learned(m.grid).items())
    depth.set_title(f"deepest with an accuracy of {LEARNED:g}:\n{reach}", fontsize=9)
    return figure


def draw_activations(m: Measured, plt, plotting):
    figure, (size, dead) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    plotting.largest_activations(m.races, size)
    largest = {
        act: max(r["largest_A"] for r in m.races if r["activation"] == act) for act in RACERS
    }
    told = ", ".join(f"{act} {A:.2g}" for act, A in largest.items())
    size.set_title(f"largest |A| of two hidden layers:\n{told}", fontsize=9)
    plotting.largest_inputs(m.paths, dead)
    told = ", ".join(f"{a} {(Z[-1] > 0).sum()}" for a, (_, Z) in m.paths.items())
    dead.set_title(f"of 4 dead units revive:\n{told}", fontsize=9)
    return figure
