"""The results as a table and in sentences, with medians over the repetitions."""

import itertools

import numpy as np
from sklearn.metrics import average_precision_score

from experiments.per_sample.options import Config
from experiments.per_sample.pruning import KEEP, kept
from experiments.per_sample.scores import Run


def average_precision(flipped, score) -> float:
    return float(average_precision_score(flipped, score))


def precisions(runs: list[Run], score: str) -> list[float]:
    """Return a score's average precision in finding flipped labels, for each repetition."""
    return [average_precision(run.flipped, run.scores[score]) for run in runs]


def reached(rows: list[dict], **cell) -> list[float]:
    """Return the accuracies of a cell, one for each repetition."""
    return [r["accuracy"] for r in rows if all(r[name] == cell[name] for name in cell)]


def summary(config: Config, runs: list[Run], rows: list[dict]) -> list[dict]:
    """Return a row for each score, with medians over the repetitions."""
    table = []
    for score in runs[0].scores:
        top = [r.flipped[kept(r.scores[score], config.flipped, "hardest")].mean() for r in runs]
        found = precisions(runs, score)
        line = {
            "score": score,
            "average precision": float(np.median(found)),
            "lowest": min(found),
            f"precision in top {config.flipped:.0%}": float(np.median(top)),
        }
        ends = sorted({min(config.shares), max(config.shares)})
        for keep, share in itertools.product(KEEP, ends):
            cell = reached(rows, score=score, keep=keep, share=share)
            line[f"accuracy, {keep} {share:.0%}"] = float(np.median(cell))
        table.append(line)
    return table


def statements(config: Config, runs: list[Run], rows: list[dict], clean: list[float]) -> list[str]:
    """Return rows of other results. clean: the accuracies without the flipped samples."""
    correlations, owned = [], []
    for run in runs:
        size = np.linalg.norm(run.train.X, axis=1)
        correlations.append(np.corrcoef(run.watched.grand[0], size)[0, 1])
        squares = run.watched.grand[config.score_epoch] ** 2
        owned.append(squares[run.flipped].sum() / squares.sum())
    return [
        f"{len(runs[0].Y)} training samples, {runs[0].flipped.sum()} flipped; scores average "
        f"{config.num_networks} networks; {len(runs)} repetitions.",
        f"Test accuracy: {np.median(reached(rows, share=1.0)):.3f} with all samples, "
        f"{np.median(clean):.3f} without those whose label is flipped.",
        f"GraNd at epoch 0 and the norm of the input: correlation {np.median(correlations):.2f}.",
        f"Of the squared GraNd at epoch {config.score_epoch}, the flipped samples hold "
        f"{np.median(owned):.0%}.",
    ]
