"""The tables of the chain rule are what autodiff finds, and a wrong factor shows."""

import functools
import itertools
import math
import re

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.mathtext import MathTextParser

import jaxmlp
from experiments.chain_rule import figures, graph, intermediates, lecture, paths, report
from experiments.chain_rule.networks import problem
from experiments.chain_rule.options import Config
from experiments.chain_rule.paths import Weight
from jaxmlp.plotting import style

matplotlib.use("Agg")

TOLERANCE = 1e-12  # rounding, float64
NETWORKS = {
    "relu, softmax, cross-entropy": Config(sample="mean"),
    "tanh, softmax without collapse, three layers": Config(
        sizes=(3, 4, 3, 2), hidden="tanh", loss="norm", bias_free=True, sample="mean"
    ),
    "prelu, sigmoid, binary cross-entropy": Config(
        sizes=(3, 4, 2), hidden="prelu", output="sigmoid", loss="binary_cross_entropy"
    ),
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def network(name):
    if name == "lecture":
        return lecture.network(lecture.INPUT, lecture.HIDDEN, lecture.OUTPUT)
    return problem(NETWORKS[name])


@functools.cache
def autodiff(name):
    return intermediates.by_autodiff(network(name))


@functools.cache
def chain(name):
    return lecture.chain_of(name)


def lines(p):
    return list(intermediates.lines(p, [0] * (len(p.W) + 1)))


# --- every intermediate ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NETWORKS, "lecture"])
def test_every_intermediate_is_that_of_autodiff(name):
    hand, auto = lines(network(name)), autodiff(name)
    assert [line.value.dtype for line in hand] == [np.float64] * len(hand)
    assert {line.symbol: line.value.shape for line in hand} == {k: v.shape for k, v in auto.items()}
    assert all(off <= TOLERANCE for off in intermediates.differences(hand, auto).values())


def test_the_lines_are_those_of_the_notes_in_their_order():
    p = network("relu, softmax, cross-entropy")
    hand = lines(p)
    expected = {
        "dA2": "-Y / A2",
        "dZ2": "(A2 - Y)",
        "dW2": "A1^T dZ2 / m",
        "db2": "sum(dZ2) / m",
        "dA1": "dZ2 W2^T",
        "dZ1": "dA1 * relu'(Z1)",
        "dW1": "X^T dZ1 / m",
        "db1": "sum(dZ1) / m",
        "dX": "dZ1 W1^T / m",
    }
    assert [(line.symbol, line.formula) for line in hand] == list(expected.items())


@pytest.mark.parametrize("planted", range(7))
def test_a_planted_error_shows_in_its_line_and_no_other(planted):
    hand = lines(network("lecture"))
    hand[planted] = hand[planted]._replace(value=hand[planted].value * (1 + 1e-9))
    off = intermediates.differences(hand, autodiff("lecture"))
    assert [symbol for symbol, x in off.items() if x > TOLERANCE] == [hand[planted].symbol]


@pytest.mark.parametrize("name", [*NETWORKS, "lecture"])
def test_the_worked_entry_is_the_entry(name):
    checked = 0
    for line in lines(network(name)):
        if "terms" not in line.worked:
            value = eval(line.worked.replace(" x ", " * "))
            assert value == pytest.approx(line.value[line.at], rel=1e-2, abs=1e-12), line
            checked += 1
    assert checked >= 4


# --- the sum over paths ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NETWORKS, "lecture"])
def test_the_sum_over_paths_is_jax_grad_for_every_weight(name):
    p = network(name)
    gradient = jaxmlp.layers(jax.jit(jax.grad(p.J))(p.params, p.X, p.Y))
    for number, layer in enumerate(gradient, start=1):
        sums = np.zeros(layer.W.shape)
        for i, j in np.ndindex(*sums.shape):
            products = [path.product for path in paths.paths(p, Weight(number, i, j))]
            assert len(products) == math.prod(p.J.mlp.sizes[number + 1 :])
            sums[i, j] = math.fsum(products)
        assert report.relative(sums, np.asarray(layer.W)) <= TOLERANCE


def test_a_wrong_factor_is_not_jax_grad():
    c = chain("W11")
    assert c.weight == Weight(1, 0, 0)
    assert report.relative(c.trace, c.auto) <= TOLERANCE
    assert c.off <= TOLERANCE
    first, second = c.paths
    for name in first.factors:
        wrong = first._replace(factors=first.factors | {name: first.factors[name] * (1 + 1e-9)})
        assert c._replace(paths=[wrong, second]).off > TOLERANCE


def test_softmax_ends_in_one_factor_a_minus_y():
    p = network("relu, softmax, cross-entropy")
    e = np.exp(p.steps[-1].Z)
    expected = (e / e.sum(axis=1, keepdims=True) - p.Y) / 300
    for path in paths.paths(p, Weight(1, 0, 0)):
        assert list(path.factors) == ["dz1/dW1", "da1/dz1", "dz2/da1", "dE/dz2"]
        found = path.factors["dE/dz2"]
        np.testing.assert_allclose(found, expected[:, path.units[-1]], rtol=1e-12)


def test_too_many_paths_are_counted_and_not_walked(monkeypatch):
    monkeypatch.setattr(paths, "MOST_PATHS", 1)
    refusal = r"2 paths from W1\[0, 0\], at most 1 are followed: take a weight of a later layer"
    with pytest.raises(ValueError, match=refusal):
        paths.chain(network("lecture"), "W11")
    assert len(paths.paths(network("lecture"), Weight(2, 0, 0))) == 1


def test_weights_go_by_both_names():
    sizes = (3, 5, 4, 2)
    assert paths.parse_weight("W1[0,4]", sizes) == Weight(1, 0, 4)
    assert paths.parse_weight("V11", sizes) == Weight(3, 0, 0)
    assert paths.parse_weight("W32", sizes) == Weight(2, 2, 1)
    assert paths.parse_weight("U11", sizes) == Weight(1, 0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("W1", "weight must look like W1\\[0,0\\] or V11, got 'W1'"),
        ("W4[0,0]", "of layer 4, but the network has 1..3"),
        ("W2[5,0]", "outside W2, which has shape \\(5, 4\\)"),
        ("V10", "outside W3"),
    ],
)
def test_weights_that_are_not_there_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        paths.parse_weight(text, (3, 5, 4, 2))


