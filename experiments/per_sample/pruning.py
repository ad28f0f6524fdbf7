"""The accuracy after training on a part of the samples."""

import itertools

import numpy as np

import jaxmlp
from experiments.per_sample import data
from experiments.per_sample.options import Config
from experiments.per_sample.scores import Run, objective, optimizer, start

KEEP = ("hardest", "easiest")


def kept(score, share: float, keep: str):
    """Return the rows with the highest ("hardest") or lowest ("easiest") scores, in order."""
    n = data.part(share, len(score), "keeps", "samples")
    order = np.argsort(score, kind="stable")
    return np.sort(order[-n:] if keep == "hardest" else order[:n])


def accuracy(config: Config, run: Run, rows) -> float:
    """Return the test accuracy after training on these rows, with the steps that all take."""
    J = objective(config, run.train)
    params, for_order = start(J, run.key)
    steps, per_epoch = (-(-n // config.batch_size) for n in (len(run.Y), len(rows)))
    params, _ = jaxmlp.fit(
        J, params, run.train.X[rows], run.Y[rows], optimizer=optimizer(config.learning_rate),
        epochs=round(config.epochs * steps / per_epoch), batch_size=config.batch_size,
        key=for_order,
    )  # fmt: skip
    return float((J.mlp.apply(params, run.test.X).argmax(axis=1) == run.test.Y).mean())


def pruning(config: Config, seed: int, run: Run) -> list[dict]:
    """Return a row for each score, direction and share of a repetition; share 1 is all."""
    rows, on_all = [], accuracy(config, run, np.arange(len(run.Y)))
    for score, keep in itertools.product(run.scores, KEEP):
        cell = {"seed": seed, "score": score, "keep": keep}
        for share in config.shares:
            on_share = accuracy(config, run, kept(run.scores[score], share, keep))
            rows.append({**cell, "share": share, "accuracy": on_share})
        rows.append({**cell, "share": 1.0, "accuracy": on_all})
    return rows


def without_flipped(config: Config, run: Run) -> float:
    """Return the test accuracy after training on the samples whose label is true."""
    return accuracy(config, run, np.flatnonzero(~run.flipped))
