"""The spiral: published numbers, the notes' program in NumPy, and what a linear layer can do."""

import dataclasses
import re

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jaxmlp
from experiments.spiral import figures, lecture, networks
from experiments.spiral.options import Config, check
from jaxmlp import plotting

matplotlib.use("Agg")

CONFIG = Config()
DATA = networks.samples(CONFIG)


def trained(number, num_steps):
    """Network 0, 1 or 2 of the default run."""
    config = dataclasses.replace(CONFIG, num_steps=num_steps)
    with jax.enable_x64(True):
        start = networks.starts(config)[number]
        return networks.train_one(config, DATA, *start, report=lambda done: None)


@pytest.fixture(scope="module")
def regression():
    return trained(0, 200)


@pytest.fixture(scope="module")
def linear():
    return trained(1, 300)


@pytest.fixture(scope="module")
def bent():
    return trained(2, 10_000)


def notes_program(num_steps, decay=1e-3):
    """Loss with L2 at every tenth step of the notes' program, run with NumPy's seed 0."""
    random = np.random.RandomState(0)
    X, Y = np.zeros((300, 2)), np.repeat(np.arange(3), 100)
    for j in range(3):
        r, t = np.linspace(0, 1, 100), np.linspace(4 * j, 4 * j + 4, 100) + 0.2 * random.randn(100)
        X[100 * j : 100 * j + 100] = np.c_[r * np.sin(t), r * np.cos(t)]
    random.randn(2, 3)  # the softmax regression's weights come before
    W1, W2 = 0.01 * random.randn(2, 100), 0.01 * random.randn(100, 3)
    b1, b2, losses = np.zeros(100), np.zeros(3), []
    for step in range(num_steps + 1):
        A1 = np.maximum(0, X @ W1 + b1)
        P = np.exp(A1 @ W2 + b2)
        P /= P.sum(1, keepdims=True)
        if step % 10 == 0:
            l2 = decay / 2 * ((W1**2).sum() + (W2**2).sum())
            losses.append(l2 - np.log(P[np.arange(300), Y]).mean())
        dZ2 = (P - np.eye(3)[Y]) / 300
        dZ1 = dZ2 @ W2.T * (A1 > 0)
        W1, b1 = W1 - X.T @ dZ1 - decay * W1, b1 - dZ1.sum(0)
        W2, b2 = W2 - A1.T @ dZ2 - decay * W2, b2 - dZ2.sum(0)
    return losses


# --- C1-C3 ----------------------------------------------------------------------------------------


def test_softmax_regression_reaches_the_published_loss_and_148_of_300(regression):
    assert regression.steps[19] == 190
    assert f"{regression.loss[19]:.6f}" == "0.786302"
    assert regression.right == 148


def test_linear_hidden_layer_is_no_better(linear):
    assert linear.right == 148
    assert linear.accuracy.max() < 0.55


def test_relu_hidden_layer_reaches_the_published_loss_and_accuracy(bent):
    assert bent.loss[-1] == pytest.approx(0.245, abs=5e-4)  # published to three digits
    assert bent.accuracy[-1] >= 0.975
    assert bent.right == round(300 * bent.accuracy[-1])


def test_training_takes_the_steps_of_the_notes_program(bent):
    # rounding is amplified by steps of size 1, so early ones are compared
    np.testing.assert_allclose(bent.loss[:21], notes_program(200), rtol=1e-9)
    assert abs(bent.loss[20] - notes_program(200, decay=0.0)[20]) > 1e-3


def test_both_hidden_layers_start_from_the_same_weights_and_seeds_differ():
    _, linear, bent = networks.starts(CONFIG)
    other = networks.starts(dataclasses.replace(CONFIG, seed=1))[2]
    np.testing.assert_array_equal(linear[2][0].W, bent[2][0].W)
    assert bent[2][1].W.std() == pytest.approx(0.01, rel=0.2)  # 300 numbers: five standard errors
    assert np.abs(bent[2][1].W - other[2][1].W).max() > 1e-3


