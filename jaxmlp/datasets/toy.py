"""Toy data, which is computed."""

import jax
import numpy as np

from jaxmlp.checks import integer, not_negative_number, positive_number, prng_key
from jaxmlp.datasets.description import Dataset, rows_of


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

    Without a key it is the published set, drawn by NumPy's legacy generator with seed 0. The
    other arguments must then keep their defaults.

    Raises:
      ValueError: for a size below 1, a negative noise, and other arguments without a key.

    Example:
      >>> spiral().X.shape
      (300, 2)
      >>> spiral(jax.random.key(0), num_classes=5, noise=0.1).X.shape
      (500, 2)

    Source: A. Karpathy, CS231n notes, "Minimal neural network case study".
    """
    points_per_class = integer("points_per_class", points_per_class, at_least=1)
    num_classes = integer("num_classes", num_classes, at_least=1)
    noise = not_negative_number("noise", noise)
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
    # The arms, as arrays (classes, points)
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

    `X = centre_Y + spread * E`, with centres uniform on [-5, 5]^d and E standard normal. Class
    sizes differ by one at most; the first classes are the larger ones.

    Raises:
      ValueError: for a size below 1, fewer points than classes, and a spread that is not above 0.

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

    The values are raw. Inputs of 500 saturate a sigmoid, so `standardize` them first.

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
    return rows_of(data, [0, 2, 3, 5]), rows_of(data, [1, 4])


def _host(values: jax.Array) -> np.ndarray:
    """Return random numbers, drawn in float32, as float64 on the host."""
    return np.asarray(values, np.float64)


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word} {i}" for i in range(count))
