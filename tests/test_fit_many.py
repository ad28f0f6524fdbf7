"""Training many networks at once: each ends as `fit` alone would leave it, whatever the engine."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import relative_error, relative_errors

import jaxmlp
from jaxmlp import Layer, fit, fit_many
from jaxmlp.train.many import in_threads, side_by_side

ROUNDING = 1e-12  # in float64: a matrix product of many networks adds in another order

EVENTS = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: EVENTS.append(event))

engines = pytest.mark.parametrize("engine", [in_threads, side_by_side])


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def draw(n, shapes, m=7):
    """`(params of n networks, X, labels)`; a shape of three is that of a stacked Layer."""
    rng = np.random.default_rng(0)
    params = tuple(
        Layer(rng.normal(size=(n, *shape)) / 2, rng.normal(size=(n, *shape[:-2], shape[-1])))
        for shape in shapes
    )
    return params, rng.normal(size=(m, 2)), rng.integers(0, 3, m)


def network(params, k):
    return jax.tree.map(lambda leaf: leaf[k], params)


def assert_each_is_as_alone(J, params, X, Y, trained, history, optimizers, **way):
    """Compare with `fit` of each network; return how many epochs each took."""
    lengths = []
    for k, optimizer in enumerate(optimizers):
        alone, expected = fit(J, network(params, k), X, Y, optimizer=optimizer, **way)
        assert max(relative_errors(network(trained, k), alone).values()) <= ROUNDING
        lengths.append(len(expected.loss))
        for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
            column, one = getattr(history, name), getattr(expected, name)
            assert (column is None) == (one is None)
            if one is not None:
                assert column.dtype == one.dtype
                assert relative_error(column[k, : len(one)], one) <= ROUNDING
                assert np.isnan(column[k, len(one) :]).all()
    assert history.loss.shape == (len(optimizers), max(lengths))
    assert history.record is None
    assert history.diverged.tolist() == [False] * len(optimizers)
    return lengths


# --- as alone -------------------------------------------------------------------------------------


@engines
def test_each_network_is_as_alone_with_batches_a_key_validation_and_an_eps_that_some_reach(engine):
    J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3), hidden="tanh"), "cross_entropy")
    params, X, Y = draw(3, [(2, 4), (4, 3)])
    optimizer = optax.sgd(0.1, momentum=0.9)
    way = {"epochs": 9, "batch_size": 3, "key": jax.random.key(1, impl="unsafe_rbg")}
    way |= {"validation": (X[:5], Y[:5]), "eps": 0.8}
    trained, history = fit_many(J, params, X, Y, optimizer=optimizer, _engine=engine, **way)
    lengths = assert_each_is_as_alone(J, params, X, Y, trained, history, [optimizer] * 3, **way)
    assert min(lengths) < max(lengths)  # the test tests something


def decaying_adam(rate):
    return optax.adam(optax.cosine_decay_schedule(rate, 20))


@engines
def test_each_network_has_its_own_learning_rate_compared_and_in_stacked_layers(engine):
    J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 4, 4, 3), hidden="tanh", stack_from=1), "cross_entropy")
    params, X, Y = draw(2, [(2, 4), (2, 4, 4), (4, 3)])
    way, rates = {"epochs": 4, "gradient": "compare"}, np.array([0.01, 0.3])
    trained, history = fit_many(
        J, params, X, Y, optimizer=decaying_adam, learning_rates=rates, _engine=engine, **way
    )
    assert [layer.W.shape for layer in trained] == [(2, 2, 4), (2, 2, 4, 4), (2, 4, 3)]
    optimizers = [decaying_adam(float(rate)) for rate in rates]
    assert_each_is_as_alone(J, params, X, Y, trained, history, optimizers, **way)
    assert history.relative_difference.shape == (2, 4, 4)
    assert (history.relative_difference < ROUNDING).all()


# --- stopping -------------------------------------------------------------------------------------

REGRESSION = jaxmlp.Objective(jaxmlp.MLP((2, 1), output="linear"), "half_squared_error")
RATES = [0.5, 1e200, 0.05]


def regression():
    """Networks of which the first reaches `eps=0.01`, the second diverges, the third goes on."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(9, 2))
    params = (Layer(rng.normal(size=(3, 2, 1)), rng.normal(size=(3, 1))),)
    return params, X, X @ [1.0, -2.0] + 0.5


def fit_regression(engine, **way):
    return fit_many(
        REGRESSION, *regression(), optimizer=optax.sgd, learning_rates=RATES, _engine=engine, **way
    )


