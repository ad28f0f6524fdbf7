"""Preparing data: splitting it in two, standardising it, labels as rows."""

import jax
import numpy as np

from jaxmlp.checks import finite, integer, positive_number, prng_key
from jaxmlp.datasets.description import Dataset, check_labels, rows_of


def train_test_split(
    data: Dataset, *, test_fraction: float = 0.2, key: jax.Array
) -> tuple[Dataset, Dataset]:
    """Return (train, test): all samples, shuffled and split in two.

    Of m samples, `round(test_fraction * m)` go to test, but at least 1 and at most m - 1. The
    classes may have other shares in one part than in the other.

    Raises:
      ValueError: for a fraction outside (0, 1), and for fewer than two samples.

    Example:
      >>> from jaxmlp.datasets import vehicles
      >>> train, test = train_test_split(vehicles(), test_fraction=0.3, key=jax.random.key(0))
      >>> len(train.Y), len(test.Y)
      (4, 2)
    """
    data = _checked("data", data)
    test_fraction = positive_number("test_fraction", test_fraction)
    if test_fraction >= 1:
        raise ValueError(f"test_fraction must be below 1, got {test_fraction}")
    m = len(data.Y)
    if m < 2:
        raise ValueError(f"data must hold at least 2 samples to be cut in two, got {m}")
    num_test = min(max(round(test_fraction * m), 1), m - 1)
    order = np.asarray(jax.random.permutation(prng_key(key), m))
    return rows_of(data, order[num_test:]), rows_of(data, order[:num_test])


def standardize(train: Dataset, *others: Dataset) -> tuple[Dataset, ...]:
    """Return every data set as `(X - mean) / std`, with each feature's mean and std in `train`.

    std is computed with 1/m. A feature that is constant in `train` is divided by 1. X keeps its
    precision.

    Raises:
      ValueError: if train is empty or not finite, or another set has other features.

    Example:
      >>> from jaxmlp.datasets import vehicles_split
      >>> train, test = standardize(*vehicles_split())
      >>> train.X.std(0).round(9).tolist(), test.X[0].round(3).tolist()
      ([1.0, 1.0, 1.0], [1.0, 0.894, 1.48])
    """
    X = _checked("train", train).X
    if len(X) == 0:
        raise ValueError("train must hold at least one sample, got none")
    finite("train.X", X)
    for i, data in enumerate(others):
        found = _checked(f"others[{i}]", data).X.shape[1]
        if found != X.shape[1]:
            raise ValueError(f"others[{i}] must have {X.shape[1]} features as train, got {found}")
    # Compared by value, because rounding may leave std at 1e-17 for a constant
    constant = X.min(0) == X.max(0)
    mean = np.where(constant, X[0], X.mean(0, dtype=np.float64))
    std = X.std(0, dtype=np.float64)
    scale = np.where(constant | (std == 0), 1, std)

    def scaled(X):
        X = np.asarray(X)
        dtype = np.result_type(X, np.float32)  # integers become floats
        return (X - mean.astype(dtype)) / scale.astype(dtype)

    return tuple(data._replace(X=scaled(data.X)) for data in (train, *others))


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the float64 matrix (m, num_classes) with a 1 in column `labels[i]` of row i.

    Raises:
      TypeError: for labels that are not integers.
      ValueError: for labels of another rank than 1, or outside 0..num_classes-1.

    Example:
      >>> one_hot([0, 2], 3).tolist()
      [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    num_classes = integer("num_classes", num_classes, at_least=1)
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels must have the shape (m,), got {labels.shape}")
    if labels.size and labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    check_labels(labels, num_classes)
    return (labels[:, None] == np.arange(num_classes)).astype(np.float64)


def _checked(name: str, data: Dataset) -> Dataset:
    """Return the data set with NumPy arrays; refuse shapes that do not agree."""
    if not isinstance(data, Dataset):
        raise TypeError(f"{name} must be a Dataset, got {type(data).__name__}")
    X, Y = np.asarray(data.X), np.asarray(data.Y)
    if X.ndim != 2 or Y.shape != X.shape[:1]:
        raise ValueError(f"{name} must have X (m, d) and Y (m,), got {X.shape} and {Y.shape}")
    return data._replace(X=X, Y=Y)
