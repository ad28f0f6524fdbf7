"""The numbers of `experiments.neuron`, against NumPy in float64, closed forms and the notes."""

import functools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from support import relative_error

from experiments.neuron import figures, learning, lecture, unit
from experiments.neuron.options import Config
from experiments.neuron.shared import digits
from jaxmlp import plotting

matplotlib.use("Agg")

CONFIG = Config(epochs=300, rounds=1)
ROUNDING = 1e-5  # float32, relative, over one gradient
LEARNT = 2e-3  # float32, relative, over hundreds of updates

# the four vehicles that train, from the notes (G4), standardised here
RAW = np.array([[4.0, 6.0, 500.0], [4.0, 5.0, 550.0], [2.0, 3.0, 200.0], [2.0, 4.0, 250.0]])
X = (RAW - RAW.mean(axis=0)) / RAW.std(axis=0)
LABELS = np.array([0.0, 0.0, 1.0, 1.0])
ONE_HOT = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# --- the lecture's numbers ------------------------------------------------------------------------


@functools.cache
def numbers():
    return {(row["row"], row["formula"]): row for row in lecture.numbers()}


E = np.exp([1.1, 2.2, 0.2, -1.7])
SOFTMAX = E / E.sum()
A_B3 = np.exp(1.1) / (np.exp(1.1) + np.exp(2.2))
P, Q = np.array([0.9, 0.1]), np.array([0.6, 0.4])
ERRORS = np.array([6.0, 30.0, 19.0, 0.0]) - [-10.0, 12.0, -5.0, 6.0]
BY_HAND = {
    ("B1", "softmax(1.1, 2.2, 0.2, -1.7), entry 1"): SOFTMAX[0],
    ("B1", "entry 2"): SOFTMAX[1],
    ("B1", "entry 3"): SOFTMAX[2],
    ("I", "entry 4"): SOFTMAX[3],
    ("B3", "softmax(1.1, 2.2), entry 1"): A_B3,
    ("B3", "1 / (1 + e^(2.2 - 1.1))"): A_B3,
    ("B4", "-sum p log2 q"): -(P * np.log2(Q)).sum(),
    ("B4", "-sum q log2 p"): -(Q * np.log2(P)).sum(),
    ("F1", "SSE = sum (y - t)^2"): 16**2 + 18**2 + 24**2 + 6**2,
    ("F1", "MSE = 1/4 sum (y - t)^2"): 1192 / 4,
    ("F1", "L = 1/2 sum (y - t)^2"): 1192 / 2,
    ("F1", "E = ||y - t||"): 1192**0.5,
    ("F1", "dMSE/dy1 = 2/4 (y1 - t1)"): 2 / 4 * 16,
    ("I", "dMSE/dy1 = 2/4 sum (y - t)"): 2 / 4 * 16,
    ("F2", "(0.9 - 1)^2"): 0.01,
    ("F2", "(0.1 - 0)^2"): 0.01,
    ("F2", "(0.6 - 1)^2"): 0.16,
    ("F2", "(0.4 - 0)^2"): 0.16,
    ("I", "(0.4 - 0)^2"): 0.16,
    ("F3", "-(y log a + (1 - y) log(1 - a))"): -np.log(A_B3),
    ("F3", "its dJ/dz = a - y"): A_B3 - 1,
    ("F3", "-sum t log y, two classes"): -np.log(A_B3),
    ("F3", "-sum t log y, y of B1"): -np.log(SOFTMAX[1]),
}


def test_every_number_of_the_lecture_is_that_of_numpy():
    right = {key: row["right"] for key, row in numbers().items()}
    assert right == pytest.approx(BY_HAND, rel=ROUNDING)


@pytest.mark.parametrize("key", BY_HAND, ids=str)
def test_the_notes_number_agrees_unless_it_is_a_slip(key):
    row = numbers()[key]
    if not row["notes"]:
        assert key[0] != "I"
        return
    decimals = len(row["notes"].partition(".")[2])
    agrees = abs(float(row["notes"]) - row["right"]) <= 0.5 * 10.0**-decimals
    assert agrees == (key[0] != "I")


