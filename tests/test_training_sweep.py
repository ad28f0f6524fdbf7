"""training_sweep: each row is what `fit` alone reaches, whatever the executor, store or rate."""

import jax
import numpy as np
import optax
import pytest
from support import relative_error

import jaxmlp
from jaxmlp import SweepTable, fit, training_sweep
from jaxmlp.flow import GradientFlow

RNG = np.random.default_rng(0)
DATA = {"X": RNG.normal(size=(10, 3)), "Y": RNG.integers(0, 3, 10)}
GRID = {"activations": "tanh", "inits": ("he", "lecun"), "depths": 2, "width": 4,
        "seeds": (0, 3), "batch_size": 4, "num_steps": 7}  # fmt: skip
ROUNDING = 1e-10


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def sweep(**way):
    return training_sweep(**GRID | DATA | {"optimizer": "momentum:0.05:0.9"} | way)


def alone(row, steps, optimizer, K=3, loss="cross_entropy", Y=DATA["Y"]):
    """Parameters and objective of one network, trained by `fit`."""
    output = {"cross_entropy": "softmax"}.get(loss, "linear")
    mlp = jaxmlp.MLP((3, *[4] * row["depth"], K), hidden="tanh", output=output)
    J, key = jaxmlp.Objective(mlp, loss), jax.random.key(row["seed"])
    trained, _ = fit(J, J.mlp.init(key, row["init"]), DATA["X"], Y, optimizer=optimizer,
                     num_steps=steps, batch_size=4, key=jax.random.fold_in(key, 2**31))  # fmt: skip
    return J, trained


def test_every_row_is_that_of_fit_and_gradient_flow(x64):
    validation = DATA["X"][:5] + 1, DATA["Y"][:5]
    table = sweep(validation=validation, record_at=(0, 5, 7))
    rows = table.summary()
    assert len(rows) == 4 * 3
    assert {row["verdict"] for row in rows} <= {"healthy", "vanishing", "exploding"}
    for row in rows[::5]:
        J, params = alone(row, row["step"], optax.sgd(0.05, momentum=0.9))
        own = table.select(**{k: row[k] for k in ("init", "depth", "seed", "step")}).columns()
        right = (np.asarray(J.mlp.apply(params, DATA["X"])).argmax(axis=1) == DATA["Y"]).mean()
        assert relative_error(own["loss"], [J(params, **DATA)] * (row["depth"] + 1)) <= ROUNDING
        assert relative_error(row["validation_loss"], J(params, *validation)) <= ROUNDING
        assert relative_error(row["accuracy"], right) <= 1e-6  # a float32 share
        assert row["diverged"] == 0
        flow = jaxmlp.gradient_flow(J)(params, **DATA)
        for field in GradientFlow._fields:
            np.testing.assert_allclose(own[field], getattr(flow, field), atol=1e-6, rtol=0)


def test_learning_rates_are_an_axis_and_what_diverges_does_not_stop_the_others(x64):
    rates, Y = (0.01, 1e300), DATA["X"][:, 0] ** 2
    way = {"inits": "he", "seeds": (0,), "num_steps": 6, "loss": "half_squared_error", "Y": Y,
           "learning_rates": rates}  # fmt: skip
    table = sweep(optimizer="sgd", **way)
    rows = table.summary()
    assert [(row["learning_rate"], row["step"]) for row in rows[:4]] == [
        (0.01, 0), (0.01, 6), (1e300, 0), (1e300, 6),
    ]  # fmt: skip
    assert [row["diverged"] for row in rows[:4]] == [0, 0, 0, 1]
    assert rows[3]["verdict"] == "not finite"
    J, params = alone(rows[1], 6, 0.01, 1, "half_squared_error", Y)
    assert relative_error(rows[1]["loss"], J(params, DATA["X"], Y)) <= ROUNDING
    of_factory = sweep(optimizer=optax.sgd, **way)
    np.testing.assert_array_equal(of_factory.columns()["loss"], table.columns()["loss"])


def test_a_store_trains_only_what_is_missing(x64, tmp_path):
    path, told = tmp_path / "runs.db", []
    small = {"inits": "he", "depths": 2, "store": path}
    first = sweep(seeds=(0,), **small).columns()
    again = sweep(**small, progress=lambda *call: told.append(call)).columns()
    assert told[0] == (1, 2)
    for name in ("loss", "log10_delta"):
        np.testing.assert_array_equal(again[name][: len(first[name])], first[name])
    other = sweep(**small, optimizer="adam:0.1", progress=lambda *call: told.append(call))
    assert told[-2:] == [(1, 2), (2, 2)]
    assert not np.array_equal(other.columns()["loss"], again["loss"])
    assert set(other.columns()["optimizer"]) == {"adam:0.1"}


@pytest.mark.parametrize(
    ("way", "error", "sentence"),
    [
        ({"optimizer": "adamm:1"}, ValueError, "unknown optimizer 'adamm'; did you mean 'adam'?"),
        ({"optimizer": "adam"}, ValueError, "has 0 arguments, expected adam:learning_rate"),
        ({"optimizer": "sgd:-1"}, ValueError, "the learning rate must be finite and above 0"),
        ({"optimizer": "sgd:1", "learning_rates": (1,)}, ValueError, "the name alone"),
        ({"optimizer": "sgd", "learning_rates": (1, 1)}, ValueError, "must be different numbers"),
        ({"record_at": (8,)}, ValueError, r"record_at must be steps in 0\.\.7, got \[8\]"),
        ({"num_steps": -1}, ValueError, "num_steps must be at least 0, got -1"),
        ({"validation": (DATA["X"][:, :2], DATA["Y"])}, ValueError, "X has 2 features"),
        ({"optimizer": optax.sgd(0.1), "store": "x.db"}, ValueError, "a store takes a name"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(way, error, sentence, x64):
    with pytest.raises(error, match=sentence):
        sweep(**way)


def test_the_table_is_a_sweep_table(x64):
    table = sweep(inits="he", depths=2, seeds=(0,), num_steps=1)
    assert isinstance(table, SweepTable)
    assert {"step", "loss", "accuracy", "learning_rate", "diverged"} <= set(table.columns())
    (over,) = table.select(step=1).summary(over_seeds=True)
    assert relative_error(over["loss"], table.select(step=1).columns()["loss"][0]) <= ROUNDING
    assert "&lt;" not in table._repr_html_()
