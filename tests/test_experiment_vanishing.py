"""The numbers of the experiment on vanishing gradients, by NumPy in float64 and by autodiff."""

import dataclasses
import functools
import math

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jaxmlp
from experiments.vanishing import chains, claims, dead, figures, networks, steps, training
from experiments.vanishing.options import Config, check

matplotlib.use("Agg")

CONFIG = Config(num_samples=100, step_depths=(50,), num_steps=200)
X, LABELS = networks.digits(CONFIG)
DERIVATIVES = {
    "sigmoid": lambda A: A * (1 - A),
    "relu": lambda A: A > 0,
    "linear": np.ones_like,
}
FUNCTIONS = {
    "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
    "relu": lambda Z: np.maximum(Z, 0),
    "linear": lambda Z: Z,
}


def backpropagated(params, hidden):
    """Activations A[0..L-1], then dZ and dW of layers 1..L: a loop in NumPy, float64."""
    layers = [(np.asarray(W, float), np.asarray(b, float)) for W, b, *_ in jaxmlp.layers(params)]
    A = [X.astype(float)]
    for W, b in layers[:-1]:
        A.append(FUNCTIONS[hidden](A[-1] @ W + b))
    Z = A[-1] @ layers[-1][0] + layers[-1][1]
    softmax = np.exp(Z - Z.max(axis=1, keepdims=True))
    dZ = [softmax / softmax.sum(axis=1, keepdims=True) - np.eye(10)[LABELS]]
    for (W, _), below in zip(layers[:0:-1], A[:0:-1], strict=True):
        dZ.append(dZ[-1] @ W.T * DERIVATIVES[hidden](below))
    dZ.reverse()
    return A, dZ, [a.T @ d / len(X) for a, d in zip(A, dZ, strict=True)]


def log10_below_output(dZ):
    """log10 of the rms norm of dZ over that of the output, k = 0, 1, ... layers below."""
    norms = np.array([np.sqrt((d**2).sum(axis=1).mean()) for d in reversed(dZ)])
    return np.log10(norms / norms[0])


@functools.cache
def deep(hidden, init):
    J = networks.network(X, 50, CONFIG.width, hidden)
    return backpropagated(networks.draw(J, init, CONFIG.seed), hidden)


@functools.cache
def chain(init):
    return chains.chain(CONFIG, init)


# --- products and gradients -----------------------------------------------------------------------


def test_the_ceiling_of_fifty_sigmoid_derivatives_is_the_notes_8e_31():
    assert 10 ** chains.ceiling(50) == pytest.approx(0.25**50)
    assert 10 ** chains.ceiling(50) == pytest.approx(7.9e-31, rel=0.01)


@pytest.mark.parametrize("init", ["lecun", "he"])
def test_products_and_gradient_are_those_of_a_numpy_loop(init):
    A, dZ, _ = deep("sigmoid", init)
    slopes = [a * (1 - a) for a in reversed(A[1:])]
    rms = np.cumsum([np.log10(np.sqrt(np.mean(s**2))) for s in slopes])
    np.testing.assert_allclose(chain(init).product[1:], rms, atol=1e-4)
    np.testing.assert_allclose(chain(init).gradient, log10_below_output(dZ), atol=1e-3)
    assert len(chain(init).gradient) == 51


def test_no_product_is_above_the_ceiling():
    bound = np.arange(51) * np.log10(0.25)
    for init in ("lecun", "he"):
        assert (chain(init).largest <= bound).all()
        assert (chain(init).product[1:] < bound[1:]).all()


def test_the_gradient_is_below_the_ceiling_with_lecun_weights_and_above_it_with_he():
    lecun, he = chain("lecun").gradient, chain("he").gradient
    assert lecun[-1] < chains.ceiling(50) < he[-1]
    # the notes' "about 1e-31" and "about 1e-25": within one decade
    assert lecun[-1] == pytest.approx(-31, abs=1)
    assert he[-1] == pytest.approx(-25, abs=1)


def test_linear_layers_of_gain_2_double_the_gradient_at_every_layer():
    gain = chains.gain_2(CONFIG, "linear")
    _, dZ, _ = deep("linear", jaxmlp.initializers.gaussian(4.0))
    np.testing.assert_allclose(gain, log10_below_output(dZ), atol=1e-3)
    assert 10 ** (gain[-1] / 50) == pytest.approx(2, rel=0.05)


# --- one step -------------------------------------------------------------------------------------


def shares(rows, name):
    return np.array([row[name] for row in rows])


