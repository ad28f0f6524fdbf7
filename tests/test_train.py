"""Training: steps and epochs against plain Python loops over `jax.grad` and NumPy."""

import contextlib
import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import relative_error, relative_errors

import jaxmlp
from jaxmlp import Activation, Layer, activations, datasets, fit, train_step
from jaxmlp.train import host, loop
from jaxmlp.train.fit import prepare

# Rounding in float64, over a few dozen steps of a small network.
ROUNDING = 1e-11

EVENTS = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: EVENTS.append(event))


@contextlib.contextmanager
def compilations():
    """Count the programs that XLA compiles in the block, as the length of the list."""
    before, counted = len(EVENTS), []
    yield counted
    counted.extend(event for event in EVENTS[before:] if event.endswith("backend_compile_duration"))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


# One network for most of the module, so that its programs are compiled once.
J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3), hidden="tanh"), "cross_entropy")
M = 7


def draw(seed=0, m=M, dtype=np.float64):
    """Return `(params, X, Y)` drawn by NumPy, so that nothing is compiled."""
    rng = np.random.default_rng(seed)
    params = tuple(
        Layer(rng.normal(size=(d_in, d_out)).astype(dtype), rng.normal(size=d_out).astype(dtype))
        for d_in, d_out in ((2, 4), (4, 3))
    )
    return params, rng.normal(size=(m, 2)).astype(dtype), rng.integers(0, 3, m)


@functools.cache
def reference_step(optimizer):
    """Return one update with `jax.value_and_grad`, as in optax's documentation."""

    def step(params, state, X, Y):
        value, grads = jax.value_and_grad(J)(params, X, Y)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    return jax.jit(step)


def reference_epochs(params, X, Y, *, optimizer, epochs, batch_size=None, key=None):
    """Epochs as a plain Python loop: `(params after each epoch, mean loss of each epoch)`."""
    step, state = reference_step(optimizer), optimizer.init(params)
    m = len(X)
    history, losses = [], []
    for epoch in range(epochs):
        order = np.arange(m)
        if key is not None:
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), m))
        total = 0.0
        for i in range(0, m, batch_size or m):
            rows = order[i : i + (batch_size or m)]
            params, state, value = step(params, state, X[rows], Y[rows])
            total += float(value) * len(rows) / m
        history.append(params)
        losses.append(total)
    return history, losses


def assert_same_params(candidate, reference, tolerance=ROUNDING):
    assert max(relative_errors(candidate, reference).values()) <= tolerance


def assert_equal(candidate, reference):
    """Bit by bit."""
    jax.tree.map(np.testing.assert_array_equal, candidate, reference)


SGD, ADAM, MOMENTUM = optax.sgd(0.5), optax.adam(0.05), optax.sgd(0.1, momentum=0.9)


# --- one step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["hand", "jax", "compare"])
@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_steps_by_hand_by_jax_and_compared_all_follow_the_plain_loop(gradient, optimizer, x64):
    params, X, Y = draw()
    step, state = train_step(J, optimizer, gradient), optimizer.init(params)
    expected, losses = reference_epochs(params, X, Y, optimizer=optimizer, epochs=6)
    for reference, loss in zip(expected, losses, strict=True):
        params, state, metrics = step(params, state, X, Y)
        assert_same_params(params, reference)
        assert relative_error(metrics.loss, loss) <= ROUNDING
        if gradient == "compare":
            assert metrics.relative_difference.shape == (2,)
            assert (metrics.relative_difference <= ROUNDING).all()
        else:
            assert metrics.relative_difference is None


def test_metrics_describe_the_parameters_before_the_update(x64):
    params, X, Y = draw()
    (W1, b1), (W2, b2) = (layer[:2] for layer in params)
    Z = np.tanh(X @ W1 + b1) @ W2 + b2
    right = (Z.argmax(axis=1) == Y).mean()
    assert 0 < right < 1
    grads = jax.grad(J)(params, X, Y)
    norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(grads)))
    metrics = train_step(J, SGD)(params, SGD.init(params), X, Y)[2]
    assert relative_error(metrics.loss, J(params, X, Y)) <= ROUNDING
    assert relative_error(metrics.accuracy, right) <= 1e-7  # a float32 share
    assert relative_error(metrics.gradient_norm, norm) <= ROUNDING


