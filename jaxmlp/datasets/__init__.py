"""Data sets for classification: toy data that is computed, and images read from local files.

A data set is a `Dataset(X, Y, feature_names, class_names)` of NumPy arrays on the host.

- `X (m, d)` is float64. With x64 off JAX casts it to float32. Only MNIST and Fashion-MNIST are
  float32, to save memory; cast them if you use x64.
- `Y (m,)` is int32, labels 0..K-1.
- A key gives the same data with x64 on or off, because random numbers are drawn in float32.
- Nothing is downloaded. If a file is missing, the error says how to get it.
"""

from jaxmlp.datasets.description import Dataset
from jaxmlp.datasets.idx import read_idx
from jaxmlp.datasets.images import digits, fashion_mnist, mnist
from jaxmlp.datasets.prepare import one_hot, standardize, train_test_split
from jaxmlp.datasets.toy import blobs, spiral, vehicles, vehicles_split

__all__ = [
    "Dataset",
    "blobs",
    "digits",
    "fashion_mnist",
    "mnist",
    "one_hot",
    "read_idx",
    "spiral",
    "standardize",
    "train_test_split",
    "vehicles",
    "vehicles_split",
]