def test_the_slips_are_what_the_wrong_formula_gives():
    slips = {formula: row["notes"] for (letter, formula), row in numbers().items() if letter == "I"}
    assert float(slips["entry 4"]) == np.floor(1000 * SOFTMAX[3]) / 1000
    assert float(slips["dMSE/dy1 = 2/4 sum (y - t)"]) == 2 / 4 * ERRORS.sum()
    assert float(slips["(0.4 - 0)^2"]) == pytest.approx((0.4 - 1) ** 2)


@functools.cache
def parabola():
    return lecture.parabola()


@pytest.mark.parametrize(
    ("label", "rate"),
    [("x - 0.1 dy/dx", 0.1), ("x - 0.5 dy/dx", 0.5), ("x - dy/dx", 1.0), ("x + 0.1 dy/dx", -0.1)],
)
def test_a_path_on_the_parabola_is_the_geometric_sequence(label, rate):
    path = parabola()[label]
    np.testing.assert_allclose(path, 4 * (1 - 2 * rate) ** np.arange(51), rtol=ROUNDING)


def test_the_parabola_ends_at_its_minimum_and_the_slip_climbs():
    ends = {row["update"]: row for row in lecture.parabola_rows(parabola())}
    assert (ends["2x = 0"]["y"], ends["2x = 0"]["dy/dx"]) == (-10, 0)
    assert ends["x - 0.1 dy/dx"]["y"] == pytest.approx(-10, abs=1e-6)
    assert ends["x + 0.1 dy/dx"]["y"] > 1e6


# --- one neuron -----------------------------------------------------------------------------------

W, B = np.array([0.5, -0.5, 0.25]), 0.1


@functools.cache
def chain():
    return {row["unit"]: row for row in unit.chain()}


def test_the_factors_of_the_chain_are_those_of_the_lecture():
    z = X[0] @ W + B
    expected = {  # a, dJ/da, da/dz at y = 0
        "logistic": (sigmoid(z), -1 / (sigmoid(z) - 1), sigmoid(z) * (1 - sigmoid(z))),
        "linear": (z, z, 1.0),
        "perceptron": (1.0, 1.0, 0.0),
    }
    for name, factors in expected.items():
        row = chain()[name]
        found = row["a"], row["dJ/da"], row["da/dz"]
        np.testing.assert_allclose(found, factors, rtol=ROUNDING)
        np.testing.assert_allclose(row["dz/dw, dz/db"], [*X[0], 1], rtol=ROUNDING)
        np.testing.assert_allclose(row["(a - y) (x, 1)"], factors[0] * row["dz/dw, dz/db"], 1e-5)


def test_the_product_is_the_gradient_and_for_the_step_that_is_zero():
    for name, row in chain().items():
        np.testing.assert_allclose(row["product"], row["jax.grad"], rtol=ROUNDING)
        if name == "perceptron":
            assert not np.any(row["product"])
            assert np.all(row["(a - y) (x, 1)"])
        else:
            np.testing.assert_allclose(row["product"], row["(a - y) (x, 1)"], rtol=ROUNDING)


def test_the_gradient_of_one_neuron_is_the_matrix_form():
    *routes, slip = unit.matrix_form()
    error = sigmoid(X @ W + B) - LABELS
    assert len(routes) == 3
    for route in routes:
        np.testing.assert_allclose(np.ravel(route["dJ/dw"]), X.T @ error / 4, rtol=ROUNDING)
        np.testing.assert_allclose(route["dJ/db"], [error.mean()], rtol=ROUNDING)
    np.testing.assert_allclose(slip["dJ/db"], error, rtol=ROUNDING)  # nothing was averaged


def test_three_units_tell_3_from_8_and_the_step_has_no_gradient():
    rows, weights = unit.three_units(CONFIG)
    rows = {row["unit"]: row for row in rows}
    for row in rows.values():
        assert row["errors of 250"] <= 2
        assert row["held out, of 107"] <= 8
    gradient = "largest |dJ/dw| at w = 0"
    assert rows["perceptron"][gradient] == 0
    data, test = digits(0)
    expected = np.abs(data.X.T @ (0.5 - data.Y) / 250).max()
    assert rows["logistic"][gradient] == pytest.approx(expected, rel=ROUNDING)

    w, b, epochs, wrong = np.zeros(64), 0.0, 0, 1
    while wrong:
        epochs, wrong = epochs + 1, 0
        for x, y in zip(data.X, data.Y, strict=True):
            a = np.heaviside(x @ w + b, 0.5)
            wrong += a != y
            w, b = w - 0.5 * (a - y) * x, b - 0.5 * (a - y)
    assert rows["perceptron"]["epochs"] == epochs
    assert relative_error(weights["perceptron"][:, 0], w) < ROUNDING
    assert rows["perceptron"]["errors of 250"] == 0
    assert rows["perceptron"]["held out, of 107"] == ((test.X @ w + b > 0) != test.Y).sum()