def test_accuracy_of_a_regression_is_no_number():
    regression = jaxmlp.Objective(jaxmlp.MLP((2, 1), output="linear"), "mse")
    params = (Layer(jnp.ones((2, 1)), jnp.ones(1)),)
    step = train_step(regression, 0.1)
    assert jnp.isnan(step(params, optax.sgd(0.1).init(params), jnp.ones((4, 2)), np.ones(4))[2][1])


@pytest.mark.parametrize("rate", [0.5, np.float32(0.5), np.array(0.5), 1])
def test_a_number_is_the_learning_rate_of_plain_gradient_descent(rate):
    params, X, Y = draw(dtype=np.float32)
    optimizer = optax.sgd(float(rate))
    ours, _, _ = train_step(J, rate)(params, optimizer.init(params), X, Y)
    theirs, _, _ = train_step(J, optimizer)(params, optimizer.init(params), X, Y)
    assert_equal(ours, theirs)
    assert_equal(fit(J, params, X, Y, optimizer=rate, epochs=1)[0], theirs)


@pytest.mark.parametrize(
    "call", [train_step, lambda J, rate: fit(J, *draw(), optimizer=rate, epochs=1)]
)
@pytest.mark.parametrize(
    ("rate", "error", "sentence"),
    [
        (0, ValueError, "the learning rate must be finite and above 0, got 0.0"),
        (-1, ValueError, "the learning rate must be finite and above 0, got -1.0"),
        (float("nan"), ValueError, "the learning rate must be finite and above 0, got nan"),
        (float("inf"), ValueError, "the learning rate must be finite and above 0, got inf"),
        (np.float32(-0.5), ValueError, "the learning rate must be finite and above 0, got -0.5"),
        ("0.1", TypeError, "optimizer must be an optax optimiser or a learning rate, got '0.1'"),
        (optax.adam, TypeError, "; call it: optax.adam(1e-3)"),
        (optax.contrib.muon, TypeError, "; call it: optax.contrib.muon(1e-3)"),
        (optax.scale_by_adam, TypeError, "; call it: optax.scale_by_adam(...)"),
        (optax.inject_hyperparams(optax.sgd), TypeError, "; call it: optax.sgd(1e-3)"),
        (
            optax.cosine_decay_schedule(0.1, 9),
            TypeError,
            "; a schedule goes into an optimiser: optax.sgd(schedule)",
        ),
        (None, TypeError, "optimizer must be an optax optimiser or a learning rate, got None"),
        (True, TypeError, "the learning rate must be a number, got True"),
    ],
)  # fmt: skip
def test_a_bad_learning_rate_is_refused(call, rate, error, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        call(J, rate)


@pytest.mark.parametrize(
    ("gradient", "sentence"),
    [
        ("hnad", "unknown gradient 'hnad'; did you mean 'hand'? known: compare, hand, jax"),
        ("compared", "unknown gradient 'compared'; did you mean 'compare'?"),
        ("autodiff", "unknown gradient 'autodiff'; known: compare, hand, jax"),
    ],
)
def test_an_unknown_way_to_the_gradient_is_refused_with_the_nearest(gradient, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        train_step(J, 0.1, gradient)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        fit(J, *draw(), optimizer=0.1, epochs=1, gradient=gradient)


def test_comparing_reports_a_derivative_that_is_off_by_a_thousandth_and_where(x64, monkeypatch):
    monkeypatch.setattr(activations, "check_derivative", lambda act: None)  # it would refuse this
    wrong = Activation("wrong_tanh", jnp.tanh, lambda Z, A: 1.001 * (1 - A**2))
    mlp = jaxmlp.MLP((2, 4, 4, 3), hidden=["tanh", wrong])
    params = (draw()[0][0], Layer(np.eye(4), np.zeros(4)), draw()[0][1])
    step = train_step(jaxmlp.Objective(mlp, "cross_entropy"), SGD, "compare")
    difference = step(params, SGD.init(params), *draw()[1:])[2].relative_difference
    np.testing.assert_allclose(difference[:2], 1e-3, rtol=1e-6)
    assert difference[2] <= ROUNDING


def test_one_step_of_a_sigmoid_neuron_is_the_matrix_form_of_the_notes(x64):
    _, X, _ = draw(m=9)
    W, b, Y = np.array([[0.3], [-0.8]]), np.array([0.2]), np.arange(9.0)[:, None] % 2
    neuron = jaxmlp.MLP((2, 1), output="sigmoid")
    step = train_step(jaxmlp.Objective(neuron, "binary_cross_entropy"), 0.7)
    (layer,), _, _ = step((Layer(W, b),), optax.sgd(0.7).init((Layer(W, b),)), X, Y)
    A = 1 / (1 + np.exp(-(X @ W + b)))
    assert relative_error(layer.W, W - 0.7 * X.T @ (A - Y) / 9) <= ROUNDING
    assert relative_error(layer.b, b - 0.7 * np.mean(A - Y)) <= ROUNDING


def test_weight_decay_touches_weights_and_no_biases(x64):
    params, X, Y = draw()
    decayed = optax.chain(optax.add_decayed_weights(0.1, mask=jaxmlp.weight_mask), optax.sgd(0.5))
    ours, _, _ = train_step(J, decayed)(params, decayed.init(params), X, Y)
    for new, old, g in zip(ours, params, jax.grad(J)(params, X, Y), strict=True):
        assert relative_error(new.W, old.W - 0.5 * (g.W + 0.1 * old.W)) <= ROUNDING
        assert relative_error(new.b, old.b - 0.5 * g.b) <= ROUNDING


# --- epochs ---------------------------------------------------------------------------------------

KEY = jax.random.key(3)
WAYS = {
    "full batch": {},
    "full batch, with a key": {"key": KEY},
    "mini-batches and a smaller last one": {"batch_size": 3},
    "mini-batches, shuffled": {"batch_size": 3, "key": KEY},
    "even batches, shuffled": {"batch_size": 4, "key": KEY},
    "one sample at a time": {"batch_size": 1},
    "one sample at a time, shuffled": {"batch_size": 1, "key": KEY},
    "one batch of all": {"batch_size": M},
    "all but one": {"batch_size": M - 1, "key": KEY},
}


@pytest.mark.parametrize("way", WAYS)
def test_fit_follows_a_plain_loop_over_the_same_batches(way, x64):
    m = 8 if "even" in way else M
    params, X, Y = draw(m=m)
    expected, losses = reference_epochs(params, X, Y, optimizer=MOMENTUM, epochs=3, **WAYS[way])
    ours, history = fit(J, params, X, Y, optimizer=MOMENTUM, epochs=3, **WAYS[way])
    assert_same_params(ours, expected[-1])
    assert relative_error(history.loss, losses) <= ROUNDING
    assert (history.loss.shape, history.accuracy.shape) == ((3,), (3,))


@pytest.mark.parametrize("gradient", ["jax", "compare"])
def test_fit_by_jax_or_compared_follows_the_same_loop(gradient, x64):
    params, X, Y = draw()
    way = {"optimizer": MOMENTUM, "epochs": 3, "batch_size": 3, "key": KEY}
    expected, losses = reference_epochs(params, X, Y, **way)
    ours, history = fit(J, params, X, Y, gradient=gradient, **way)
    assert_same_params(ours, expected[-1])
    assert relative_error(history.loss, losses) <= ROUNDING
    if gradient == "compare":
        assert history.relative_difference.shape == (3, 2)
        assert (history.relative_difference <= ROUNDING).all()
    else:
        assert history.relative_difference is None


def test_full_batch_fit_is_a_loop_of_train_step(x64):
    params, X, Y = draw()
    step, state, stepped, rows = train_step(J, ADAM), ADAM.init(params), params, []
    for _ in range(5):
        stepped, state, metrics = step(stepped, state, X, Y)
        rows.append((float(metrics.loss), float(metrics.accuracy)))
    ours, history = fit(J, params, X, Y, optimizer=ADAM, epochs=5)
    assert_same_params(ours, stepped)
    assert relative_error(np.stack(history[:2], axis=1), rows) <= 1e-7  # float32 accuracy


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "sse"])
def test_loss_of_an_epoch_is_the_objectives_own_whatever_the_batches(loss, x64):
    objective, (params, X, Y) = jaxmlp.Objective(J.mlp, loss), draw()
    Y = np.eye(3)[Y]
    _, history = fit(objective, params, X, Y, optimizer=1e-14, epochs=1, batch_size=3)
    assert relative_error(history.loss[0], objective(params, X, Y)) <= ROUNDING


