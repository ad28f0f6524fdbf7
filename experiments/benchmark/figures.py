"""The figure: what per-sample quantities cost, in time and memory, against the batch size."""

import matplotlib.pyplot as plt
import numpy as np

from experiments.benchmark.per_sample import QUARTILES, machine_memory
from jaxmlp.plotting.style import COLOURS, GREY, bare


def per_sample(rows: list[dict]):
    """Draw time and memory of the last network's quantities against the batch size."""

    network = rows[-1]["network"]
    own = [row for row in rows if (row["network"], row["library"]) == (network, "jaxmlp")]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    cost_against_batch(own, axes, memory_limit=machine_memory() / 2 / 1e9)
    figure.suptitle(
        f"Per-sample quantities of {network}, over one plain gradient (bars: quartiles)"
    )
    return figure


def cost_against_batch(rows, axes, *, memory_limit: float):
    """Draw time over that of one plain gradient, and memory in GB, against the batch size.

    Args:
      rows: of "quantity", "batch", "time" (NaN where it was not run) with its quartiles, "GB".
      axes: two, for time and for memory.
      memory_limit: in GB, drawn as a line; quantities that need more were not run.
    """
    quantities = list(dict.fromkeys(row["quantity"] for row in rows))
    for quantity, colour in zip(quantities, COLOURS, strict=False):
        own = [row for row in rows if row["quantity"] == quantity]
        batch = [row["batch"] for row in own]
        for ax, name in zip(axes, ("time", "GB"), strict=True):
            ax.plot(batch, [row[name] for row in own], "o-", color=colour, label=quantity)
        axes[0].vlines(batch, *([row[name] for row in own] for name in QUARTILES), color=colour)
    batches = sorted({row["batch"] for row in rows})
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="batch size")
        ax.set_xticks(batches, [f"{batch:,}" for batch in batches])
        ax.minorticks_off()
        bare(ax)
    axes[0].set(ylabel="time / plain gradient")
    low, high = axes[0].get_ylim()
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[1].set(ylabel="memory (GB)")
    axes[1].axhline(memory_limit, color=GREY, ls="--", lw=1)
    said = " half of the machine's memory"
    axes[1].text(batches[0], memory_limit, said, va="bottom", fontsize="small")
    _mark_where_it_ends(rows, axes[0], memory_limit)
    axes[1].legend()
    return axes


def _mark_where_it_ends(rows, ax, limit: float):
    """Draw a line at the batch beyond which the costliest quantity no longer fits."""
    costly = max(rows, key=lambda row: row["GB"])["quantity"]
    own = sorted((row["batch"], row["GB"]) for row in rows if row["quantity"] == costly)
    batch, memory = np.array(own).T
    if memory[-1] > limit and len(own) > 1:
        end = float(np.exp(np.interp(np.log(limit), np.log(memory), np.log(batch))))
        ax.axvline(end, color=GREY, ls="--", lw=1)
        ax.text(end, 0.8, f" {costly}\n no longer fits", transform=ax.get_xaxis_transform(),
                fontsize="small")  # fmt: skip
