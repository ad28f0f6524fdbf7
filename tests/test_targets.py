import dataclasses
import math

import jax
import numpy as np
import pytest

import jaxmlp
from jaxmlp import activations, losses, targets

OUTPUT = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}
ONE_HOT = np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]]


def three_outputs(name):
    """An objective with three outputs, its parameters and eight samples."""
    J = jaxmlp.Objective(jaxmlp.MLP((2, 3), output=OUTPUT.get(name, "linear")), name)
    params = (jaxmlp.Layer(np.ones((2, 3), np.float32), np.zeros(3, np.float32)),)
    return J, params, np.ones((8, 2), np.float32)


# --- labels and rows ------------------------------------------------------------------------------


def test_labels_of_any_integer_dtype_equal_one_hot_rows_to_the_bit():
    J, params, _ = three_outputs("cross_entropy")
    X = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    labels = ONE_HOT.argmax(axis=1)
    given = [ONE_HOT.astype(np.float32), *(labels.astype(d) for d in ("int32", "uint8", "int8"))]
    by_rows, *by_labels = jax.jit(
        lambda Ys: [(J(params, X, Y), jaxmlp.grad(J)(params, X, Y)) for Y in Ys]
    )(given)
    for found in by_labels:
        jax.tree.map(np.testing.assert_array_equal, found, by_rows)


def test_one_output_accepts_a_flat_vector_of_targets():
    J = jaxmlp.Objective(jaxmlp.MLP((2, 1), output="linear"), "mse")
    params = (jaxmlp.Layer(np.ones((2, 1), np.float32), np.zeros(1, np.float32)),)
    X, Y = ONE_HOT[:, :2].astype(np.float32), ONE_HOT[:, :1].astype(np.float32)
    assert J(params, X, Y[:, 0]) == J(params, X, Y)


# --- accuracy -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "output", "A", "Y", "share"),
    [
        ("cross_entropy", "softmax", [[0.7, 0.3], [0.4, 0.6]], [[1, 0], [1, 0]], 0.5),
        ("cross_entropy", "softmax", [[0.7, 0.3], [0.4, 0.6]], [[0.9, 0.1], [0.2, 0.8]], 1),
        ("mse", "softmax", [[0.7, 0.3], [0.4, 0.6]], [[0, 1], [0, 1]], 0.5),
        ("binary_cross_entropy", "sigmoid", [[0.7], [0.4], [0.2]], [[1], [1], [0]], 2 / 3),
        ("binary_cross_entropy", "sigmoid", [[0.7, 0.3], [0.4, 0.6]], [[1, 1], [0, 1]], 0.75),
        ("mse", "sigmoid", [[0.7], [0.4]], [[1], [0]], 1),
        ("mse", "sigmoid", [[0.7, 0.9], [0.4, 0.6]], [[1, 0], [0, 1]], 0.5),
        ("mse", "linear", [[1.0], [0.0]], [[1], [0]], math.nan),
        ("norm", "tanh", [[1.0, 0.0]], [[1, 0]], math.nan),
    ],
)
def test_accuracy_is_the_share_classified_right(name, output, A, Y, share):
    A, Y = np.array(A, np.float32), np.array(Y, np.float32)
    got = targets.accuracy(losses.get(name), activations.get(output), A, Y)
    np.testing.assert_array_equal(got, np.float32(share))


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_accuracy_of_another_activation_of_that_name_is_no_number(name):
    A = np.array([[0.7, 0.3]], np.float32)
    share = targets.accuracy(losses.mse, activations.Activation(name, lambda Z: Z), A, A)
    np.testing.assert_array_equal(share, np.float32(np.nan))


def test_what_targets_a_loss_takes_does_not_depend_on_its_name():
    own = dataclasses.replace(losses.mse, name="cross_entropy")
    labels = ONE_HOT.argmax(axis=1)
    assert not targets.is_labels(own, labels, 3)
    smoothed = dataclasses.replace(losses.cross_entropy, name="smoothed")
    targets.check_target_shape(smoothed, labels, 8, 3)
    np.testing.assert_array_equal(targets.targets_as_rows(smoothed, labels, 3, np.float32), ONE_HOT)


# --- what is refused ------------------------------------------------------------------------------


def changed(values, index, value):
    values = np.array(values)
    values[index] = value
    return values


@pytest.mark.parametrize(
    ("name", "Y", "error", "sentence"),
    [
        (
            "cross_entropy",
            np.array([0, 1, 2, 0, 1, 2, 0, 3]),
            ValueError,
            r"^label 3 at index 7, but the model has 3 classes \(0-2\)$",
        ),
        ("cross_entropy", changed(np.zeros(8, int), 2, -1), ValueError, "^label -1 at index 2, "),
        (
            "cross_entropy",
            changed(np.zeros(8, np.int64), 0, 2**32 + 1),
            ValueError,
            "^label 4294967297 at index 0, ",
        ),
        ("cross_entropy", np.zeros(8), TypeError, "labels in Y must have an integer dtype, .*64"),
        ("cross_entropy", np.zeros(7, int), ValueError, "X has 8 samples but Y has 7"),
        ("cross_entropy", ONE_HOT[:7], ValueError, "X has 8 samples but Y has 7"),
        ("cross_entropy", ONE_HOT[:, :2], ValueError, "Y has 2 columns, but the model has 3 out"),
        (
            "cross_entropy",
            changed(ONE_HOT, 4, 0.5),
            ValueError,
            r"rows of Y must sum to 1, but row 4 sums to 1\.5",
        ),
        (
            "cross_entropy",
            changed(ONE_HOT, (1, 2), -0.5),
            ValueError,
            r"probabilities in \[0, 1\], but Y\[1, 2\] is -0\.5",
        ),
        (
            "binary_cross_entropy",
            changed(ONE_HOT, (6, 1), 2),
            ValueError,
            r"targets of binary_cross_entropy are probabilities .* Y\[6, 1\] is 2",
        ),
        (
            "mse",
            changed(ONE_HOT, (3, 1), np.nan),
            ValueError,
            r"Y must be finite, but 1 of its 24 entries are not; .* nan at index \(3, 1\)",
        ),
        (
            "cross_entropy",
            changed(ONE_HOT, (0, 0), np.inf),
            ValueError,
            r"Y must be finite.* inf at index \(0, 0\)",
        ),
        (
            "mse",
            np.zeros((8, 3, 1)),
            ValueError,
            r"Y must have shape \(8, 3\), got \(8, 3, 1\)",
        ),
        ("mse", np.zeros(8), ValueError, r"Y must have shape \(8, 3\) for 3 outputs, got \(8,\)"),
        ("mse", np.float64(1), ValueError, r"Y must have shape \(8, 3\), got \(\)"),
        ("mse", ONE_HOT.astype(complex), TypeError, "Y must be numbers, got dtype complex128"),
        ("mse", ONE_HOT.astype(str), TypeError, "Y must be an array of numbers, got dtype <U"),
    ],
)
def test_targets_that_do_not_fit_are_named(name, Y, error, sentence):
    J, params, X = three_outputs(name)
    for call in (J, jaxmlp.grad(J)):
        with pytest.raises(error, match=sentence):
            call(params, X, Y)