def test_accuracy_of_an_epoch_is_the_mean_over_its_samples(x64):
    params, X, Y = draw()
    _, history = fit(J, params, X, Y, optimizer=1e-12, epochs=1, batch_size=3)  # params stay put
    right = (np.asarray(J.mlp.apply(params, X)).argmax(axis=1) == Y).mean()
    assert relative_error(history.accuracy[0], right) <= 1e-6  # float32 share


def test_shuffling_depends_on_the_key_only_and_repeats_exactly():
    params, X, Y = draw(dtype=np.float32)
    run = functools.partial(fit, J, params, X, Y, optimizer=0.5, epochs=4, batch_size=3)
    first, again, other = run(key=KEY), run(key=jax.random.key(3)), run(key=jax.random.key(4))
    assert_equal(first, again)
    assert relative_error(other[0][0].W, first[0][0].W) > 1e-3
    assert relative_error(run()[0][0].W, first[0][0].W) > 1e-3
    assert_equal(run(key=jax.random.key_data(KEY))[0], first[0])  # a legacy key is the same key


@pytest.mark.parametrize("batch_size", [None, 3])
def test_fit_stops_after_the_first_epoch_whose_loss_is_at_most_eps(batch_size):
    params, X, Y = draw(dtype=np.float32)
    run = functools.partial(fit, J, params, X, Y, optimizer=0.2, batch_size=batch_size)
    losses = run(epochs=12)[1].loss
    assert (np.diff(losses) < 0).all()
    for last in (1, 5, 9):
        ours, history = run(epochs=12, eps=float(losses[last - 1]))
        assert_equal(history.loss, losses[:last])
        assert_equal(ours, run(epochs=last)[0])
    assert len(run(epochs=12, eps=0.0)[1].loss) == 12


