"""The panel: every number against a NumPy loop over the samples, while a network learns."""

import csv
import math

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from support import problem, relative_error

import jaxmlp
from jaxmlp import Panel, fit, panel, plotting

ROUNDING = 1e-10
ADAM = optax.adam(0.01)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def own_gradients(J, params, X, Y):
    """Each sample's own gradient, a matrix `(m, parameters)` for each layer, one by one."""
    found = []
    for layer, t in zip(jaxmlp.layers(params), jaxmlp.trace(J)(params, X, Y), strict=True):
        A, dZ, dA = (np.asarray(x) for x in (t.A_prev, t.dZ, t.dA))
        own = [[np.outer(A[i], dZ[i]).ravel()] for i in range(len(X))]
        for i, parts in enumerate(own):
            parts += [] if layer.b is None else [dZ[i]]
            if layer.slope is not None:
                parts.append([(dA[i] * np.minimum(np.asarray(t.U)[i], 0)).sum()])
        found.append(np.stack([np.concatenate(parts) for parts in own]))
    return found


NETWORKS = [
    {"hidden": "prelu", "residual": 0.5, "norm": "rms", "init": "he", "use_bias": False},
    {"hidden": "tanh", "stack_from": 1, "loss": "sse", "output": "linear"},
]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_every_number_is_that_of_a_loop_over_the_samples(network, x64):
    J, params, X, Y = problem((5, 4, 4, 3), m=9, **network)
    state = ADAM.init(params)
    ours = panel(J, ADAM)(params, X, Y, state, 7)
    m = len(X)
    mean = jaxmlp.grad(J)(params, X, Y)
    updates, _ = jax.jit(ADAM.update)(mean, state, params)
    scale = m if network.get("loss") == "sse" else 1  # its gradient is a sum
    assert relative_error(ours.loss, J(params, X, Y)) <= ROUNDING
    assert ours.step == 7
    trace = jaxmlp.trace(J)(params, X, Y)
    layers = zip(own_gradients(J, params, X, Y), jaxmlp.layers(params), jaxmlp.layers(updates),
                 trace, J.mlp.specs, strict=True)  # fmt: skip
    for l, (own, layer, update, told, spec) in enumerate(layers):
        g = own.mean(axis=0)
        expected = {
            "log10_delta": math.log10(np.sqrt((np.asarray(told.dZ) ** 2).sum() / m)),
            "log10_gradient": math.log10(scale * np.linalg.norm(g)),
            "log10_update": math.log10(np.linalg.norm(update.W) / np.linalg.norm(layer.W)),
            "noise_scale": ((own - g) ** 2).sum() / (m - 1) / (g @ g),
        }
        for name, value in expected.items():
            assert relative_error(getattr(ours, name)[l], value) <= ROUNDING, (name, l)
        if l < J.mlp.depth:
            U = np.asarray(told.U if told.U is not None else told.Z)
            fn = (lambda u: np.maximum(u, 0) + 0.25 * np.minimum(u, 0)) if spec.activation.slope \
                else spec.activation.fn  # fmt: skip
            steep = np.abs((np.asarray(fn(U + 1e-6)) - np.asarray(fn(U - 1e-6))) / 2e-6)
            assert relative_error(ours.saturated[l], np.mean(steep <= 0.01)) <= ROUNDING
            assert relative_error(ours.dead[l], np.mean((steep == 0).all(axis=0))) <= ROUNDING
    assert np.isnan(ours.saturated[-1]) == (J.mlp.output.name == "softmax")


def test_noise_of_nearly_equal_gradients_is_right_to_their_differences():
    J, params, X, Y = problem((5, 3), m=1, labels=True)
    X = jnp.repeat(X, 6, axis=0) * (1 + 1e-4 * jnp.arange(6)[:, None])
    Y = jnp.repeat(Y, 6)
    ours = panel(J, 0.1)(params, X, Y, optax.sgd(0.1).init(params), 0).noise_scale
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), (params, X))
        own = own_gradients(J, *wide, Y)
    g = [each.mean(axis=0) for each in own]
    exact = [((o - mean) ** 2).sum() / 5 / (mean @ mean) for o, mean in zip(own, g, strict=True)]
    assert max(exact) < 1e-5
    assert relative_error(ours, exact) <= 0.01  # rounding of differences of 1e-4


