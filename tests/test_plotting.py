"""Every figure draws on the axes it is given, and returns them."""

import functools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from support import problem

import jaxmlp
from jaxmlp import plotting
from jaxmlp.plotting import style

matplotlib.use("Agg")


@functools.cache  # compiled by the first test that draws it, and not where tests are collected
def table():
    rng = np.random.default_rng(0)
    data = {"X": rng.normal(size=(7, 3)).astype("float32"), "Y": np.arange(7) % 2}
    return jaxmlp.depth_sweep(activations="tanh", depths=(2, 3), seeds=(0, 1), width=4, **data)


def flow():
    J, *data = problem((3, 4, 2), labels=True)
    return jaxmlp.gradient_flow(J)(*data)


DRAWINGS = {
    "gradient_flow": lambda ax: plotting.gradient_flow(flow(), ax),
    "depth_sweep": lambda ax: plotting.depth_sweep(table(), ax, x="distance"),
    "decades_lost": lambda ax: plotting.decades_lost(table(), ax),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_draws_on_the_axes_given_and_returns_them(name):
    figure, ax = plt.subplots()
    assert DRAWINGS[name](ax) is ax
    assert ax.has_data()
    assert ax.get_xlabel()
    plt.close(figure)


def test_figures_write_an_activation_as_prose_does():
    names = {"leaky_relu:0.1": "leaky ReLU 0.1", "elu": "ELU", "tanh": "tanh"}
    assert {name: style.written(name) for name in names} == names


def test_the_lines_of_a_depth_sweep_are_the_medians_of_the_table():
    figure, ax = plt.subplots()
    plotting.depth_sweep(table().select(init="he"), ax)
    delta = table().select(init="he", depth=3).columns()["log10_delta"].reshape(2, 4)
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), np.median(delta, axis=0))
    plt.close(figure)


def test_the_map_of_decades_lost_writes_what_the_summary_says():
    figure, ax = plt.subplots()
    plotting.decades_lost(table(), ax)
    rows = sorted(table().summary(over_seeds=True), key=lambda row: (row["init"], row["depth"]))
    cells = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in ax.texts}
    names = [label.get_text() for label in ax.get_yticklabels()]
    for row in rows:
        at = names.index(f"tanh, {row['init']}"), (2, 3).index(row["depth"])
        assert cells[at] == f"{-row['log10_change']:z.1f}"
    assert len(cells) == len(rows)
    plt.close(figure)