def test_no_epochs_change_nothing():
    params, X, Y = draw(dtype=np.float32)
    ours, history = fit(
        J, params, X, Y, optimizer=0.5, epochs=0, validation=(X, Y), gradient="compare",
        record=lambda params, X, Y: params, progress=pytest.fail,
    )  # fmt: skip
    assert_equal(ours, params)
    assert [column.shape for column in history[:5]] == [(0,)] * 4 + [(0, 2)]
    assert history.record is None


def test_validation_columns_are_taken_after_each_epoch(x64):
    params, X, Y = draw()
    _, X_new, Y_new = draw(seed=1, m=5)
    way = {"optimizer": MOMENTUM, "epochs": 4, "batch_size": 3}
    _, history = fit(J, params, X, Y, validation=(X_new, Y_new), **way)
    after, _ = reference_epochs(params, X, Y, **way)
    assert relative_error(history.validation_loss, [J(p, X_new, Y_new) for p in after]) <= ROUNDING
    right = [(np.asarray(J.mlp.apply(p, X_new)).argmax(axis=1) == Y_new).mean() for p in after]
    assert relative_error(history.validation_accuracy, right) <= 1e-7  # float32 shares
    without = fit(J, params, X, Y, **way)[1]
    assert without.validation_loss is None
    assert without.validation_accuracy is None


@pytest.mark.parametrize(("batch_size", "every"), [(None, 1), (None, 3), (3, 2)])
def test_record_sees_the_parameters_of_its_epoch(batch_size, every):
    params, X, Y = draw(dtype=np.float32)
    run = functools.partial(fit, J, params, X, Y, optimizer=0.5, batch_size=batch_size, key=KEY)
    seen = []

    def record(params, X_seen, Y_seen):
        seen.append((X_seen, Y_seen))
        return {"params": params, "norm": jnp.linalg.norm(params[0].W)}

    _, history = run(epochs=7, record=record, every=every)
    epochs = list(range(every, 8, every))
    assert len(seen) == len(epochs)
    assert_equal(seen[0], (X, Y))
    assert history.record["norm"].shape == (len(epochs),)
    for k, done in enumerate(epochs):
        recorded = jax.tree.map(lambda x: x[k], history.record["params"])  # noqa: B023
        assert_equal(recorded, run(epochs=done)[0])


def test_progress_is_told_the_epochs_done_and_their_loss():
    params, X, Y = draw(dtype=np.float32)
    calls = []
    _, history = fit(
        J, params, X, Y, optimizer=0.5, epochs=50, batch_size=3,
        progress=lambda *call: calls.append(call),
    )  # fmt: skip
    done = [epochs for epochs, _ in calls]
    assert done == sorted(set(done))
    assert done[-1] == 50
    assert calls == [(epochs, float(history.loss[epochs - 1])) for epochs in done]


