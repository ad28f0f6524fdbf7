"""What the phase diagram and the depth sweep say of theory is what was measured."""

import math
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from experiments.depth_sweep import figures, options, theory
from experiments.phase_diagram import measured
from experiments.phase_diagram.options import Config
from jaxmlp import meanfield

matplotlib.use("Agg")


def test_measured_factors_lie_beside_the_theory_for_linear_layers():
    config = Config(activation="linear", dots=2, depth=10, width=64, num_nets=4)
    rows = measured.measure(config)
    assert len(rows) == 4
    for row in rows:
        assert row["predicted"] == pytest.approx(row["sigma_w2"])  # chi_1 of a linear layer
        # spread of log |dz|^2 over 5 layers of 64 and 4 networks, 4 standard errors; per layer
        noise = math.sqrt(5 * 2 / 64 / 4) / 5
        assert abs(math.log(row["measured"] / row["predicted"])) < 4 * noise


def test_the_table_has_the_closed_forms_and_a_reason_where_there_is_no_point():
    rows = {row["activation"]: row for row in measured.criticality()}
    at_0, at_05 = "critical at sigma_b2 = 0", "at 0.05"
    assert rows["relu"][at_0] == "sigma_w2 2.0000, q any, scale-invariant"
    assert rows["erf"][at_0].startswith(f"sigma_w2 {math.pi / 4:.4f}")
    assert "sigma_w2" not in rows["relu"][at_05]
    assert "grows" in rows["softplus"][at_0]
    assert rows["relu"]["he"] == pytest.approx(1)
    assert rows["relu"]["lecun"] == pytest.approx(math.sqrt(1 / 2))
    assert "swish" not in rows


def test_the_depth_sweep_compares_measured_means_with_predictions():
    config = options.Config(
        activations=("relu",), inits=("he", "orthogonal"), width=32, theory_depth=50, theory_nets=20
    )
    (compared,) = theory.against_theory(config)  # the theory does not know "orthogonal"
    assert compared.init == "he"
    assert compared.measured.shape == (20, 51)
    mean, sd = compared.measured[:, 0].mean(), compared.predicted.sd[0]
    row = theory.first_layer(compared)
    assert row["z"] == pytest.approx((mean - compared.predicted.mean[0]) / (sd / math.sqrt(20)))
    assert row["largest |z|"] < 4
    wrong = meanfield.predict("relu", 1.8, 0.0, 50, c0=1.0, width=32)
    assert abs(mean - wrong.mean[0]) / (sd / math.sqrt(20)) > 4
    spread = compared.measured[:, :-1].std(axis=0, ddof=1) / compared.predicted.sd[:-1]
    low, high = np.sqrt(stats.chi2.ppf([0.0005, 0.9995], 19) / 19)
    assert low < spread.min()
    assert spread.max() < high
    # sd of log10 |dz| over 50 ReLU layers, leading order: sqrt(5 depth / width) / (2 ln 10)
    assert sd == pytest.approx(math.sqrt(5 * 50 / 32) / (2 * math.log(10)), rel=0.1)
    alike = compared.correlation.mean(axis=0)
    assert np.abs(compared.predicted.correlation - alike)[:-1].max() < 0.2
    # page one, drawn from it: the line is theory, the points the mean, the label the factor
    figure = figures.hero(config, [compared])
    (ax,) = figure.axes
    line, points = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), compared.predicted.mean[::-1])
    some = compared.measured.mean(axis=0)[::-1][points.get_xdata()]
    np.testing.assert_array_equal(points.get_ydata(), some)
    assert f"ReLU, he: {10 ** (mean / 50):.2f} a layer" in [text.get_text() for text in ax.texts]
    plt.close(figure)


def test_what_a_shallow_network_loses_is_read_off_a_deep_one():
    config = options.Config(activations=("relu", "sigmoid"), inits=("he", "orthogonal"),
                            depths=(2, 40), width=32)  # fmt: skip
    lost = theory.lost_by_depth(config)
    assert set(lost) == {("relu", "he"), ("sigmoid", "he")}
    of = lost["relu", "he"]
    for depth in (2, 11, 40):
        own = meanfield.predict("relu", 2.0, 0.0, depth, c0=1.0, width=32)
        assert of.mean[depth - 1] == pytest.approx(own.mean[-2] - own.mean[0], rel=1e-9)
        own_sd = math.sqrt(own.sd[0] ** 2 - own.sd[-2] ** 2)
        assert of.sd[depth - 1] == pytest.approx(own_sd, rel=1e-9)
    assert of.mean[39] == pytest.approx(0.55 * 39 / 32, rel=0.05)  # 0.55 depth / width

    names = ("activation", "init", "residual", "norm", "depth", "width", "verdict", "log10_change")
    told = [
        ("relu", "he", None, None, 40, 32, "healthy"),
        ("relu", "he", 0.5, None, 40, 32, "x"),
        ("relu", "orthogonal", None, None, 40, 32, "y"),
        ("relu", "he", None, None, 1, 32, "z"),
    ]
    off = -of.mean[39] + np.array([2.9, 3.1]) * of.sd[39]
    rows = [dict(zip(names, (*told[0], change), strict=True)) for change in off]
    rows += [dict(zip(names, (*row, -1.0), strict=True)) for row in told[1:]]
    judged = theory.judge(rows, lost)
    assert [row["verdict"] for row in judged] == [
        "healthy, as predicted for width 32", "healthy", "x", "y", "z",
    ]  # fmt: skip
    assert judged[0]["predicted"] == -of.mean[39]
    assert judged[2]["predicted"] is None


def test_histograms_of_dZ_are_densities_one_for_each_hidden_layer():
    own = [np.random.default_rng(l).normal(size=(50, 40)) * 2.0**-l for l in range(3)]
    figure, ax = plt.subplots()
    traces = [SimpleNamespace(dZ=values) for values in own]
    assert figures.derivative_histograms(traces, ax) is ax
    assert ax.get_xlabel()
    assert [line.get_label() for line in ax.lines] == ["layer 1", "layer 2"]  # not the output
    reach = 3 * own[0].std()
    for line, values in zip(ax.lines, own, strict=False):
        z, density = line.get_xydata().T
        inside = values[abs(values) <= reach]
        step = z[1] - z[0]
        assert density.sum() * step == pytest.approx(1)
        assert (density * z**2).sum() * step == pytest.approx(inside.var(), rel=0.02)  # the bins
    plt.close(figure)
