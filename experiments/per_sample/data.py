"""The samples, and labels that are flipped."""

import numpy as np

from experiments.per_sample.options import Config
from jaxmlp import datasets


def split(config: Config, key, rng):
    """Return (train, test), with pixels in [0, 1]."""
    if config.mnist is None:
        train, test = datasets.train_test_split(datasets.digits(), key=key)
    else:
        train, test = (datasets.mnist(config.mnist, part) for part in ("train", "test"))
    if config.num_train is None:
        return train, test
    if not 100 <= config.num_train <= len(train.Y):
        raise ValueError(f"num_train must lie in 100..{len(train.Y)}, got {config.num_train}")
    rows = rng.permutation(len(train.Y))[: config.num_train]
    return train._replace(X=train.X[rows], Y=train.Y[rows]), test


def flip(Y, share: float, num_classes: int, rng):
    """Return labels of which a share was changed to another class, and which were."""
    n, flipped = part(share, len(Y), "flips", "labels"), np.zeros(len(Y), bool)
    flipped[rng.choice(len(Y), n, replace=False)] = True
    shift = np.where(flipped, rng.integers(1, num_classes, len(Y)), 0)
    return ((Y + shift) % num_classes).astype(Y.dtype), flipped


def part(share: float, total: int, does: str, what: str) -> int:
    """Return how many a share of the total is; refuse a share that gives 0."""
    number = round(share * total)
    if number == 0:
        raise ValueError(f"a share of {share} {does} none of {total} {what}")
    return number