def test_more_steps_than_a_chunk_holds_are_all_taken():
    params, X, Y = draw(dtype=np.float32)
    ours, history = fit(J, params, X, Y, optimizer=1e-3, epochs=10_000)
    assert history.loss.shape == (10_000,)
    assert (np.diff(history.loss) <= 1e-6).all()
    assert_equal(ours, fit(J, fit(J, params, X, Y, optimizer=1e-3, epochs=5_000)[0], X, Y,
                           optimizer=1e-3, epochs=5_000)[0])  # fmt: skip


def test_steps_beyond_the_count_of_32_bits_are_taken(x64):
    params, X, Y = draw()
    way = {"batch_size": 3, "key": KEY, "eps": None, "validation": None}
    run, _, data = prepare(J, params, X, Y, MOMENTUM, "hand", False, **way)
    state, _ = loop.start(run, params, data)
    epoch = 2**30  # of three steps
    state, table = loop.run_steps(run, state, data, np.array([epoch, 0], np.int32), np.int32(3))
    order = np.asarray(jax.random.permutation(jax.random.fold_in(KEY, epoch), M))
    expected, losses = reference_epochs(
        params, X[order], Y[order], optimizer=MOMENTUM, epochs=1, batch_size=3
    )
    assert_same_params(state.params, expected[-1])
    assert relative_error(table.loss[0], losses[0]) <= ROUNDING


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_a_number_of_steps_may_end_within_an_epoch(steps, x64):
    params, X, Y = draw()
    way = {"optimizer": MOMENTUM, "batch_size": 3, "key": KEY}
    step, state, stepped = reference_step(MOMENTUM), MOMENTUM.init(params), params
    batches = [
        rows
        for epoch in range(3)
        for rows in np.split(np.asarray(jax.random.permutation(jax.random.fold_in(KEY, epoch), M)),
                             [3, 6])
    ]  # fmt: skip
    for rows in batches[:steps]:
        stepped, state, _ = step(stepped, state, X[rows], Y[rows])

    def record(params, X, Y, step, opt_state):
        return step, opt_state

    ours, history = fit(J, params, X, Y, num_steps=steps, record=record, every=2, **way)
    assert_same_params(ours, stepped)
    assert history.loss.shape == (steps // 3,)
    assert history.record[0].tolist() == list(range(2, steps + 1, 2))
    many, table = jaxmlp.fit_many(
        J, jax.tree.map(lambda leaf: np.stack([leaf, leaf]), params), X, Y, num_steps=steps, **way
    )
    assert_same_params(jax.tree.map(lambda leaf: leaf[1], many), stepped)
    assert table.loss.shape == (2, steps // 3)


def test_history_names_what_is_known_of_an_epoch():
    assert jaxmlp.History._fields[:5] == loop.Epoch._fields


def test_fit_again_compiles_nothing():
    network = jaxmlp.Objective(jaxmlp.MLP((2, 5, 3), hidden="tanh"), "cross_entropy")
    optimizer, (X, Y) = optax.adam(0.1), draw(dtype=np.float32)[1:]
    params = tuple(
        Layer(np.full(shape, 0.1, np.float32), np.zeros(shape[1], np.float32))
        for shape in ((2, 5), (5, 3))
    )

    def run(params, X, **way):
        objective = jaxmlp.Objective(jaxmlp.MLP((2, 5, 3), hidden="tanh"), "cross_entropy")
        return fit(objective, params, X, Y, **{"optimizer": optimizer, "key": KEY} | way)

    with compilations() as first:
        trained, _ = fit(
            network, params, X, Y, optimizer=optimizer, epochs=3, batch_size=3, key=KEY
        )
    assert len(first) > 0  # the counter counts
    with compilations() as again:
        run(params, X, epochs=3, batch_size=3)
        run(trained, 2 * X, epochs=40, batch_size=3)
        run(trained, X, epochs=0, batch_size=3)
        run(trained, X, epochs=7, batch_size=3, key=jax.random.key(8), eps=1e-3)
        run(trained, X, epochs=7, batch_size=3, progress=lambda *_: None)
    assert again == []
    with compilations() as number:
        fit(network, params, X, Y, optimizer=0.25, epochs=2)
    assert len(number) > 0
    with compilations() as equal_number:
        fit(network, trained, X, Y, optimizer=0.25, epochs=9)
    assert equal_number == []


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_regression_trains_like_the_plain_formula(batch_size, double):
    with jax.enable_x64(double):
        dtype = np.float64 if double else np.float32
        _, X, _ = draw(dtype=dtype)
        Y = (X[:, :1] - X[:, 1:]) ** 2
        mlp = jaxmlp.MLP((2, 1), output="linear")
        regression = jaxmlp.Objective(mlp, "half_squared_error")
        params = (Layer(np.ones((2, 1), dtype), np.zeros(1, dtype)),)
        (layer,), history = fit(
            regression, params, X, Y[:, 0], optimizer=0.1, epochs=2,
            batch_size=batch_size, validation=(X, Y),
        )  # fmt: skip
        W, b = np.ones((2, 1)), np.zeros(1)
        for i in [*range(0, M, batch_size or M)] * 2:
            x, y = X[i : i + (batch_size or M)], Y[i : i + (batch_size or M)]
            E = x @ W + b - y
            W, b = W - 0.1 * x.T @ E / len(x), b - 0.1 * E.mean()
        rounding = ROUNDING if double else 1e-5
        assert relative_error(layer.W, W) <= rounding
        assert relative_error(layer.b, b) <= rounding
        loss = ((X @ W + b - Y) ** 2).mean() / 2
        assert relative_error(history.validation_loss[-1], loss) <= rounding
        assert np.isnan(history.accuracy).all()
        assert np.isnan(history.validation_accuracy).all()


def test_lbfgs_finds_the_least_squares_solution(x64):
    X = np.random.default_rng(0).normal(size=(20, 3))
    Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3 + np.random.default_rng(1).normal(size=20) / 10
    regression = jaxmlp.Objective(jaxmlp.MLP((3, 1), output="linear"), "mse")
    params = (Layer(np.zeros((3, 1)), np.zeros(1)),)
    (layer,), history = fit(regression, params, X, Y, optimizer=optax.lbfgs(), epochs=30)
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(20)]), Y)[0]
    assert relative_error([*layer.W[:, 0], layer.b[0]], solution) <= 1e-7  # of convergence
    assert history.loss[-1] < history.loss[0] / 50


