"""The activations: properties against closed forms, differences between hand and autodiff."""

import math

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.special

from experiments.activations import figures, lecture, measured
from experiments.activations.options import NOTES
from jaxmlp import activations, plotting
from jaxmlp.activations import Activation

matplotlib.use("Agg")

NAMES = [name for name in activations.names() if name != "swish"]
INF = math.inf


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def chosen(name):
    (act,) = measured.choose((name,))
    return act


# --- the derivatives ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "leaky_relu:0.1", "elu:-0.7"])
def test_derivative_by_hand_is_that_of_autodiff_to_the_last_bits(name):
    act = chosen(name)
    curve = measured.curve(act, measured.grid(4.0, act.kinks))
    assert len(curve.z) > 1500
    assert curve.difference.max() < 1e-14  # rounding, relative to the steepest slope


def test_difference_shows_a_derivative_wrong_by_a_millionth():
    z, slope = np.linspace(-1, 1, 5), np.array([0.0, 1.0, 2.0, 4.0, 1.0])
    assert measured.Curve(z, z, slope * (1 + 1e-6), slope).difference.max() == pytest.approx(1e-6)
    assert measured.Curve(z, z, 1e-30 + 0 * slope, 0 * slope).difference.max() == INF
    assert measured.Curve(z, z, 0 * slope, 0 * slope).difference.max() == 0


def test_softmax_of_one_input_is_a_sigmoid_shifted_by_log_two():
    act, z = chosen("softmax"), np.linspace(-5, 5, 11)
    s = scipy.special.expit(z - np.log(2))
    A = act.fn(jnp.asarray(z))
    np.testing.assert_allclose(A, s, rtol=1e-14)
    np.testing.assert_allclose(act.derivative(jnp.asarray(z), A), s * (1 - s), rtol=1e-13)


def test_slope_of_prelu_has_the_derivative_of_the_formula():
    assert lecture.slope_difference(4.0) < 1e-14


# --- D13 ------------------------------------------------------------------------------------------

ROWS = {  # inf, sup, steepest, zero-centred, mean over |z| < 4, monotonic, saturates, slope 0
    "linear:-3": (-INF, INF, 3, "yes", 0, "falling", "no", "nowhere"),
    "step": (0, 1, 0, "no", 0.5, "rising", "both", "everywhere"),
    "piecewise_linear": (0, 1, 1, "no", 0.5, "rising", "both", "z < -0.5, 0.5 < z"),
    "sigmoid": (0, 1, 0.25, "no", 0.5, "rising", "both", "nowhere"),
    "tanh": (-1, 1, 1, "yes", 0, "rising", "both", "nowhere"),
    "relu": (0, INF, 1, "no", 1, "rising", "left", "z < 0"),
    "relu:-1": (-1, INF, 1, "no", 7.5 / 8, "no", "left", "z < -1"),
    "leaky_relu:0.1": (-INF, INF, 1, "no", 0.9, "rising", "no", "nowhere"),
    "elu": (-1, INF, 1, "no", (8 + 1 - math.exp(-4) - 4) / 8, "rising", "left", "nowhere"),
    "sin": (-1, 1, 1, "yes", 0, "no", "no", "nowhere"),
    "softsign": (-1, 1, 1, "yes", 0, "rising", "both", "nowhere"),
    "squared_relu": (0, INF, INF, "no", 64 / 3 / 8, "rising", "left", "z < 0"),
    "softmax": (0, 1, 0.25, "no", None, "rising", "both", "nowhere"),
    "silu": (-float(scipy.special.lambertw(1 / math.e).real), INF, 1.0998, "no", None, "no",
             "left", "nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_properties_are_those_of_the_formula(name):
    low, high, steepest, centred, mean, monotonic, saturates, dead = ROWS[name]
    found = measured.properties(chosen(name))
    assert found["inf"] == pytest.approx(low, abs=1e-5)  # of the grid
    assert found["sup"] == pytest.approx(high, abs=1e-5)
    assert found["steepest"] == pytest.approx(steepest, abs=1e-4)
    if mean is not None:
        assert found["mean"] == pytest.approx(mean, rel=2e-3, abs=1e-12)
    keys = ("zero-centred", "monotonic", "saturates", "slope 0")
    assert tuple(found[key] for key in keys) == (centred, monotonic, saturates, dead)


def test_a_line_with_an_offset_and_a_bump_are_told_from_a_line():
    offset = measured.properties(activations.linear(1, 0.01))
    bump = measured.properties(
        Activation("bump", lambda Z: jnp.exp(-(Z**2)), lambda Z, A: -2 * Z * A)
    )
    assert (offset["zero-centred"], offset["monotonic"]) == ("no", "rising")
    assert (bump["monotonic"], bump["saturates"]) == ("no", "both")


@pytest.mark.parametrize(
    ("slope", "region"),
    [
        ([1, 0, 0, 1, 1], "-0.75 < z < 0.25"),
        ([0, 1, 1, 1, 0], "z < -0.75, 0.75 < z"),
        ([1, 1, 0, 1, 1], "-0.25 < z < 0.25"),
        ([1, 1, 1, 1, 0], "0.75 < z"),
    ],
)
def test_dead_region_is_where_the_slope_is_zero(slope, region):
    assert measured.dead_region(np.linspace(-1, 1, 5), np.array(slope)) == region


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step", [(0, "0 | 1", "0.5", "0 | 0", "0")]),
        ("leaky_relu", [(0, "0 | 0", "0", "0.01 | 1", "1")]),
        ("relu:0.5", [(0.5, "0 | 0.5", "0", "0 | 1", "0")]),
        ("hard_tanh", [(-1, "-1 | -1", "-1", "0 | 1", "1"), (1, "1 | 1", "1", "1 | 0", "1")]),
        ("tanh", []),
    ],
)
def test_kinks_show_both_sides_and_the_convention(name, expected):
    rows = measured.at_kinks(chosen(name))
    assert [tuple(row.values())[1:] for row in rows] == expected