# --- the lecture's numbers ------------------------------------------------------------------------


def test_the_lecture_network_has_the_lecture_values():
    p = network("lecture")
    W, V = p.W
    h = 1 / (1 + np.exp(-np.array([1, 0, 1]) @ W))
    y = 1 / (1 + np.exp(-h @ V))
    np.testing.assert_allclose(h[:3], [0.668, 0.912, 0.471], rtol=1e-12)
    np.testing.assert_allclose(y, [0.812, 0.151], rtol=1e-12)
    np.testing.assert_allclose(p.J.mlp.apply(p.params, p.X), y[None], rtol=1e-12)


def test_the_chains_have_three_five_and_seven_factors():
    for name, factors, number in (("V11", 3, 1), ("W11", 5, 2), ("U11", 7, 8)):
        c = chain(name)
        assert len(c.paths) == number
        assert {len(path.factors) for path in c.paths} == {factors}
        assert len(lecture.FACTORS[name]) == factors
        assert c.off <= TOLERANCE


def test_dE_dV11_is_the_number_of_the_notes():
    c = chain("V11")
    by_notes = 0.668 * 0.812 * 0.188 * 2 * (0.812 - 1)
    assert c.total == pytest.approx(by_notes, rel=1e-12)
    assert f"{c.auto:.5f}" == "-0.03834"


def test_the_factors_of_u11_are_those_of_its_symbols():
    c = chain("U11")
    (x1, g1, h1, y1), (_, W, V) = (1.0, lecture.G[0], 0.668, 0.812), c.p.W
    expected = [x1, g1 * (1 - g1), W[0, 0], h1 * (1 - h1), V[0, 0], y1 * (1 - y1), 2 * (y1 - 1)]
    found = [value[0] for value in c.paths[0].factors.values()]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_slips_stand_beside_the_right_numbers():
    text = "\n".join(lecture.chains().remarks)
    seven = chain("U11").paths[0].product
    assert f"eight factors, {seven * 0.668 * 0.332:.6g}, not {seven:.6g}" in text
    assert "dE/dy1: -0.074, not -0.376" in text
    assert "= -0.03834; here -0.0383423" in text
    assert f"{lecture.G[0] * 0.668 * 0.332:.6g}, not dh1/da1 = {0.668 * 0.332:.6g}" in text


def test_rows_and_columns_are_transposes():
    rows, columns, dZ = lecture.row_and_column()
    np.testing.assert_allclose(dZ, [-0.3, 0.2, 0.1], rtol=1e-12)
    np.testing.assert_allclose(rows, [[-0.3, 0.2, 0.1], [-0.6, 0.4, 0.2]], rtol=1e-12)
    np.testing.assert_allclose(columns, rows.T, rtol=1e-12)


def test_the_softmax_jacobian_is_that_of_the_notes():
    e = np.exp([1.1, 2.2, 0.2, -1.7])
    s = e / e.sum()
    expected = np.diag(s) - np.outer(s, s)
    section = lecture.softmax_jacobian()
    assert [row["s"] for row in section.rows] == ["0.2236", "0.6718", "0.0909", "0.0136"]
    printed = [[float(x) for x in row["ds/dz"].split(", ")] for row in section.rows]
    np.testing.assert_allclose(printed, expected, rtol=1e-3)
    off = float(section.remarks[0].removeprefix("off jax.jacobian by "))
    assert off <= TOLERANCE


# --- on paper -------------------------------------------------------------------------------------


