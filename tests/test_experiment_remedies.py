"""What the experiments on cures and on Jacobians say is what their numbers are."""

from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.jacobian import measured
from experiments.jacobian.figures import spectra
from experiments.jacobian.options import Config as JacobianConfig
from experiments.remedies import birth, figures, kinds, training
from experiments.remedies.options import CURES, Config

matplotlib.use("Agg")


def test_the_best_learning_rate_has_the_highest_mean():
    rows = [
        {"learning_rate": rate, "accuracy": accuracy}
        for rate, accuracy in [(0.1, 1.0), (0.1, 0.1), (0.03, 0.8), (0.03, 0.7), (0.01, 0.2)]
    ]
    assert training.best(rows) == (0.03, [0.8, 0.7])


def test_every_cure_meets_every_activation_and_plain_networks_three_initialisations():
    found = kinds.kinds_of(("tanh", "relu"), ())
    assert len(found) == 2 * (len(CURES) - 1 + len(kinds.PLAIN))
    assert {kind.init for kind in found if kind.cure == "layer norm"} == {"lecun", "he"}
    mlp = kinds.Kind("relu", "he", "RMS norm, residual 1", *CURES["RMS norm, residual 1"]).mlp(
        (3, 4, 4, 2), "softmax"
    )
    assert (mlp.residual, mlp.norm) == (1.0, "rms")


def test_networks_of_a_kind_are_those_of_its_own_mlp():
    import jax

    for cure in ("layer norm, residual 1", "rezero"):
        kind = kinds.Kind("tanh", "lecun", cure, *CURES[cure])
        (drawn,) = kind.draw((3, 4, 4, 2), [5])
        own = kind.mlp((3, 4, 4, 2), "softmax").init(jax.random.key(5), "lecun")
        jax.tree.map(np.testing.assert_array_equal, drawn, own)


def born(name, activation, decades):
    measured = np.tile(np.append(np.linspace(decades, 0, 5), 0.0), (2, 1))
    kind = kinds.Kind(activation, "he", name, *CURES[name])
    return birth.Born(kind, measured, None)


def test_the_title_says_what_trains_and_that_flat_is_not_enough():
    accuracies = {"layer norm": 0.1, "residual 1/sqrt(depth)": 0.99, "residual 1": 0.95}
    decades = {"layer norm": -0.5, "residual 1/sqrt(depth)": 0.2, "residual 1": 15.0}
    table = [
        {"activation": act, "init": "he", "cure": cure, "decades at birth": decades[cure],
         "accuracy": accuracy, "lowest": accuracy, "highest": accuracy}
        for cure, accuracy in accuracies.items()
        for act in ("tanh", "relu")
    ]  # fmt: skip
    table[0] |= {"accuracy": 0.93, "highest": 0.93}  # layer norm: tanh learns, relu does not
    config = Config(activations=("tanh", "relu"))
    said = figures.finding(config, table)
    assert "(above 90%) with: residual 1/sqrt(depth); residual 1." in said
    assert "of 4 kinds of networks with less than 2 decades at birth 1 stay" in said
    found = [born(row["cure"], row["activation"], row["decades at birth"]) for row in table]
    assert found[0].change == pytest.approx(-0.5)
    figure = figures.cures(config, found, table)
    above, below = figure.axes[0], figure.axes[2]
    assert above.get_title() == "tanh"
    assert len(below.patches) == 3
    plt.close(figure)


def test_exponents_are_drawn_where_they_are_known():
    config = JacobianConfig(width=8)
    assert measured.theory(config, "tanh", "gaussian") is None
    exponents, cut = measured.theory(config, "relu", "gaussian")
    assert exponents.shape == cut.shape == (8,)
    values = np.array([[1.0, 0.0, -np.inf]])
    predicted = SimpleNamespace(log10_largest=2.0, log10_mean=1.0, relative_variance=0.5)
    row = measured.row(measured.Measured("relu", "gaussian", 5, values, None, predicted))
    assert row["log10 largest"] == 1.0
    assert row["log10 of rms"] == pytest.approx(np.log10(101 / 3) / 2)
    assert row["open"] == 2
    found = [measured.Measured("relu", "gaussian", 5, values, None, predicted)]
    found.append(found[0]._replace(weights="orthogonal", log10_s=np.zeros((1, 3))))
    of_relu = JacobianConfig(activations=("relu",), depths=(5,), width=3)
    figure = spectra(of_relu, found)
    said = "5 ReLU layers spread the Jacobian over 1 decades with Gaussian weights, over 0"
    assert figure.get_suptitle().startswith(said)
    plt.close(figure)