# --- what the notes say ---------------------------------------------------------------------------


def test_identities_of_the_notes_hold_to_rounding_but_for_two_conventions():
    found = lecture.identities(4.0)
    step = found.pop("D2  step, 1/2 at 0; one of the notes has 1")
    steep = found.pop("D9  prelu = max(alpha z, z), alpha = 1.5")
    assert (step, steep) == (0.5, 2.0)  # at 0; at z = 4 and -4, where 1.5 z and z are 2 apart
    assert len(found) == 7
    assert max(found.values()) < 1e-15


def test_softmax_of_the_notes_example_has_the_jacobian_of_the_formula():
    s, jacobian, error = lecture.softmax_jacobian()
    np.testing.assert_allclose(s, (0.2236, 0.6718, 0.0909, 0.0136), atol=1e-4)
    reference = scipy.special.softmax(lecture.SOFTMAX_Z)
    expected = np.diag(reference) - np.outer(reference, reference)
    np.testing.assert_allclose(jacobian, expected, rtol=1e-13)
    assert error < 1e-15


def test_all_activations_are_shown_those_of_the_lecture_first():
    names = [act.name for act in measured.choose(())]
    assert sorted(names) == sorted(NAMES)
    assert tuple(names[:12]) == NOTES
    groups = figures.groups(measured.choose(("leaky_relu:0.1", "gelu", "swish")))
    assert {k: [act.name for act in v] for k, v in groups.items()} == {
        "": ["leaky_relu:0.1"], "_beyond": ["gelu", "silu"],
    }  # fmt: skip


# --- figures --------------------------------------------------------------------------------------


def test_an_activation_is_drawn_with_its_derivative_and_dots_at_its_kinks():
    figure, ax = plt.subplots()
    assert plotting.activation(activations.step, ax, reach=2.0) is ax
    left, slope, right, _, dot, slope_dot = ax.lines
    assert (set(left.get_ydata()), set(slope.get_ydata())) == ({0}, {0})
    assert set(right.get_ydata()) == {1}
    assert (dot.get_xydata().tolist(), slope_dot.get_xydata().tolist()) == ([[0, 0.5]], [[0, 0]])
    plt.close(figure)


def test_prelu_is_drawn_with_the_derivative_in_its_slope():
    figure, ax = plt.subplots()
    plotting.activation(activations.prelu, ax)
    below = {line.get_label(): line.get_ydata()[0] for line in ax.lines[:3]}
    assert below == pytest.approx(
        {"function": -1, "derivative": 0.25, "derivative in the slope": -4}, rel=1e-4
    )
    plt.close(figure)


def test_the_panel_of_a_derivative_marks_its_largest_magnitude():
    for name, z, value in (("tanh", 0.0, "1"), ("sin", 0.0, "1"), ("relu", 1e-9, "1")):
        act = chosen(name)
        curve = measured.curve(act, measured.grid(4.0, act.kinks))
        figure, ax = plt.subplots()
        assert figures.derivative(act, curve, ax, 4.0) is ax
        assert abs(ax.lines[-1].get_xdata()[0]) == pytest.approx(z)
        assert [text.get_text() for text in ax.texts] == [value]
        assert len(ax.lines) == len(act.kinks) + 2  # a line on either side of a kink, and the dot
        plt.close(figure)


def test_gallery_gives_every_activation_two_panels_and_hides_the_rest():
    acts = [chosen(name) for name in ("relu", "sigmoid", "tanh", "sin", "prelu")]
    curves = {act: measured.curve(act, measured.grid(4.0, act.kinks)) for act in acts}
    figure = figures.gallery(curves, 4.0)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown if ax.get_title()] == [
        "D7 relu", "D5 sigmoid", "D6 tanh", "sin", "D9 prelu",
    ]  # fmt: skip
    assert len(shown) == 10
    slopes = [ax.get_ylim() for ax in shown if not ax.get_title()]
    assert len(set(slopes)) == 1  # one scale
    assert max(top for _, top in slopes) < 2
    plt.close(figure)