@pytest.mark.parametrize("hidden", ["sigmoid", "relu"])
def test_the_unchanged_weights_are_those_of_a_step_in_numpy(hidden):
    rows = steps.one_step(CONFIG, hidden)
    J = networks.network(X, 50, CONFIG.width, hidden)
    init = networks.INITS[hidden]
    _, _, dW = deep(hidden, init)
    old = [np.asarray(layer.W) for layer in jaxmlp.layers(networks.draw(J, init, CONFIG.seed))]
    new = [(W - 0.1 * g).astype("float32") for W, g in zip(old, dW, strict=True)]
    expected = [np.mean(a.view("u4") == b.view("u4")) for a, b in zip(old, new, strict=True)]
    # rounding: an update within 1e-4 of half a last bit may go either way
    np.testing.assert_allclose(shares(rows, "unchanged"), expected, atol=2e-3)
    zero = [np.mean(g == 0) for g in dW]
    np.testing.assert_allclose(shares(rows, "zero_gradient"), zero, atol=2e-3)


def test_early_sigmoid_layers_keep_every_bit_though_no_gradient_is_zero():
    rows = steps.one_step(CONFIG, "sigmoid")
    assert (shares(rows, "unchanged")[:30] == 1).all()
    assert (shares(rows, "zero_gradient") == 0).all()
    assert rows[-1]["unchanged"] < 0.01
    assert steps.unmoved(rows)["frozen"] == (shares(rows, "unchanged") == 1).sum() < 51


def test_one_unit_in_the_last_place_is_a_changed_bit():
    W = np.array([1.0, -0.3, 1e-30, 0.0], "float32")
    assert steps.same_bits(W, W.copy()).all()
    assert not steps.same_bits(W, np.nextafter(W, np.float32(2))).any()


# --- dead units -----------------------------------------------------------------------------------


def test_the_gradient_of_a_dead_unit_is_exactly_zero_and_that_of_its_leaky_twin_is_not():
    for hidden, is_zero in (("relu", True), ("leaky_relu:0.1", False)):
        J, params = dead.half_dead(CONFIG, hidden)
        Z = X @ np.asarray(params[0].W) + np.asarray(params[0].b)
        assert (Z[:, :4] < 0).all()
        assert (Z[:, 4:].max(axis=0) > 0).all()
        grads = jax.grad(J)(params, X, LABELS)[0]
        columns = np.vstack([grads.W, grads.b])[:, :4]
        assert (columns == 0).all() if is_zero else (columns != 0).any(axis=0).all()
        assert (np.asarray(grads.b)[4:] != 0).all()


def test_dead_units_never_learn_and_leaky_ones_come_back():
    told, (numbers, Z) = dead.dead_units(CONFIG, "relu")
    assert told["dA"] > 0  # a derivative arrives, and act' = 0 stops it
    assert told["dW"] == told["db"] == told["dW_at_end"] == 0 < told["dW_live"]
    assert told["unchanged"] == 1
    assert told["revived"] == 0
    assert (Z[0] == Z).all()
    assert numbers[-1] == CONFIG.num_steps
    leaky, (_, Z) = dead.dead_units(CONFIG, "leaky_relu:0.1")
    assert min(leaky["dW"], leaky["db"], leaky["dW_at_end"]) > 0
    assert leaky["unchanged"] < 1
    assert leaky["revived"] == (Z[-1] > 0).sum() > 0 == (Z[0] > 0).sum()


# --- claims ---------------------------------------------------------------------------------------


def test_tanh_is_faster_than_sigmoid_on_digits_and_stays_within_1():
    config = Config(num_seeds=1)
    data = networks.digits(config)
    ((slow, _),) = training.one_race(config, *data, "sigmoid", 0.1, 25)
    ((quick, largest),) = training.one_race(config, *data, "tanh", 0.1, 25)
    assert len(quick) < 25
    assert quick[-1] <= training.TARGET < slow[-1]
    assert 0.9 < largest <= 1


def test_an_activation_that_overflows_counts_as_infinite():
    config = Config(num_seeds=1, width=8)
    spiral = jaxmlp.datasets.spiral()
    ((_, largest),) = training.one_race(config, spiral.X, spiral.Y, "elu", 1e30, 2)
    assert largest == math.inf


def races(**epochs):
    """Made-up rows, two problems at one rate."""
    return [
        {"problem": problem, "rate": 0.1, "activation": act, "epochs": n[i], "largest_A": 2.0}
        for i, problem in enumerate(("digits", "spiral"))
        for act, n in epochs.items()
    ]


