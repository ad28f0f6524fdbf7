"""check_grads where there is little to compare: saturated, dead, cancelled, not finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import plants
import pytest

import jaxmlp
from jaxmlp import Layer, check_grads

SIZES = 3, 4, 2
VEHICLES = jaxmlp.datasets.vehicles()
LABELS = np.asarray(VEHICLES.Y)
TARGETS = np.eye(2)[LABELS]
NORMAL = np.random.default_rng(0).normal(size=(6, 3))


@functools.cache
def objective(hidden, loss="cross_entropy"):
    return jaxmlp.Objective(jaxmlp.MLP(SIZES, hidden=hidden, output="softmax"), loss)


def network(scale=1.0, b1=0.0, W2=1.0, b2=0.0, dtype=np.float64):
    rng = np.random.default_rng(1)
    layers = (
        Layer(rng.normal(size=(3, 4)) * scale, rng.normal(size=4) * scale + b1),
        Layer(rng.normal(size=(4, 2)) * W2 * scale, rng.normal(size=2) * scale + b2),
    )
    return jax.tree.map(lambda x: x.astype(dtype), layers)


def times(factors, hidden="tanh", loss="cross_entropy"):
    """The student's own pass, each array by its factor."""

    def candidate(*args):
        pairs = plants.student(hidden, loss)(*args)
        return [
            (dW * factors.get(f"W{l}", 1.0), db * factors.get(f"b{l}", 1.0))
            for l, (dW, db) in enumerate(pairs, start=1)
        ]

    return candidate


def verdicts(certificate):
    return {row.name: row.verdict for row in certificate.rows}


TURNED = dict.fromkeys(("W1", "b1", "W2", "b2"), -1.0)

# --- saturated: the complex step has a slope where real numbers have none -------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_right_gradient_passes_however_saturated_the_network(dtype):
    J, raw = objective("tanh"), np.asarray(VEHICLES.X)
    assert raw.max() == 600
    for X in (raw, NORMAL):
        for scale in (1e-3, 1.0, 10.0, 1e3, 1e5):
            args = network(scale, dtype=dtype), X.astype(dtype), TARGETS.astype(dtype)
            with np.errstate(over="ignore"):
                certificate = check_grads(times({}), J, *args)
                assert certificate.passed, (scale, certificate)
                turned = check_grads(times(TURNED), J, *args)
            assert turned.first_wrong == 2
            assert ("sign", (2,)) in {(d.mistake, d.layers) for d in turned.diagnoses}


def test_a_plain_function_that_saturates_is_right_too():
    def J(params, X):
        return jnp.mean(jnp.tanh(X @ params["W"]) @ params["v"])

    def candidate(params, X):
        A = np.tanh(X @ params["W"])
        dZ = params["v"] / np.cosh(X @ params["W"]) ** 2 / len(X)
        return {"W": X.T @ dZ, "v": A.mean(axis=0)}

    params = {"W": 30 * np.ones((3, 4)), "v": np.arange(1.0, 5.0)}
    with np.errstate(over="ignore"):
        assert check_grads(candidate, J, params, np.abs(NORMAL) + 1).passed


# --- exactly zero: any factor is right ------------------------------------------------------------


def test_a_dead_layer_hides_no_mistake():
    args = network(b1=-100.0), NORMAL, TARGETS
    wrong = times({"W1": -7.0, "b1": -7.0}, "relu")
    assert not wrong(*args)[0][0].any()
    certificate = check_grads(wrong, objective("relu"), *args)
    assert certificate.first_wrong == 1
    assert {name for name, verdict in verdicts(certificate).items() if verdict == "wrong"} == {
        "W1",
        "b1",
    }
    right = check_grads(times({}, "relu"), objective("relu"), *args)
    assert right.passed
    assert any("exactly zero here" in note for note in right.notes)


def test_a_saturated_loss_hides_no_sign():
    ones = np.eye(2)[np.zeros(6, int)]
    args = network(W2=0.0, b2=np.array([1e3, -1e3])), NORMAL, ones
    assert not any(leaf.any() for pair in times(TURNED, "relu")(*args) for leaf in pair)
    certificate = check_grads(times(TURNED, "relu"), objective("relu"), *args)
    assert set(verdicts(certificate).values()) == {"wrong"}
    assert "sign" in {d.mistake for d in certificate.diagnoses}
    assert check_grads(times({}, "relu"), objective("relu"), *args).passed


