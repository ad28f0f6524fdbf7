"""What a data set is, and two functions for all of them."""

from typing import NamedTuple

import numpy as np

from jaxmlp import report


class Dataset(NamedTuple):
    """Hold samples `X (m, d)`, labels `Y (m,)`, and the names of columns and labels."""

    X: np.ndarray
    Y: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __repr__(self):
        return report.text_of(self, _shown)

    def _repr_html_(self):
        return report.html_of(self, _shown)


def _shown(data: Dataset) -> report.Shown:
    """Return the number of samples of each class, and the range of the features."""
    m, d = data.X.shape
    counts = np.bincount(data.Y, minlength=data.num_classes)
    names = data.class_names[: report.SHOWN]
    rows = [{"class": str(name), "samples": int(n)} for name, n in zip(names, counts, strict=False)]
    few = [str(name) for name in data.feature_names[: report.SHOWN]]
    note = f"Features: {', '.join(few)}{', ...' if d > len(few) else ''}; "
    note += f"{data.X.dtype}, from {data.X.min():.3g} to {data.X.max():.3g}."
    line = f"Dataset: {m:,} samples of {d:,} features in {data.num_classes:,} classes"
    return report.Shown(line, rows, note=note)


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
