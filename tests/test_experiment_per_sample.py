"""The search for flipped labels: scores against autodiff and NumPy, what they find and keep."""

import dataclasses

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from support import relative_error

import jaxmlp
from experiments.per_sample import data, figures, pruning, report, scores
from experiments.per_sample.options import Config, check

matplotlib.use("Agg")
pytest.importorskip("sklearn")

CONFIG = Config(
    num_train=200, num_networks=3, score_epoch=12, epochs=60, shares=(0.5,), num_seeds=1,
    width=16, batch_size=100,
)  # fmt: skip
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def run():
    return scores.repetition(CONFIG, 0)


@pytest.fixture(scope="module")
def watched(run):
    return scores.watch(CONFIG, scores.objective(CONFIG, run.train), run.train.X, run.Y, KEY)


def networks(run, epochs):
    """The parameters of each network after so many epochs, by a `fit` that records nothing."""
    J = scores.objective(CONFIG, run.train)
    for i in range(CONFIG.num_networks):
        params, order = scores.start(J, jax.random.fold_in(KEY, i))
        optimizer = scores.optimizer(CONFIG.learning_rate)
        yield jaxmlp.fit(
            J, params, run.train.X, run.Y, optimizer=optimizer, epochs=epochs,
            batch_size=CONFIG.batch_size, key=order,
        )[0]  # fmt: skip


def own_gradients(run, params):
    """Each sample's gradient by autodiff, flattened, layer by layer: [(m, parameters), ...]."""
    J = scores.objective(CONFIG, run.train)
    X, Y = np.float32(run.train.X), run.Y

    def gradient(x, y):
        return jax.grad(J)(params, x[None], y[None])

    return [
        np.concatenate([np.reshape(leaf, (len(Y), -1)) for leaf in (layer.W, layer.b)], axis=1)
        for layer in jax.vmap(gradient)(X, Y)
    ]


def softmax(run, params):
    """The network by hand in float64."""
    A = run.train.X
    for layer in params:
        Z = A @ np.asarray(layer.W, np.float64) + np.asarray(layer.b, np.float64)
        A = np.maximum(Z, 0)
    return np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "share", "count"), [(1438, 0.05, 72), (200, 0.5, 100)])
def test_the_share_is_flipped_exactly_and_never_to_the_same_label(m, share, count):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 10, m).astype(np.int32)
    given, flipped = data.flip(true, share, 10, rng)
    assert flipped.sum() == count
    np.testing.assert_array_equal(given != true, flipped)
    assert given.dtype == true.dtype
    assert (given.min(), given.max()) == (0, 9)
    assert set((given - true)[flipped] % 10) == set(range(1, 10))  # each other class


def test_repetitions_differ_in_test_set_and_flipped_labels(run):
    config = dataclasses.replace(CONFIG, num_networks=1, epochs=1, score_epoch=1)
    again, other = (scores.repetition(config, number) for number in (0, 1))
    np.testing.assert_array_equal(again.train.X, run.train.X)
    np.testing.assert_array_equal(again.Y, run.Y)
    assert not np.array_equal(other.test.Y, run.test.Y)
    assert not np.array_equal(other.flipped, run.flipped)
    assert run.flipped.sum() == 10


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, CONFIG.score_epoch])
def test_grand_is_the_mean_norm_of_autodiff_gradients_over_all_parameters(run, watched, epoch):
    layers, totals = [], []
    for params in networks(run, epoch):
        norms = [np.linalg.norm(g, axis=1) for g in own_gradients(run, params)]
        layers.append(np.stack(norms, axis=1))
        totals.append(np.linalg.norm(layers[-1], axis=1))
    # float32 rounding; twelve epochs carry it on
    assert relative_error(watched.grand[epoch], np.mean(totals, axis=0)) < 1e-4
    assert relative_error(watched.layer_norms[epoch], np.mean(layers, axis=0)) < 1e-4
    assert relative_error(watched.grand[epoch + 1], np.mean(totals, axis=0)) > 1e-2


@pytest.mark.parametrize("epoch", [0, CONFIG.score_epoch])
def test_el2n_and_loss_are_their_formulas_in_numpy(run, watched, epoch):
    A = np.stack([softmax(run, params) for params in networks(run, epoch)])
    Y = np.eye(10)[run.Y]
    assert relative_error(watched.el2n[epoch], np.sqrt(((A - Y) ** 2).sum(-1)).mean(0)) < 1e-4
    assert relative_error(watched.loss[epoch], -np.log((A * Y).sum(-1)).mean(0)) < 1e-4


def test_noise_scale_is_trace_of_covariance_over_squared_mean(run, watched):
    for noise, params in zip(watched.noise, networks(run, 0), strict=True):
        g = np.concatenate(own_gradients(run, params), axis=1).astype(np.float64)
        expected = g.var(axis=0, ddof=1).sum() / (g.mean(axis=0) ** 2).sum()
        assert relative_error(noise[0], expected) < 1e-4
    assert watched.noise.shape == (3, CONFIG.epochs + 1)
    assert np.isfinite(watched.noise).all()
    assert (watched.noise > 0).all()


def test_gradients_find_flipped_labels_after_a_few_epochs_and_not_before_the_first(run):
    found = {name: report.average_precision(run.flipped, s) for name, s in run.scores.items()}
    base = run.flipped.mean()
    for score in ("GraNd, epoch 12", "EL2N, epoch 12", "loss, epoch 12"):
        assert found[score] > 6 * base
    for score in ("GraNd, epoch 0", "random"):
        assert found[score] < 3 * base