# --- learning -------------------------------------------------------------------------------------


def numpy_training(lr, epochs, size, above=-1.0):
    """E4's network trained in plain NumPy: `(loss met in each epoch, backpropagations, errors)`.

    A batch is backpropagated where its mean error exceeds `above`; stops after an epoch without.
    """
    _, params, _, _ = learning.vehicle_tasks("standardised", 0)["3-4-2"]
    U, V = (np.asarray(layer.W, np.float64) for layer in params)
    met, count = [], 0
    for _ in range(epochs):
        loss, before = 0.0, count
        for i in range(0, 4, size):
            x, y = X[i : i + size], ONE_HOT[i : i + size]
            H = sigmoid(x @ U)
            A = sigmoid(H @ V)
            error = ((A - y) ** 2).sum() / size
            loss += error * size / 4
            if error > above:
                count += 1
                dZ2 = 2 * (A - y) * A * (1 - A) / size
                dZ1 = dZ2 @ V.T * H * (1 - H)
                U, V = U - lr * x.T @ dZ1, V - lr * H.T @ dZ2
        met.append(loss)
        if count == before:
            break
    return np.array(met), count, ((sigmoid(sigmoid(X @ U) @ V) - ONE_HOT) ** 2).sum(axis=1)


@functools.cache
def runs():
    """Some trainings of the 3-4-2 network, and one of the neuron."""
    plans = learning.plans(CONFIG)
    updates = ("per sample", "full batch", learning.SLIP)
    chosen = [("one neuron", "per sample"), *(("3-4-2", name) for name in updates)]
    return learning.train_all({key: plans[key] for key in chosen}, CONFIG.epochs, CONFIG.rounds)


def test_updates_come_per_sample_mini_batch_and_full_batch():
    sizes = {key: size for key, (_, size, _) in learning.plans(CONFIG).items()}
    for task, mini, full in (("one neuron", 2, 4), ("3-4-2", 2, 4), ("3 or 8", 25, 250)):
        assert sizes.pop((task, "per sample")) == 1
        assert sizes.pop((task, f"batches of {mini}")) == mini
        assert sizes.pop((task, "full batch")) == full
    assert sizes == {("3-4-2", learning.SLIP): 4}


@pytest.mark.parametrize(
    ("updates", "lr", "size"),
    [("per sample", 0.5, 1), ("full batch", 0.5, 4), (learning.SLIP, -0.5, 4)],
)
def test_the_losses_are_those_of_a_numpy_loop(updates, lr, size):
    run = runs()["3-4-2", updates]
    loss, count, _ = numpy_training(lr, CONFIG.epochs, size)
    np.testing.assert_allclose(run.loss, loss, rtol=LEARNT)
    assert run.updates * CONFIG.epochs == count
    assert run.seconds > 0


def test_the_slip_climbs_and_descent_does_not():
    assert np.all(np.diff(runs()["3-4-2", learning.SLIP].loss) > 0)
    assert np.all(np.diff(runs()["3-4-2", "full batch"].loss) < 0)


def test_a_loss_costs_the_epochs_up_to_the_first_that_meets_it():
    met = learning.Run(None, np.array([0.5, 0.02, 0.01, 0.3]), updates=4, seconds=2e-3)
    (row,) = learning.costs({("a", "b"): met}, 0.01)
    assert (row["epochs"], row["number of updates"], row["ms"]) == (3, 12, pytest.approx(6))
    (never,) = learning.costs({("a", "b"): met}, 0.001)
    assert never["epochs"] == "never"


