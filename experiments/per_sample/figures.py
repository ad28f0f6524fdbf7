"""The figures: flipped labels found, training watched, samples left out, and the digits."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import precision_recall_curve

from experiments.per_sample.options import Config
from experiments.per_sample.pruning import KEEP
from experiments.per_sample.report import average_precision, precisions, reached
from experiments.per_sample.scores import Run
from jaxmlp.plotting.style import BLUE, COLOURS, VERMILION, bare, median_band


def flipped(config: Config, runs: list[Run]):
    """Draw precision and recall of each score, and average precision against the epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    curves = {
        f"{score}: {np.median(precisions(runs, score)):.2f}": [
            precision_recall_curve(run.flipped, run.scores[score])[:2] for run in runs
        ]
        for score in runs[0].scores
    }
    precision_recall(curves, left).get_legend().set_title("average precision")
    before, after = (np.median(precisions(runs, score)) for score in list(runs[0].scores)[:2])
    left.set_title(
        f"Flipped labels found by GraNd: average precision\n{before:.2f} before "
        f"training, {after:.2f} after {config.score_epoch} epochs",
    )  # fmt: skip
    history = {
        name: [[average_precision(run.flipped, s) for s in getattr(run.watched, field)]
               for run in runs]
        for name, field in (("GraNd", "grand"), ("EL2N", "el2n"), ("loss", "loss"))
    }  # fmt: skip
    through_epochs(history, right, colours=COLOURS[1:])
    right.set(ylabel="average precision", ylim=(-0.02, 1.04))
    grand = np.median(history["GraNd"], axis=0)
    right.set_title(f"GraNd finds them best at epoch {grand.argmax()}: {grand.max():.2f};\n"
                    f"at epoch {config.epochs} it is {grand[-1]:.2f}")  # fmt: skip
    return figure


def training(config: Config, runs: list[Run]):
    """Draw the noise scale against the epochs, and norms by layer of the first repetition."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    noise = np.concatenate([run.watched.noise for run in runs])
    through_epochs({f"median and range of {len(noise)} networks": noise}, left)
    left.set(ylabel="simple noise scale (samples)", yscale="log")
    first, last = np.median(noise, axis=0)[[0, -1]]
    left.set_title(f"The noise scale grows from {first:,.0f} samples before training to "
                   f"{last:,.0f} at epoch {config.epochs}")  # fmt: skip
    watched, times = runs[0].watched, sorted({0, config.score_epoch, config.epochs})
    stages = {f"epoch {t}": watched.layer_norms[t] for t in times}
    norms_by_layer(stages, runs[0].flipped, right)
    return figure


def pruning(rows: list[dict]):
    """Draw the test accuracy against the share of the training samples that is kept."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), sharey=True, layout="constrained")
    scores = list(dict.fromkeys(row["score"] for row in rows))
    shares = sorted({row["share"] for row in rows})
    for ax, keep, i in zip(axes, KEEP, (0, -2), strict=True):
        groups = {
            score: np.transpose([reached(rows, score=score, keep=keep, share=s) for s in shares])
            for score in scores
        }
        bands(shares, groups, ax, marker=".")
        ax.set(xlabel="share of the training samples kept")
        grand, chance = (np.median(groups[score][:, i]) for score in (scores[1], "random"))
        score = scores[1].replace("epoch ", "epoch\N{NO-BREAK SPACE}")
        ax.set_title(f"Keep the {keep} {shares[i]:.0%} by {score}:\n"
                     f"{grand:.1%} right; at random {chance:.1%}")  # fmt: skip
    axes[0].set_ylabel("test accuracy")
    axes[1].get_legend().remove()
    return figure


def digits(config: Config, run: Run):
    """Draw the 20 samples with the largest gradient, and the 10 largest with a true label."""
    order = np.argsort(-run.scores[f"GraNd, epoch {config.score_epoch}"], kind="stable")
    shown = np.concatenate([order[:20], order[~run.flipped[order]][:10]])
    framed, side = run.flipped[shown], round(run.pixels.shape[1] ** 0.5)
    captions = [
        f"label\N{NO-BREAK SPACE}{given}"
        + (f", is\N{NO-BREAK SPACE}{true}" if given != true else "")
        for given, true in zip(run.Y[shown], run.train.Y[shown], strict=True)
    ]
    figure, axes = plt.subplots(3, 10, figsize=(7.8, 3.4), layout="constrained")
    images(run.pixels[shown].reshape(-1, side, side), axes.flat, captions, framed)
    title = f"Of the 20 digits with the largest gradient, {framed[:20].sum()} have a flipped label"
    figure.suptitle(f"{title} (framed).\nLast row: the largest with a true label")
    return figure