# --- pruning --------------------------------------------------------------------------------------


def test_kept_rows_are_the_ends_of_the_order_in_the_stated_sizes():
    score = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.0])
    assert pruning.kept(score, 1 / 3, "hardest").tolist() == [2, 4]
    assert pruning.kept(score, 1 / 3, "easiest").tolist() == [1, 3]
    m = 1438
    for share in (0.25, 0.95):
        for keep in pruning.KEEP:
            rows = pruning.kept(np.arange(m) % 7, share, keep)
            assert len(set(rows.tolist())) == len(rows) == round(share * m)
    hard, easy = (pruning.kept(np.arange(m) % 7, 0.5, keep) for keep in pruning.KEEP)
    assert sorted([*hard, *easy]) == list(range(m))


def test_pruning_has_a_row_for_each_cell_and_counts_what_is_right(run, monkeypatch):
    trained = []

    def accuracy(config, run, rows):
        trained.append(len(rows))
        return len(rows) / 1000

    monkeypatch.setattr(pruning, "accuracy", accuracy)
    rows = pruning.pruning(CONFIG, 0, run)
    assert trained == [200] + [100] * (len(run.scores) * 2)
    assert [(r["share"], r["accuracy"]) for r in rows] == [(0.5, 0.1), (1.0, 0.2)] * 10
    assert len({(r["score"], r["keep"], r["share"]) for r in rows}) == len(rows)
    (line, *_) = report.summary(CONFIG, [run], rows)
    assert line["accuracy, easiest 50%"] == 0.1


def test_accuracy_is_that_of_a_network_trained_on_the_rows(run):
    assert pruning.accuracy(CONFIG, run, np.arange(200)) > 0.75
    threes = run._replace(Y=np.full_like(run.Y, 3))
    share = float((run.test.Y == 3).mean())
    assert pruning.accuracy(CONFIG, threes, np.arange(200)) == pytest.approx(share, abs=1e-6)


# --- input, figures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"flipped": 0.0}, "flipped must lie between 0 and 1, got 0.0"),
        ({"shares": (0.5, 1.5)}, "shares must lie between 0 and 1, got 1.5"),
        ({"epochs": 5}, "epochs must be at least 12, got 5"),
        ({"num_networks": 0}, "num_networks must be at least 1"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        check(dataclasses.replace(CONFIG, **options))


def test_shares_of_nothing_and_too_many_samples_are_refused():
    with pytest.raises(ValueError, match=r"a share of 0.01 flips none of 10 labels"):
        data.flip(np.zeros(10, int), 0.01, 10, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"a share of 0.01 keeps none of 10 samples"):
        pruning.kept(np.arange(10), 0.01, "hardest")
    config = dataclasses.replace(CONFIG, num_train=5000)
    with pytest.raises(ValueError, match=r"num_train must lie in 100..1438, got 5000"):
        data.split(config, KEY, np.random.default_rng(0))


def test_bands_are_medians_between_smallest_and_largest():
    figure, ax = plt.subplots()
    values = np.array([[0.0, 5.0, 1.0], [2.0, 4.0, 3.0], [7.0, 3.0, 2.0]])
    assert figures.through_epochs({"a": values}, ax) is ax
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 2], [1, 4], [2, 2]])
    (band,) = ax.collections
    assert (band.get_datalim(ax.transData).y0, band.get_datalim(ax.transData).y1) == (0, 7)
    plt.close(figure)


def test_norms_by_layer_draws_medians_and_says_their_ratio():
    figure, ax = plt.subplots()
    norms = np.array([[1.0, 10.0], [3.0, 30.0], [2.0, 20.0], [8.0, 80.0]])
    marked = np.array([False, False, False, True])
    assert figures.norms_by_layer({"epoch 0": norms, "epoch 1": 2 * norms}, marked, ax) is ax
    assert [np.asarray(line.get_ydata()).tolist() for line in ax.lines] == [
        [2, 20], [8, 80], [4, 40], [16, 160],
    ]  # fmt: skip
    assert "4, 4" in ax.get_title()
    plt.close(figure)


def test_figures_are_drawn_from_a_run(run):
    cells = ((score, keep) for score in run.scores for keep in pruning.KEEP)
    rows = [
        {"score": score, "keep": keep, "share": share, "accuracy": share}
        for score, keep in cells
        for share in (0.5, 1.0)
    ]
    found = figures.flipped(CONFIG, [run])
    assert len(found.axes[0].lines) == len(run.scores)
    training = figures.training(CONFIG, [run])
    np.testing.assert_array_equal(
        training.axes[0].lines[0].get_ydata(), np.median(run.watched.noise, axis=0)
    )
    kept = figures.pruning(rows)
    assert np.asarray(kept.axes[0].lines[0].get_xydata()).tolist() == [[0.5, 0.5], [1, 1]]
    digits = figures.digits(CONFIG, run)
    framed = [ax.spines["left"].get_visible() for ax in digits.axes]
    largest = np.argsort(-run.scores["GraNd, epoch 12"])[:20]
    assert framed == [*run.flipped[largest], *[False] * 10]
    shown = np.asarray(digits.axes[0].images[0].get_array()).ravel()
    np.testing.assert_array_equal(shown, run.pixels[largest[0]])
    plt.close("all")
