"""Models that know nothing of jaxmlp: norms against vmap(grad), what they find, what they cost."""

import jax
import numpy as np
import pytest
from support import relative_error

from experiments.any_model import cost, figures, finding, models
from experiments.any_model.options import Config

# the other two stand among the models of test_any_model
MODELS = [models.flax_attention, models.plain_convolution]
X = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
Y = np.arange(6) % 10


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_gradient_and_norms_are_those_of_vmap_of_grad(build):
    model = build(8)
    params = jax.jit(model.init)(jax.random.key(1))
    value, out = jax.jit(lambda *args: cost.ours(model.loss, *args))(params, X, Y)
    naive = jax.jit(lambda *args: cost.naive(model.loss, *args))(params, X, Y)
    assert relative_error(value, naive[0]) < 1e-5
    found = jax.tree.map(np.asarray, (out["grad"], naive[1]))
    leaves = list(zip(*map(jax.tree.leaves, found), strict=True))
    largest = max(float(np.abs(theirs).max()) for _, theirs in leaves)
    for ours, theirs in leaves:
        # The bias of attention's keys has no gradient: softmax does not see it. Both are rounding
        rounding = 1e-6 * largest
        if np.abs(theirs).max() < rounding:
            assert np.abs(ours).max() < rounding
        else:
            assert relative_error(ours, theirs) < 1e-4
    assert relative_error(out["per_sample_norms"], naive[2]) < 1e-4


def test_precision_in_the_top_counts_flipped_labels_among_the_highest_scores():
    flipped = np.array([True, False, True, False])
    scores = ([4, 3, 2, 1], [4, 1, 3, 2], [1, 4, 2, 3])
    found = [finding.Found(flipped, np.array(score)) for score in scores]
    assert finding.precision_at_top(found) == 0.5  # of 1/2, 1 and 0


def test_a_time_is_the_median_of_what_it_is_in_each_round(monkeypatch):
    seconds = [[2.0, 4.0, 2.0, 2.0, 2.0], [6.0, 4.0, 2.0, 8.0, 4.0]]  # ratios 3, 1, 1, 4, 2
    monkeypatch.setattr(cost, "in_turns", lambda runs, rounds: seconds)
    ((who, row),) = cost.prices({("", cost.PLAIN): None, ("here", cost.NORMS): None}, 5)
    assert (who, row["low"], row["time"], row["high"]) == (("here", cost.NORMS), 1, 2, 3)


def test_the_bytes_of_dZ_are_those_of_every_product():
    model = models.dense((64, 7, 10), "small")
    assert cost.bytes_of_dZ(model.loss, model.init(jax.random.key(0)), X, Y) == 6 * (7 + 10) * 4


def rows_of(quantities):
    return [
        {"model": f"m{i}", "batch": 8, "quantity": quantity, "library": library, "time": time,
         "low": 0.9 * time, "high": 1.1 * time, "memory": time, "1.1 and dZ": 1.2}
        for quantity, times in quantities.items()
        for library, by_model in times.items()
        for i, time in enumerate(by_model)
    ]  # fmt: skip


def test_figures_say_the_ranges_and_draw_a_bar_for_each_model_and_library():
    costs = rows_of({cost.NORMS: {"here": [0.9, 1.1], "vmap(grad)": [7.0, 70.0]}})
    found = {"m0": [finding.Found(np.arange(8) < 2, np.arange(8.0))] * 2}
    told = [{"model": "m0", "precision in top": share} for share in (0.8, 1.0)]
    left, *both = figures.found_and_cost(found, told, costs).axes
    assert "80% to 100%" in left.get_title()
    for ax, what in zip(both, ("time", "memory"), strict=True):
        assert ax.get_title() == f"{what} of norms: 0.9 to 1.1,\nby vmap(grad) 7 to 70"
        assert sorted(bar.get_width() for bar in ax.patches) == [0.9, 1.1, 7.0, 70.0]
    peers = rows_of({cost.NORMS: {"here": [1.0], "BackPACK": [2.0]}, cost.CLIPPED: {"here": [1.5]}})
    first, second = figures.peers(peers).axes
    assert first.get_title() == "gradient and norms: here at most 1, others 2 to 2"
    assert second.get_title() == "clipped gradient: here at most 1.5"
    assert len(first.collections) == 2  # the quartiles


def test_options_are_checked(monkeypatch):
    from experiments.any_model.options import check

    with pytest.raises(ValueError, match="width must be a multiple of 4"):
        check(Config(width=6))
    with pytest.raises(ValueError, match="batch_size must be at most 1797"):
        check(Config(batch_size=1798))
    with pytest.raises(ValueError, match="flipped must lie between 0 and 1, got 1"):
        check(Config(flipped=1.0))