def test_the_held_out_vehicles_are_classified_right():
    four, two = learning.held_out(runs())
    assert (list(four["vehicle"]), list(two["vehicle"])) == ([4, 5.5, 600], [2, 3.5, 150])
    for row in (four, two):
        assert row["says"] == row["says too"] == row["is"]
    assert four["is"] != two["is"]
    assert four["one neuron"][0] < 0.1
    assert two["one neuron"][0] > 0.9


def test_acceptable_samples_spare_backpropagations():
    every, skipping = learning.skipping(CONFIG)
    *_, errors = numpy_training(0.5, every["epochs"], 1)
    *_, before = numpy_training(0.5, every["epochs"] - 1, 1)
    assert errors.max() <= CONFIG.eps < before.max()
    _, count, left = numpy_training(0.5, 10_000, 1, above=CONFIG.eps)
    assert (every["backpropagations"], skipping["backpropagations"]) == (4 * every["epochs"], count)
    assert count < every["backpropagations"]
    np.testing.assert_allclose(skipping["errors at the end"], left, rtol=LEARNT)
    assert max(skipping["errors at the end"]) <= CONFIG.eps


def test_raw_inputs_saturate_and_standardised_ones_are_learnt():
    rows, curves = learning.raw_and_standardised(CONFIG)
    rows = {(row["learns"], row["inputs"]): row for row in rows}
    w = -0.5 * np.mean(2 * (0.5 - LABELS) * 0.25 * RAW.T, axis=1)  # one update from 0
    assert np.all(RAW @ w < -1000)  # e^-1000 is 0 in any precision
    assert rows["one neuron", "raw"]["largest a (1 - a)"] == 0
    assert rows["3-4-2", "raw"]["largest a (1 - a)"] < 1e-6
    for name in ("one neuron", "3-4-2"):
        raw, scaled = rows[name, "raw"], rows[name, "standardised"]
        assert raw["last loss"] == pytest.approx(0.5, abs=1e-3)
        assert scaled["last loss"] < 0.01
        assert scaled["largest a (1 - a)"] > 0.2
        assert np.all(curves[f"{name}, raw"][1][1:] > 0.49)


# --- figures --------------------------------------------------------------------------------------


def test_learning_curves_draw_what_they_are_given():
    curves = {"a": ([1, 2], [3.0, 0.1]), "b": ([1, 2], [1.0, 0.5])}
    _, ax = plt.subplots()
    assert plotting.learning_curves(curves, ax, xlabel="ms") is ax
    assert (ax.get_xlabel(), ax.get_yscale()) == ("ms", "log")
    assert [line.get_label() for line in ax.lines] == list(curves)
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), curves["b"][1])
    assert plotting.learning_curves({"a": ([1], [0.0])}).get_yscale() == "linear"
    plt.close("all")


def test_descents_leave_out_what_is_out_of_reach():
    _, ax = plt.subplots()
    assert figures.descents(np.square, {"up": [1.0, 2.0, 4.0]}, ax, reach=3) is ax
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [[1, 1], [2, 4]])
    plt.close("all")


def test_a_weight_image_is_white_at_zero():
    _, ax = plt.subplots()
    assert figures.weight_image(np.array([[1.0], [-3.0], [0.0], [2.0]]), ax) is ax
    assert ax.images[0].get_clim() == (-3, 3)
    np.testing.assert_array_equal(ax.images[0].get_array(), [[1, -3], [0, 2]])
    plt.close("all")


def test_the_titles_say_which_leads_by_epoch_and_how_near_all_are_by_update():
    loss = np.array([1.0, 0.5, 0.25])
    trained = {
        (task, updates): learning.Run(None, loss * factor, number, 1.0)
        for task in ("3-4-2", "3 or 8")
        for updates, factor, number in (
            ("often", 0.5, 2),
            ("rarely", 0.8, 1),
            (learning.SLIP, 9, 1),
        )
    }
    figure = figures.updates_figure(trained)
    titles = [ax.get_title() for ax in figure.axes[:2]]
    # after 3 updates: often is between 0.5 and 0.25, rarely at 0.2
    within = f"{(0.5 + 0.25) / 2 / 0.2 - 1:.0%}"
    assert titles == [
        "Vehicles: often leads by epoch", f"Vehicles: by update within {within} of each other"
    ]  # fmt: skip
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xdata(), [2, 4, 6])
    plt.close("all")
