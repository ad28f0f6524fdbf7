"""Models that know nothing of jaxmlp: norms against vmap(grad), what they find, the figure."""

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from support import relative_error

from experiments.any_model import __main__ as script
from experiments.any_model import figures, measure, models
from jaxmlp import per_sample

matplotlib.use("Agg")
EVERY = models.all_models(8)
X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 64)), jnp.float32)
Y = jnp.arange(6) % 10


@pytest.mark.parametrize("model", EVERY, ids=lambda model: model.name)
def test_gradient_and_norms_are_those_of_vmap_of_grad(model):
    params = model.init(jax.random.key(1))
    value, out = jax.jit(lambda *args: measure.ours(model.loss, *args))(params, X, Y)
    naive = jax.jit(lambda *args: measure.naive(model.loss, *args))(params, X, Y)
    assert relative_error(value, naive[0]) < 1e-6
    assert relative_error(out["per_sample_norms"], naive[2]) < 1e-5


def test_parts_of_a_model_that_are_materialised_are_the_ones_said():
    formed = {}
    for model in EVERY:
        told = per_sample.explain(model.loss, model.init(jax.random.key(0)), X[0], Y[0]).leaves
        formed[model.name] = {leaf.why for leaf in told if not leaf.factored}
    add, gains, filters = "enters `add`", "enters `mul`", "enters a convolution"
    assert list(formed.values()) == [{add}, {add, gains}, {add, gains}, {add, filters}]


def test_training_lowers_the_loss_and_norms_find_what_does_not_fit():
    model, rng = EVERY[0], np.random.default_rng(1)
    true = rng.integers(0, 10, 256)
    X = rng.normal(size=(256, 64)) + 3 * np.eye(64)[true]
    flipped = np.arange(256) < 13
    Y = np.where(flipped, (true + 1) % 10, true)
    found = measure.repetition(model, jnp.asarray(X, jnp.float32), jnp.asarray(Y), flipped, 40,
                               jax.random.key(0))  # fmt: skip
    assert found.score.shape == (256,)
    assert measure.precision_at_top([found]) > 0.8
    assert measure.precision_at_top([found._replace(score=-found.score)]) == 0


def test_figure_shows_a_row_for_each_model_and_a_bar_for_each_rival():
    flipped = np.arange(20) < 2
    found = {
        "a (b)": [measure.Found(flipped, 1.0 * flipped)],
        "c": [measure.Found(flipped, np.arange(20.0))],
    }
    rows = [
        {"model": name, "precision in top": top, "time, ours": 1.1, "memory, ours": 1.2,
         "time, vmap(grad)": 20.0, "memory, vmap(grad)": 30.0}
        for name, top in (("a (b)", 1.0), ("c", 0.0))
    ]  # fmt: skip
    figure = figures.found_and_cost(found, rows)
    left, middle, right = figure.axes
    assert len(left.lines) == 2
    assert [bar.get_width() for bar in middle.patches] == [1.1, 1.1, 20, 20]
    assert [bar.get_width() for bar in right.patches] == [1.2, 1.2, 30, 30]
    plt.close(figure)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 10}, "width must be a multiple of 4"),
        ({"flipped": 1.0}, "flipped must lie between 0 and 1, got 1.0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        script.check(script.Config(**options))