@engines
def test_a_network_that_diverges_stops_and_the_others_go_on(engine):
    way = {"eps": 0.01, "epochs": 30}
    trained, history = fit_regression(engine, **way)
    assert history.diverged.tolist() == [False, True, False]
    assert history.loss.shape == (3, 30)
    lengths = (~np.isnan(history.loss)).sum(axis=1).tolist()
    assert lengths[0] < 30
    assert lengths[1:] == [2, 30]  # 1e200 squared is inf
    assert history.loss[0, lengths[0] - 1] <= 0.01 < history.loss[0, lengths[0] - 2]
    params, X, Y = regression()
    for k, (rate, epochs) in enumerate(zip(RATES, lengths, strict=True)):
        alone, expected = fit(
            REGRESSION, network(params, k), X, Y, optimizer=rate, eps=0.01, epochs=epochs
        )
        finite = np.isfinite(alone[0].W)
        np.testing.assert_array_equal(np.isfinite(trained[0].W[k]), finite)
        assert finite.all() == (k != 1)
        assert relative_error(trained[0].W[k][finite], alone[0].W[finite]) <= ROUNDING
        np.testing.assert_allclose(history.loss[k, :epochs], expected.loss, rtol=ROUNDING)
    before = len(EVENTS)
    fit_regression(engine, epochs=7)
    assert not [event for event in EVENTS[before:] if event.endswith("backend_compile_duration")]


@engines
def test_no_epochs_change_nothing(engine):
    trained, history = fit_regression(engine, epochs=0)
    jax.tree.map(np.testing.assert_array_equal, trained, regression()[0])
    assert (history.loss.shape, history.diverged.tolist()) == ((3, 0), [False] * 3)


@engines
def test_progress_counts_the_epochs_of_all_networks(engine):
    calls = []
    fit_regression(engine, epochs=5000, progress=lambda *call: calls.append(call))
    assert calls == sorted(set(calls))
    assert calls[-1] == (15_000, 15_000)


@engines
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("of the caller")])
def test_what_was_trained_is_kept_when_it_ends_early(engine, error):
    def progress(done, epochs):
        raise error

    def run():
        return fit_regression(engine, epochs=10**7, progress=progress)

    if isinstance(error, KeyboardInterrupt):
        with pytest.warns(UserWarning, match=r"^stopped by Ctrl-C after \d+ of 3 x 10000000 epoch"):
            trained, history = run()
    else:
        with pytest.raises(ZeroDivisionError) as caught:
            run()
        trained, history = caught.value.trained
        assert caught.value.__notes__[-1].startswith("stopped after ")
    params, X, Y = regression()
    lengths = (~np.isnan(history.loss)).sum(axis=1).tolist()
    assert max(lengths) == history.loss.shape[1] > 0
    for k in (0, 2):  # perhaps not yet begun, in threads
        alone, expected = fit(
            REGRESSION, network(params, k), X, Y, optimizer=RATES[k], epochs=lengths[k]
        )
        assert relative_error(history.loss[k, : lengths[k]], expected.loss) <= ROUNDING
        assert relative_error(trained[0].W[k], alone[0].W) <= ROUNDING


# --- bad input ------------------------------------------------------------------------------------


def broken():
    (layer,), X, Y = regression()
    layer.b[2, 0] = np.nan
    return (layer,), X, Y


@pytest.mark.parametrize(
    ("way", "error", "sentence"),
    [
        ({"params": 1.0}, ValueError, "but the first axes of its arrays are [()]"),
        ({"params": network(regression()[0], 0)}, ValueError, "of its arrays are [(1,), (2,)]"),
        ({"params": broken()[0]}, ValueError, "network 2: b of layer 1 must be finite"),
        ({"learning_rates": [0.1, 0.2]}, ValueError, "must be 3 numbers, one for each network"),
        ({"learning_rates": 0.1}, ValueError, "one for each network, got shape ()"),
        ({"learning_rates": [0.1, 0, 1]}, ValueError, "learning_rates[1] must be finite and above"),
        ({"learning_rates": None}, TypeError, "call it: optax.sgd(1e-3)"),
        ({"optimizer": optax.sgd(0.1)}, TypeError, "must be a function of the learning rate that"),
        ({"optimizer": optax.constant_schedule}, TypeError, "(not called), got <function constant"),
        ({"optimizer": 0.1}, TypeError, "such as optax.adam (not called), got 0.1"),
        ({"epochs": -1}, ValueError, "epochs must be at least 0, got -1"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(way, error, sentence):
    params, X, Y = regression()
    call = {"params": params, "optimizer": optax.sgd, "learning_rates": RATES, "epochs": 1} | way
    with pytest.raises(error, match=re.escape(sentence)):
        fit_many(REGRESSION, X=X, Y=Y, **call)


def test_it_cannot_be_traced():
    with pytest.raises(TypeError, match=r"^fit_many is a loop on the host and cannot be traced"):
        jax.jit(lambda rates: fit_many(REGRESSION, *regression(), optimizer=optax.sgd,
                                       learning_rates=rates, epochs=1))(jnp.ones(3))  # fmt: skip