def test_softmax_regression_of_the_published_spiral_gives_its_published_numbers(x64):
    X, Y = datasets.spiral()[:2]
    mlp = jaxmlp.MLP((2, 3))
    regression = jaxmlp.Objective(mlp, "cross_entropy")
    optimizer = optax.chain(
        optax.add_decayed_weights(1e-3, mask=jaxmlp.weight_mask), optax.sgd(1.0)
    )

    def printed(params, X, Y):
        return regression(params, X, Y) + 1e-3 / 2 * jnp.sum(params[0].W ** 2)

    params, history = fit(
        regression, (Layer(np.zeros((2, 3)), np.zeros(3)),), X, Y,
        optimizer=optimizer, epochs=200, record=printed, every=10,
    )  # fmt: skip
    assert f"{history.record[18]:.6f}" == "0.786302"  # iteration 190
    right = np.asarray(mlp.apply(params, X)).argmax(axis=1) == Y
    assert (int(right.sum()), len(right)) == (148, 300)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
def test_half_precision_trains_in_its_own_dtype(dtype):
    params, X, Y = draw(dtype=np.float32)
    half = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    ours, history = fit(
        J, half, jnp.asarray(X, dtype), Y, optimizer=0.5, epochs=5, batch_size=3, gradient="compare"
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(dtype)}
    assert history.loss.dtype == np.float32
    single, _ = fit(J, params, X, Y, optimizer=0.5, epochs=5, batch_size=3)
    assert_same_params(ours, single, 32 * float(jnp.finfo(dtype).eps))  # rounding of 15 updates


# --- other optimisers and keys --------------------------------------------------------------------

