"""What a data set is, and two functions for all of them."""

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Hold samples `X (m, d)`, labels `Y (m,)`, and the names of columns and labels."""

    X: np.ndarray
    Y: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def rows_of(data: Dataset, rows) -> Dataset:
    """Return the data set with these rows only."""
    return data._replace(X=data.X[rows], Y=data.Y[rows])


def check_labels(labels: np.ndarray, num_classes: int) -> None:
    """Refuse labels outside 0..num_classes-1."""
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise ValueError(
            f"label {labels[bad[0]]} at index {bad[0]}, "
            f"but there are {num_classes} classes (0-{num_classes - 1})"
        )