def test_latex_holds_the_numbers_and_is_well_formed(monkeypatch):
    known = autodiff("lecture")
    monkeypatch.setattr(intermediates, "by_autodiff", lambda _: known)
    parser = MathTextParser("path")
    for section in (
        intermediates.section(chain("W11"), []),
        paths.section(chain("W11")),
        lecture.chains(),
        lecture.conventions(),
        lecture.softmax_jacobian(),
    ):
        text = report.latex(section)
        code = [line for line in text.splitlines() if line and not line.startswith("%")]
        begin, *body, end = code
        assert begin == rf"\begin{{tabular}}{{{'l' * len(section.rows[0])}}}"
        assert end == r"\end{tabular}"
        assert body.pop(1) == r"\hline"
        for line, row in zip(body[1:], section.rows, strict=True):
            cells = line.removesuffix(r" \\").split(" & ")
            assert len(cells) == len(row)
            for cell, value in zip(cells, row.values(), strict=True):
                assert cell.count("$") in (0, 2)
                assert cell.count("{") == cell.count("}")
                if "$" in cell:
                    parser.parse(cell.replace(r"\_", ""))
                if re.fullmatch(r"-?[\d.]+", value):
                    assert cell == f"${value}$"


@pytest.mark.parametrize(
    ("plain", "latex"),
    [
        ("A1^T dZ2", r"$A_{1}^{\top} dZ_{2}$"),
        ("dz1/dV11", r"$\partial z_{1}/\partial V_{11}$"),
        ("dA1 * leaky_relu:0.1'(Z1)", r"$dA_{1} \odot \mathrm{leaky\_relu:0.1}'(Z_{1})$"),
        ("0.5 x (-2.5e-05)", r"$0.5 \times (-2.5\cdot 10^{-5})$"),
    ],
)
def test_formulas_are_set_as_mathematics(plain, latex):
    assert report.tex(report.Math(plain)) == latex
    assert report.tex("50% of a_b") == r"50\% of a\_b"


# --- the drawing ----------------------------------------------------------------------------------


def test_the_drawing_lights_the_largest_path_and_writes_the_sum():
    c = chain("W11")
    figure = figures.draw(c)
    top, bottom = figure.axes[0], figure.axes[1]
    lit = [line for line in top.lines if to_rgba(line.get_color()) == to_rgba(style.YELLOW)]
    assert [tuple(np.ravel(line.get_xdata())) for line in lit] == [(0, 1), (1, 2)]
    written = [text.get_text().replace("\N{MINUS SIGN}", "-") for text in bottom.texts]
    assert [line.split()[-1] for line in written[-3:]] == [f"{c.auto:.12g}"] * 3
    assert "sum over 2 paths is jax.grad, to 12 digits" in figure.get_suptitle()
    labels = [text.get_text() for text in top.texts]
    assert "da1/dz1 = 0.222" in labels
    assert "dE/da2\n\N{MINUS SIGN}0.376" in labels
    plt.close(figure)


def test_the_drawing_carries_every_weight_and_every_node():
    p = network("lecture")
    figure, ax = plt.subplots()
    values = [p.X[0], *(t.A[0] for t in p.steps)]
    deltas = [p.dX[0], *(t.dZ[0] for t in p.steps)]
    assert graph.network(values, deltas, p.W, [t.dW for t in p.steps], ax) is ax
    assert len(ax.lines) == 3 * 4 + 4 * 2
    weights = np.concatenate([W.ravel() for W in p.W])
    widths = np.array([line.get_linewidth() for line in ax.lines])
    assert np.corrcoef(widths, np.abs(weights))[0, 1] == pytest.approx(1)
    assert [line.get_linestyle() == "--" for line in ax.lines] == list(weights < 0)
    texts = [text.get_text().replace("\N{MINUS SIGN}", "-") for text in ax.texts]
    for value in np.concatenate(values + deltas):
        assert f"{value:.3g}" in texts
    plt.close(figure)


def test_the_drawing_of_all_samples_has_derivatives_of_the_mean_loss_in_its_nodes():
    p = network("relu, softmax, cross-entropy")
    figure = figures.draw(paths.chain(p, "W1[0,0]"))
    written = [text.get_text().replace("\N{MINUS SIGN}", "-") for text in figure.axes[0].texts]
    for layer in paths.autodiff(p.J)(p.params, p.X, p.Y):
        for db in np.asarray(layer.b):  # the mean over the samples of what is added to z
            assert f"{db:.3g}" in written
    assert "300 samples (a: mean, dZ: mean)" in figure.get_suptitle()
    plt.close(figure)


@pytest.mark.parametrize("sizes", [(2, 9, 3), (2, 2, 2, 2, 2, 2)])
def test_a_network_too_large_to_draw_is_refused(sizes):
    units = [np.zeros(d) for d in sizes]
    edges = [np.zeros(shape) for shape in itertools.pairwise(sizes)]
    with pytest.raises(ValueError, match=re.escape(f"a network {sizes} is too large to read")):
        graph.network(units, units, edges, edges, None)


def test_a_sample_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"sample must lie in 0..299, got 300"):
        problem(Config(sample=300))