RATES = optax.cosine_decay_schedule(0.5, 20)
SAM = (optax.adam(0.05), optax.chain(optax.contrib.normalize(), optax.sgd(0.05)))
OPTIMISERS = {
    "injected schedule": (optax.inject_hyperparams(optax.adam)(learning_rate=RATES), ()),
    "MultiSteps": (optax.MultiSteps(optax.contrib.momo(0.1), 2), ("value",)),
    "SAM": (optax.contrib.sam(*SAM, opaque_mode=True), ("grad_fn",)),  # takes nothing else
    "Sophia": (optax.contrib.sophia(0.05, update_interval=2), ("obj_fn",)),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_fit_tells_every_optimiser_what_it_asks_for(name, x64):
    (optimizer, names), (params, X, Y) = OPTIMISERS[name], draw()

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(J)(params, X, Y)
        known = {
            "value": value,
            "obj_fn": lambda params: J(params, X, Y),
            "grad_fn": lambda params, _: jax.grad(J)(params, X, Y),
        }
        extra = {name: known[name] for name in names}
        updates, state = optimizer.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    expected, state = params, optimizer.init(params)
    for _ in range(6):
        expected, state = step(expected, state)
    assert_same_params(fit(J, params, X, Y, optimizer=optimizer, epochs=6)[0], expected)


def test_a_key_of_another_implementation_shuffles(x64):
    params, X, Y = draw()
    key = jax.random.key(3, impl="rbg")
    way = {"optimizer": MOMENTUM, "epochs": 2, "batch_size": 3, "key": key}
    assert_same_params(fit(J, params, X, Y, **way)[0], reference_epochs(params, X, Y, **way)[0][-1])


# --- nothing is lost ------------------------------------------------------------------------------


def fails_after(epochs, error):
    """`progress` that raises once so many epochs are done."""

    def progress(done, loss):
        if done >= epochs:
            raise error

    return progress


def test_ctrl_c_stops_the_training_and_keeps_it():
    params, X, Y = draw(dtype=np.float32)
    run = functools.partial(fit, J, params, X, Y, optimizer=0.5)
    with pytest.warns(UserWarning, match=r"^stopped by Ctrl-C after epoch \d+ of 1000000000$"):
        ours, history = run(epochs=10**9, progress=fails_after(20, KeyboardInterrupt))
    done = len(history.loss)
    assert done >= 20
    expected = run(epochs=done)
    assert_equal((ours, history), expected)


def test_ctrl_c_within_an_epoch_says_how_many_steps_the_parameters_are_ahead(monkeypatch):
    calls = iter(range(10))

    def clock():
        if next(calls) == 2:  # at the begin of the second chunk, after one step
            raise KeyboardInterrupt
        return 0.0

    params, X, Y = draw(dtype=np.float32)
    monkeypatch.setattr(host.time, "perf_counter", clock)
    sentence = "stopped by Ctrl-C after epoch 0 of 5 and 1 of the 3 steps of the next"
    with pytest.warns(UserWarning, match=f"^{sentence}$"):
        ours, history = fit(J, params, X, Y, optimizer=0.5, epochs=5, batch_size=3)
    assert history.loss.shape == (0,)
    sgd = optax.sgd(0.5)
    stepped = train_step(J, sgd)(params, sgd.init(params), X[:3], Y[:3])[0]
    assert_same_params(ours, stepped, 1e-6)  # rounding in float32


@pytest.mark.parametrize("error", [SystemExit(3), ZeroDivisionError("of the caller")])
@pytest.mark.parametrize("place", ["progress", "record"])
def test_an_exception_of_the_callers_code_carries_what_was_trained(place, error):
    params, X, Y = draw(dtype=np.float32)
    run = functools.partial(fit, J, params, X, Y, optimizer=0.5, every=2)
    seen = []

    def record(params, X, Y):
        seen.append(0)
        if len(seen) == 3:
            raise error
        return len(seen)

    way = {"record": record} if place == "record" else {"progress": fails_after(6, error)}
    with pytest.raises(type(error)) as caught:
        run(epochs=100, **way)
    ours, history = caught.value.trained
    done = len(history.loss)
    assert done == 6 if place == "record" else done >= 6
    assert_equal((ours, history[:5]), (run(epochs=done)[0], run(epochs=done)[1][:5]))
    assert caught.value.__notes__[-1].startswith(f"stopped after epoch {done} of 100: ")
    if place == "record":
        assert history.record.tolist() == [1, 2]


def test_the_warning_of_ctrl_c_carries_what_was_trained_where_warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="stopped by Ctrl-C") as caught:
            fit(J, *draw(dtype=np.float32), optimizer=0.5, epochs=9,
                progress=fails_after(1, KeyboardInterrupt))  # fmt: skip
    assert len(caught.value.trained[1].loss) >= 1