def verdicts(rows):
    return {row["claim"].split(maxsplit=1)[1]: row["verdict"] for row in rows}


def test_verdicts_follow_the_numbers():
    inf = math.inf
    told = verdicts(
        claims.claims_of_speed(races(sigmoid=(9, inf), tanh=(3, 7), relu=(4, 5), elu=(inf, inf)))
    )
    assert told == {
        "tanh is faster than sigmoid": "supported",
        "ReLU is faster than sigmoid": "supported",
        "ReLU is faster than tanh": "in 1 of 2",
        "sigmoid, tanh and ReLU serve hidden layers": "supported",
        "the choice depends on the problem": "supported",
    }
    told = verdicts(
        claims.claims_of_speed(
            races(sigmoid=(inf, inf), tanh=(inf, inf), relu=(4, 5), elu=(inf, inf))
        )
    )
    assert told["tanh is faster than sigmoid"] == "not supported"
    assert told["sigmoid, tanh and ReLU serve hidden layers"] == "in 1 of 3"
    assert told["the choice depends on the problem"] == "not supported"


def test_a_blow_up_is_an_overflow_or_an_activation_a_hundred_times_the_bound_of_tanh():
    rows = races(sigmoid=(1, 1), tanh=(1, 1), relu=(1, 1), elu=(1, 1))
    grid = [{"activation": "relu", "depth": 1, "accuracy": 1.0, "overflows": 0}]
    assert set(verdicts(claims.claims_of_size(rows, grid)).values()) == {"not supported"}
    rows[-1]["largest_A"] = 100.0
    grid[0]["overflows"] = 1
    assert set(verdicts(claims.claims_of_size(rows, grid)).values()) == {"supported"}


def test_the_deepest_network_that_learned():
    grid = [
        {"activation": act, "depth": depth, "accuracy": accuracy}
        for act, depth, accuracy in (("tanh", 5, 0.95), ("tanh", 9, 0.89), ("relu", 9, 0.9))
    ]
    reach = training.deepest_learned(grid)
    assert reach == {"sigmoid": 0, "tanh": 5, "relu": 9, "leaky_relu": 0}


def test_sizes_below_1_and_rates_that_are_not_positive_are_refused():
    for field, value in (("depth", 0), ("num_seeds", 0), ("race_epochs", (0, 1))):
        with pytest.raises(ValueError, match=field):
            check(dataclasses.replace(CONFIG, **{field: value}))
    with pytest.raises(ValueError, match="learning_rate"):
        check(dataclasses.replace(CONFIG, learning_rate=-0.1))


# --- figures --------------------------------------------------------------------------------------


def test_the_map_of_bits_shows_the_rows_and_nothing_where_there_is_no_layer():
    rows = [
        {"activation": "tanh", "depth": depth, "layer": layer, "unchanged": layer / 10}
        for depth in (1, 3)
        for layer in range(1, depth + 2)
    ]
    figure, ax = plt.subplots()
    assert figures.unchanged_bits(rows, [ax])[0] is ax
    shown = ax.collections[0].get_array()
    assert np.ma.getmaskarray(shown).tolist() == [[False] * 2] * 2 + [[True, False]] * 2
    np.testing.assert_allclose(shown[:, 1], [0.1, 0.2, 0.3, 0.4])
    plt.close(figure)


def test_sizes_in_a_figure_have_two_digits_and_no_exponent():
    shown = {4.19: "4.2", 25.1: "25", 41_400.0: "41,000", math.inf: ""}
    assert {size: figures.rounded(size) for size in shown} == shown


GRID = [{"activation": "tanh", "depth": depth, "accuracy": depth / 10} for depth in (1, 9)]
RACES = races(sigmoid=(1, 1), elu=(1, 1))


@pytest.mark.parametrize(
    ("draw", "data"),
    [
        (figures.accuracy_by_depth, GRID),
        (figures.largest_activations, [*RACES[:-1], RACES[-1] | {"largest_A": math.inf}]),
        (figures.largest_inputs, {"relu": (np.arange(3), -np.ones((3, 2)))}),
        (functools.partial(figures.relative_to_output, factor=2), {"linear": np.arange(3) / 3}),
    ],
)
def test_a_figure_draws_on_the_axes_given_and_returns_them(draw, data):
    figure, ax = plt.subplots()
    assert draw(data, ax) is ax
    assert ax.has_data()
    figure.canvas.draw()
    plt.close(figure)