def test_linear_layers_are_one_softmax_regression_and_relu_layers_are_not(linear, bent):
    def largest_difference(network):
        with jax.enable_x64(True):
            one = jaxmlp.MLP((2, 3)).apply(networks.one_regression(network.params), DATA.X)
            return np.abs(network.J.mlp.apply(network.params, DATA.X) - one).max()

    assert largest_difference(linear) < 1e-14
    assert largest_difference(bent) > 0.1


def test_seed_zero_is_the_published_set_and_others_are_not():
    np.testing.assert_array_equal(DATA.X, jaxmlp.datasets.spiral().X)
    other = networks.samples(dataclasses.replace(CONFIG, seed=1))
    assert other.X.shape == (300, 2)
    assert np.abs(other.X - DATA.X).max() > 0.1


def test_statements_say_what_was_measured(regression, linear, bent):
    with jax.enable_x64(True):
        text = "\n".join(lecture.statements([regression, linear, bent], DATA))
    assert "148 of 300 is 49.3%, not the 52%" in text
    assert "after 190 steps: 0.786302;" in text
    assert "603 parameters are one softmax regression of 9" in text


# --- E1 -------------------------------------------------------------------------------------------


def test_shapes_are_those_of_the_notes_but_for_the_rank_of_b():
    with jax.enable_x64(True):
        rows, lines = lecture.shapes(DATA, seed=0)
    here = {row["array"]: row["here"] for row in rows}
    notes = {row["array"]: row["notes"] for row in rows}
    assert (here.pop("b1"), here.pop("b2")) == ("(4,)", "(3,)")
    assert (notes.pop("b1"), notes.pop("b2")) == ("(1, 4)", "(1, 3)")
    assert here == notes
    assert (here["A0 = X"], here["A1"], here["A2"]) == ("(300, 2)", "(300, 4)", "(300, 3)")
    assert lines[0].startswith("27 parameters")


def test_slips_stand_beside_the_right_thing():
    with jax.enable_x64(True):
        _, (_, rows, axis) = lecture.shapes(DATA, seed=0)
    assert "1200 numbers and not 2400" in rows
    assert "has shape (3,)" in axis
    assert "has shape (300,)" in axis
    right, wrong = re.search(r"but for (\S+);", axis), re.search(r"at most (\S+)\)", axis)
    assert right
    assert wrong
    assert max(float(right[1]), float(wrong[1])) < 1e-14


# --- refusals, figures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"decay": -1.0}, "decay must be finite and at least 0, got -1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and above 0, got 0"),
        ({"num_steps": 9}, "num_steps must be at least 10, got 9"),
    ],
)
def test_options_out_of_range_are_refused(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        check(dataclasses.replace(CONFIG, **option))


def test_decision_regions_colour_each_point_by_its_class():
    figure, ax = plt.subplots()
    X, Y = np.array([[-1.0, -1], [1, 1], [0, 0.5]]), np.array([0, 1, 2])
    assert plotting.decision_regions(lambda p: 1 * (p[:, 0] > 0), X, Y, ax, num_points=10) is ax
    regions = np.asarray(ax.images[0].get_array())
    np.testing.assert_array_equal(regions, np.tile([0] * 5 + [1] * 5, (10, 1)))
    drawn = [line.get_xydata().tolist() for line in ax.lines]
    assert drawn == [[[-1, -1]], [[1, 1]], [[0, 0.5]]]
    plt.close(figure)


def test_figures_show_accuracies_and_losses(regression, linear, bent):
    with jax.enable_x64(True):
        regions = figures.regions([regression, linear, bent], DATA)
    assert "148 of 300 right, 49.3%" in regions.axes[0].get_title()
    curves = figures.curves([regression, linear, bent])
    assert "0.245" in curves.get_suptitle()
    np.testing.assert_array_equal(curves.axes[0].lines[2].get_ydata(), bent.loss[1:])
    plt.close("all")