def test_records_of_varying_shapes_are_kept_as_a_list():
    params, X, Y = draw(dtype=np.float32)
    grown, buffer = [], np.zeros(2)

    def record(params, X, Y):
        grown.append(float(params[0].W[0, 0]))
        return {"so far": np.array(grown)}

    def same_buffer(params, X, Y):
        buffer[:] += 1
        return buffer

    run = functools.partial(fit, J, params, X, Y, optimizer=0.5, epochs=3)
    records = run(record=record)[1].record
    assert [entry["so far"].tolist() for entry in records] == [grown[:1], grown[:2], grown]
    kinds = iter([1.0, (2.0,), {"three": 3.0}])
    assert run(record=lambda *_: next(kinds))[1].record == [1.0, (2.0,), {"three": 3.0}]
    assert run(record=same_buffer)[1].record.tolist() == [[1, 1], [2, 2], [3, 3]]


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "error", "sentence"),
    [
        ({"epochs": -1}, ValueError, "epochs must be at least 0, got -1"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer, got 1.5"),
        ({"epochs": 2.0}, TypeError, "epochs must be an integer, got 2.0"),
        ({"epochs": True}, TypeError, "epochs must be an integer, got True"),
        ({"epochs": "3"}, TypeError, "epochs must be an integer, got '3'"),
        ({"epochs": None}, ValueError, "give epochs, or num_steps instead"),
        ({"num_steps": 3}, ValueError, "give epochs, or num_steps instead"),
        ({"epochs": None, "num_steps": -1}, ValueError, "num_steps must be at least 0, got -1"),
        ({"resume": True}, ValueError, "resume needs checkpoint=PATH"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": -3}, ValueError, "batch_size must be at least 1, got -3"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
        ({"every": 0}, ValueError, "every must be at least 1, got 0"),
        ({"every": 1.5}, TypeError, "every must be an integer, got 1.5"),
        ({"eps": -1e-3}, ValueError, "eps must be a number of at least 0, got -0.001"),
        ({"eps": float("nan")}, ValueError, "eps must be a number of at least 0, got nan"),
        ({"key": 3, "batch_size": 2}, TypeError, "key must be one PRNG key such as"),
        ({"gradient": "jaxx"}, ValueError, "unknown gradient 'jaxx'; did you mean 'jax'?"),
        ({"validation": (np.ones((4, 3)), np.zeros(4, int))}, ValueError, "X has 3 features"),
        ({"validation": (np.ones((4, 2)), np.full(4, 3))}, ValueError, "label 3 at index 0"),
    ],
)
def test_bad_arguments_of_fit_are_refused_before_any_step(way, error, sentence):
    calls = {"optimizer": 0.1, "epochs": 1, "progress": pytest.fail}
    with pytest.raises(error, match=re.escape(sentence)):
        fit(J, *draw(dtype=np.float32), **calls | way)


@pytest.mark.parametrize("trace", [jax.jit, jax.vmap, jax.grad, "closure", "learning rate"])
def test_fit_cannot_be_traced(trace):
    params, X, Y = draw(dtype=np.float32)
    call = {
        "closure": lambda: jax.jit(lambda: fit(J, params, X, Y, optimizer=0.1, epochs=1))(),
        "learning rate": lambda: jax.jit(
            lambda rate: fit(J, params, X, Y, optimizer=rate, epochs=1)
        )(0.1),
    }.get(trace) or (
        lambda: trace(lambda x: fit(J, params, X * x, Y, optimizer=0.1, epochs=1)[1].loss)(
            jnp.ones(1) if trace is jax.vmap else 1.0
        )
    )
    with pytest.raises(
        TypeError, match=r"^fit is a loop on the host and cannot be traced by jax\.jit"
    ):
        call()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("stacked", [False, True])
def test_parameters_that_are_not_finite_are_refused_by_layer_and_leaf(value, stacked):
    J = jaxmlp.Objective(jaxmlp.MLP((2, 3, 3, 3, 3)), "cross_entropy")
    layers = [Layer(np.ones((d, 3), np.float32), np.ones(3, np.float32)) for d in (2, 3, 3, 3)]
    layers[2].b[1] = value
    if stacked:
        pair = Layer(
            *(np.stack(leaves) for leaves in zip(layers[1][:2], layers[2][:2], strict=True))
        )
        layers[1:3] = [pair]
    sentence = f"b of layer 3 must be finite, but 1 of its 3 entries are not; the first is {value}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)} at index 1$"):
        fit(J, tuple(layers), *draw(dtype=np.float32)[1:], optimizer=0.1, epochs=1)


def test_raw_data_of_another_implementations_key_is_read_as_that_key():
    data, key = draw(dtype=np.float32), jax.random.key(0, impl="rbg")
    options = {"optimizer": 0.1, "epochs": 1, "batch_size": 2}
    typed, _ = fit(J, *data, key=key, **options)
    raw, _ = fit(J, *data, key=jax.random.key_data(key), **options)
    assert all(map(np.array_equal, jax.tree.leaves(typed), jax.tree.leaves(raw)))