def test_below_the_range_of_the_precision_it_says_so_and_exact_zeros_are_zeros():
    J, params, X, Y = problem((6, *[6] * 80, 3), hidden="sigmoid", init="lecun")
    numbers = panel(J, 0.1)(params, X, Y, optax.sgd(0.1).init(params), 0)
    flow = jaxmlp.gradient_flow(J)(params, X, Y)
    told = np.isfinite(numbers.log10_delta)
    assert told[40:].all()
    assert not told[:5].any()  # 10^-45 and below
    np.testing.assert_allclose(
        numbers.log10_delta[told], np.asarray(flow.log10_delta)[told], atol=1e-4
    )
    first = int(np.argmax(told))
    assert told[first:].all()  # none below a layer that is not
    np.testing.assert_array_equal(np.isnan(numbers.noise_scale), ~told)
    dead = tuple(layer._replace(b=layer.b - 1e3) for layer in problem((5, 6, 3))[1])
    J, _, X, Y = problem((5, 6, 3), hidden="relu")
    zero = panel(J, 0.1)(dead, X, Y, optax.sgd(0.1).init(dead), 0)
    assert zero.log10_delta[0] == -math.inf
    assert zero.dead[0] == 1


@pytest.fixture(scope="module")
def history():
    J, params, X, Y = problem((5, 4, 4, 3), m=40, hidden="tanh", labels=True)
    return fit(J, params, X, Y, optimizer=ADAM, num_steps=12, batch_size=8, every=4,
               record=panel(J, ADAM, num_samples=10))[1]  # fmt: skip


def test_fit_records_it_at_steps_from_evenly_spaced_samples(history):
    J, params, X, Y = problem((5, 4, 4, 3), m=40, hidden="tanh", labels=True)
    assert history.record.step.tolist() == [4, 8, 12]
    way = {"optimizer": ADAM, "batch_size": 8}
    after = fit(J, params, X, Y, num_steps=12, **way)[0]
    assert relative_error(history.record.loss[-1], J(after, X[::4], Y[::4])) <= 1e-6
    assert history.record.log10_delta.shape == (3, 3)


def test_it_is_rows_and_a_csv(history, tmp_path):
    rows = history.record.records()
    assert list(rows[0]) == [*Panel._fields[:3], "layer", *Panel._fields[3:]]
    assert [(row["step"], row["layer"]) for row in rows[:4]] == [(4, 1), (4, 2), (4, 3), (8, 1)]
    assert rows[4]["noise_scale"] == history.record.noise_scale[1, 1]
    with history.record.to_csv(tmp_path / "panel.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [float(row["log10_update"]) for row in read] == [row["log10_update"] for row in rows]


def test_its_figure_shows_layers_by_steps(history):
    axes = plotting.panel(history)
    assert axes.shape == (2, 3)
    first = axes[0, 0].collections[0]
    np.testing.assert_array_equal(first.get_array(), history.record.log10_delta.T)
    assert axes[1, 0].get_xlabel() == "step"
    assert plotting.panel(history.record, axes) is axes
    plt.close("all")


@pytest.mark.parametrize(
    ("way", "error", "sentence"),
    [
        ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
        ({"optimizer": optax.adam}, TypeError, r"call it: optax\.adam\(1e-3\)"),
    ],
)
def test_bad_arguments_are_refused(way, error, sentence):
    J = jaxmlp.Objective(jaxmlp.MLP((2, 3)), "cross_entropy")
    with pytest.raises(error, match=sentence):
        panel(J, **{"optimizer": 0.1} | way)