def test_numbers_that_were_written_down_before_cannot_be_asked_elsewhere():
    args = network(b1=-100.0), NORMAL, TARGETS
    answer = times({}, "relu")(*args)
    certificate = check_grads(lambda *_: answer, objective("relu"), *args)
    assert not certificate.passed
    assert certificate.first_wrong is None
    assert verdicts(certificate) == {
        "W1": "undecided", "b1": "undecided", "W2": "undecided", "b2": "right",
    }  # fmt: skip
    assert "dW1, db1, dW2: exactly zero here: nothing was tested" in str(certificate)


def test_below_a_step_zero_is_right():
    args = network(), NORMAL, TARGETS
    J = objective("step")

    def candidate(*args):
        A1 = np.heaviside(args[1] @ args[0][0].W + args[0][0].b, 0.5)
        dZ2 = plants.softmax(A1 @ args[0][1].W + args[0][1].b) - args[2]
        return [(np.zeros((3, 4)), np.zeros(4)), (A1.T @ dZ2 / 6, dZ2.mean(axis=0))]

    certificate = check_grads(candidate, J, *args)
    assert certificate.passed
    assert any("W1, b1: exactly zero, here and" in n or "W1, b1" in n for n in certificate.notes)


def test_a_dead_unit_of_a_plain_function_hides_no_mistake():
    def J(W):
        return jnp.sum(jax.nn.relu(jnp.ones((2, 3)) @ W - 100.0))

    def candidate(factor, W):
        return factor * np.ones((3, 2)) @ (np.ones((2, 3)) @ W - 100.0 > 0)

    def alive(W):
        return jnp.sum(jax.nn.relu(jnp.ones((2, 3)) @ W))

    args = (-np.ones((3, 4)),)
    gate = lambda W, factor: factor * (np.ones((3, 2)) @ (np.ones((2, 3)) @ W > 0))  # noqa: E731
    assert not check_grads(lambda W: gate(W, -7.0), alive, *args).passed
    assert check_grads(lambda W: gate(W, 1.0), alive, *args).passed


# --- what is not evidence -------------------------------------------------------------------------


def test_a_right_slope_says_nothing_of_dZ_and_a_right_bias_nothing_of_the_order_of_its_rows():
    J = objective("prelu")
    rng = np.random.default_rng(0)
    (W1, b1, *_), top = network()
    args = (Layer(W1, b1, np.array(0.25)), top), NORMAL, plants.softmax(rng.normal(size=(6, 2)))

    def candidate(gate, order, params, X, Y):
        (W1, b1, slope, _), (W2, b2, *_) = params
        Z1 = X @ W1 + b1
        A1 = np.where(Z1 > 0, Z1, slope * Z1)
        dZ2 = plants.softmax(A1 @ W2 + b2) - Y
        dA1 = dZ2 @ W2.T
        dZ1 = (dA1 * gate(Z1, slope))[order]
        slopes = np.sum(dA1 * np.minimum(Z1, 0)) / 6
        return [(X.T @ dZ1 / 6, dZ1.mean(axis=0), slopes), (A1.T @ dZ2 / 6, dZ2.mean(axis=0))]

    right = lambda Z, slope: np.where(Z > 0, 1, slope)  # noqa: E731
    assert check_grads(functools.partial(candidate, right, slice(None)), J, *args).passed
    odd = lambda Z, slope: np.where(Z > 0, 1.2, slope)  # noqa: E731
    certificate = check_grads(functools.partial(candidate, odd, slice(None)), J, *args)
    assert verdicts(certificate)["slope1"] == "right"
    assert not any("dZ1 is right" in note for note in certificate.notes)
    shuffled = check_grads(functools.partial(candidate, right, [3, 0, 5, 1, 2, 4]), J, *args)
    assert verdicts(shuffled)["b1"] == "right"
    assert not any("dZ1 is right" in note for note in shuffled.notes)


# --- not finite -----------------------------------------------------------------------------------


def test_where_J_or_its_gradient_is_not_finite_the_certificate_says_so():
    certificate = check_grads(lambda x: x * np.nan, lambda x: jnp.sum(x) * jnp.nan, np.ones(3))
    assert certificate.disputes == ("J is nan here: there is no gradient to compare with",)
    certificate = check_grads(np.cos, lambda x: jnp.sum(jnp.log(x)), np.zeros(2))
    assert "J is -inf here" in certificate.disputes[0]
    certificate = check_grads(np.cos, lambda x: jnp.sum(jnp.sqrt(x)), np.zeros(2))
    assert "its gradient by autodiff is not" in certificate.disputes[0]
    assert not any("stop_gradient" in dispute for dispute in certificate.disputes)
