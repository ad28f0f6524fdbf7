"""Data sets for classification: toy data made on the spot, images read from local files.

A data set is a value, `Dataset(X, Y, feature_names, class_names)`, of NumPy arrays on the host.

- `X (m, d)` is float64: exact with JAX's x64 on, and cast to float32 by JAX with x64 off. MNIST
  and Fashion-MNIST alone are float32, to spare memory: cast them to use them under x64.
- `Y (m,)` is int32, labels 0..K-1.
- A key gives the same data with x64 on or off: random numbers are drawn in float32.
- Nothing is downloaded. Where files are missing, the error says how to get them.
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