def precision_recall(curves, ax):
    """Draw precision against recall, one thin line for each repetition.

    Args:
      curves: name -> list of `(precision, recall)`, in scikit-learn's order.
    """
    for colour, (name, repetitions) in zip(COLOURS, curves.items(), strict=False):
        for i, (precision, recall) in enumerate(repetitions):
            ax.plot(recall, precision, color=colour, lw=1, alpha=0.7, label=None if i else name)
    ax.set(xlabel="recall", ylabel="precision", ylim=(-0.02, 1.04))
    legend = ax.legend(frameon=False)
    for line in legend.get_lines():
        line.set(lw=2, alpha=1)
    return bare(ax)


def bands(x, groups, ax, *, colours=COLOURS, **line):
    """Draw each group's median against x, in a band from its smallest to its largest.

    Args:
      groups: name -> array `(repetitions, len(x))`.
    """
    for colour, (name, values) in zip(colours, groups.items(), strict=False):
        median_band(ax, x, values, color=colour, label=name, **line)
    ax.legend(frameon=False)
    return bare(ax)


def through_epochs(groups, ax, *, colours=COLOURS):
    """Draw `bands` against the epochs 0, 1, ..., the first ones wide apart."""
    last = len(next(iter(groups.values()))[0]) - 1
    bands(range(last + 1), groups, ax, colours=colours)
    ticks = [t for t in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= last]
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="epoch", xlim=(-0.1, last * 1.1))
    return ax


def norms_by_layer(stages, flipped, ax):
    """Draw quantiles of per-sample norms: a dot at the median, bars from 25 to 75% and 5 to 95%.

    Args:
      stages: name -> `(m, L)`, drawn side by side.
      flipped: bool `(m,)`, drawn apart from the rest.
    """
    ticks, labels, ratios, left = [], [], [], 0
    for stage, norms in stages.items():
        norms = np.asarray(norms)
        at = left + np.arange(norms.shape[1])
        kinds = ((~flipped, -0.15, BLUE, "true label"), (flipped, 0.15, VERMILION, "flipped label"))
        for rows, shift, colour, name in kinds:
            q = np.quantile(norms[rows], (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
            ax.vlines(at + shift, q[0], q[4], color=colour, lw=1)
            ax.vlines(at + shift, q[1], q[3], color=colour, lw=4, alpha=0.6)
            ax.plot(at + shift, q[2], "o", color=colour, ms=3, label=None if left else name)
        middle = (len(at) - 1) // 2
        labels += [f"{i + 1}\n{stage if i == middle else ' '}" for i in range(len(at))]
        ticks += at.tolist()
        rest, apart = (np.median(np.hypot.reduce(norms[r], axis=1)) for r in (~flipped, flipped))
        ratios.append(f"{apart / rest:.2g}")
        left = at[-1] + 2
    ax.set_xticks(ticks, labels)
    ax.set(xlabel="layer", ylabel="norm of a sample's gradient", yscale="log")
    ax.set_title(
        f"With a flipped label the gradient is {', '.join(ratios)} times that of a true one "
        "(medians)"
    )
    ax.legend(loc="lower left")
    return bare(ax)


def images(pictures, axes, captions, framed):
    """Show a picture on each of the axes, with its caption; frame those to be framed.

    Args:
      pictures: `(n, rows, columns)`, white paper at 0. framed: bool `(n,)`.
    """
    for ax, picture, caption, frame in zip(axes, pictures, captions, framed, strict=True):
        ax.imshow(picture, cmap="gray_r")
        ax.set_title(caption, fontsize="small", color=VERMILION if frame else "black", pad=3)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=bool(frame), color=VERMILION, linewidth=2.5)
    return axes
