import dataclasses
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import relative_error

import jaxmlp
from jaxmlp import activations, losses
from jaxmlp.activations import Activation
from jaxmlp.losses import Loss

M, K = 6, 4
RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.normal(size=(M, K))
TARGETS = RNG.normal(size=(M, K)) + 1
SOFT = RNG.dirichlet(np.ones(K), size=M)
BINARY = (RNG.uniform(size=(M, K)) < 0.4).astype(float)
FITTING = {"cross_entropy": SOFT, "binary_cross_entropy": BINARY}  # the targets of a loss
OUTPUT = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}
TOLERANCE = 1e-13  # rounding, float64, of a few sums over K = 4


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def arrays(name):
    """Z, A and Y for the loss of that name."""
    Z = jnp.asarray(LOGITS)
    A = activations.get(OUTPUT.get(name, "linear")).fn(Z)
    return Z, A, jnp.asarray(FITTING.get(name, TARGETS))


def linear_network(logits, Y, loss, output, dtype=None):
    """An objective, parameters and inputs whose last Z is exactly `logits`: X is the identity."""
    logits = jnp.asarray(logits, dtype)
    m, K = logits.shape
    J = jaxmlp.Objective(jaxmlp.MLP((m, K), output=output, use_bias=False), loss)
    return J, (jaxmlp.Layer(logits),), jnp.eye(m, dtype=logits.dtype), jnp.asarray(Y, dtype)


def both_gradients(J, params, X, Y):
    """dJ/dW by hand and by autodiff."""
    return jaxmlp.grad(J)(params, X, Y)[0].W, jax.grad(J)(params, X, Y)[0].W


# --- values ---------------------------------------------------------------------------------------

ORACLES = {
    "cross_entropy": lambda Z, A, Y: optax.softmax_cross_entropy(Z, Y),
    "binary_cross_entropy": lambda Z, A, Y: optax.sigmoid_binary_cross_entropy(Z, Y).sum(axis=1),
    "half_squared_error": lambda Z, A, Y: optax.l2_loss(A, Y).sum(axis=1),
    "mse": lambda Z, A, Y: ((np.asarray(A) - np.asarray(Y)) ** 2).sum(axis=1),
    "sse": lambda Z, A, Y: 2 * optax.l2_loss(A, Y).sum(axis=1),
    "norm": lambda Z, A, Y: np.linalg.norm(np.asarray(A) - np.asarray(Y), axis=1),
}
# each loss as a plain function of the output, as the notes write it
FORMULAS = {
    "cross_entropy": lambda A, Y: -jnp.sum(Y * jnp.log(A)),
    "binary_cross_entropy": lambda A, Y: -jnp.sum(Y * jnp.log(A) + (1 - Y) * jnp.log(1 - A)),
    "half_squared_error": lambda A, Y: jnp.sum((A - Y) ** 2) / 2,
    "mse": lambda A, Y: jnp.sum((A - Y) ** 2),
    "sse": lambda A, Y: jnp.sum((A - Y) ** 2),
    "norm": lambda A, Y: jnp.sum(jnp.sqrt(jnp.sum((A - Y) ** 2, axis=1))),
}


def test_every_loss_has_an_oracle():
    assert ORACLES.keys() == FORMULAS.keys() == set(losses.names())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", losses.names())
def test_value_of_each_sample_equals_optax_or_numpy(name):
    Z, A, Y = arrays(name)
    value = losses.get(name).value(Z, A, Y)
    assert value.shape == (M,)
    np.testing.assert_allclose(value, ORACLES[name](Z, A, Y), rtol=TOLERANCE)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", losses.names())
def test_objective_is_the_mean_over_the_samples_or_the_sum(name):
    Z, A, Y = arrays(name)
    J, params, X, Y = linear_network(Z, Y, name, OUTPUT.get(name, "linear"))
    reduce = jnp.sum if name == "sse" else jnp.mean
    expected = float(reduce(jnp.asarray(ORACLES[name](Z, A, Y))))
    assert float(J(params, X, Y)) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.usefixtures("x64")
def test_integer_labels_have_the_cross_entropy_of_optax():
    labels = jnp.arange(M) % K
    J, params, X, _ = linear_network(LOGITS, SOFT, "cross_entropy", "softmax")
    oracle = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(LOGITS), labels).mean()
    assert float(J(params, X, labels)) == pytest.approx(float(oracle), rel=TOLERANCE)


# --- derivatives ----------------------------------------------------------------------------------


def dA_error(loss, name):
    """`loss.dA` against autodiff of the formula of the loss of that name."""
    _, A, Y = arrays(name)
    return relative_error(loss.dA(A, Y), jax.grad(FORMULAS[name])(A, Y))


def dZ_error(loss, name):
    """`loss.dZ` against autodiff of the value through the output activation."""
    Z, A, Y = arrays(name)
    act = activations.get(loss.collapses_with)
    through = jax.grad(lambda Z: jnp.sum(loss.value(Z, act.fn(Z), Y)))(Z)
    formula = jax.grad(lambda Z: FORMULAS[name](act.fn(Z), Y))(Z)
    dZ = loss.dZ(Z, A, Y)
    return max(relative_error(dZ, through), relative_error(dZ, formula))


COLLAPSING = [name for name in losses.names() if losses.get(name).dZ is not None]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", losses.names())
def test_dA_equals_autodiff_of_the_loss_in_its_output(name):
    assert dA_error(losses.get(name), name) < 1e-12


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", COLLAPSING)
def test_collapsed_dZ_equals_autodiff_through_the_output(name):
    assert dZ_error(losses.get(name), name) < 1e-12


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", losses.names())
def test_comparison_catches_derivatives_wrong_by_a_thousandth(name):
    right = losses.get(name)
    wrong = dataclasses.replace(right, dA=lambda A, Y: 1.001 * right.dA(A, Y))
    assert dA_error(wrong, name) > 0.9e-3
    if right.dZ is not None:
        wrong = dataclasses.replace(right, dZ=lambda Z, A, Y: 1.001 * right.dZ(Z, A, Y))
        assert dZ_error(wrong, name) > 0.9e-3


def test_the_three_pairs_of_the_lecture_collapse_and_no_others():
    pairs = {
        (name, output)
        for name in losses.names()
        for output in ("softmax", "sigmoid", "linear", "tanh")
        if losses.collapses(losses.get(name), activations.get(output))
    }
    assert pairs == {
        ("cross_entropy", "softmax"),
        ("binary_cross_entropy", "sigmoid"),
        ("half_squared_error", "linear"),
    }


def test_a_scaled_linear_output_does_not_collapse():
    half_squared = losses.get("half_squared_error")
    assert not losses.collapses(half_squared, activations.linear(2.0))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["mse", "half_squared_error", "norm"])
@pytest.mark.parametrize("output", ["softmax", "tanh", "linear:2:-1"])
def test_any_output_meets_a_squared_error_or_the_norm(output, name):
    by_hand, by_autodiff = both_gradients(*linear_network(LOGITS, TARGETS, name, output))
    assert relative_error(by_hand, by_autodiff) < 1e-12


DEGREES = {"mse": 1, "sse": 1, "half_squared_error": 1, "norm": 0}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", DEGREES)
def test_degree_is_the_power_by_which_the_derivative_scales(name):
    loss, (_, A, Y) = losses.get(name), arrays(name)
    assert relative_error(loss.dA(8 * A, 8 * Y), 8**loss.degree * loss.dA(A, Y)) < TOLERANCE
    assert relative_error(loss.dA(8 * A, 8 * Y), 8 ** (loss.degree + 1) * loss.dA(A, Y)) > 0.5


def test_losses_of_differences_have_a_degree_and_no_others():
    degrees = {name: losses.get(name).degree for name in losses.names()}
    assert {name: k for name, k in degrees.items() if k is not None} == DEGREES


@pytest.mark.usefixtures("x64")
def test_softmax_vjp_of_the_cross_entropy_collapses_to_a_minus_y():
    _, A, Y = arrays("cross_entropy")
    chain = activations.softmax_vjp(A, losses.get("cross_entropy").dA(A, Y))
    assert relative_error(chain, np.asarray(A) - SOFT) < TOLERANCE


# --- logits of 1e4 --------------------------------------------------------------------------------

BIG = 1e4
SATURATED = [  # loss, logits, targets, value of each sample, its derivative in the logits
    ("cross_entropy", [BIG, -BIG], [1, 0], 0, [0, 0]),
    ("cross_entropy", [BIG, -BIG], [0, 1], 2 * BIG, [1, -1]),
    ("cross_entropy", [-BIG, -BIG], [0.5, 0.5], math.log(2), [0, 0]),
    ("cross_entropy", [BIG, BIG, -BIG, -BIG], [1, 0, 0, 0], math.log(2), [-0.5, 0.5, 0, 0]),
    ("cross_entropy", [BIG, 0, 0, 0], [0.5, 0.25, 0.25, 0], BIG / 2, [0.5, -0.25, -0.25, 0]),
    ("binary_cross_entropy", [BIG, -BIG], [1, 0], 0, [0, 0]),
    ("binary_cross_entropy", [BIG, -BIG], [0, 1], 2 * BIG, [1, -1]),
    ("binary_cross_entropy", [BIG, BIG], [0.25, 0.5], 1.25 * BIG, [0.75, 0.5]),
    ("half_squared_error", [BIG, -BIG], [0, 0], BIG**2, [BIG, -BIG]),
]


@pytest.mark.parametrize(("name", "logits", "targets", "value", "dZ"), SATURATED)
def test_saturated_logits_have_exact_value_and_derivative(name, logits, targets, value, dZ):
    loss, Z, Y = losses.get(name), jnp.array([logits]), jnp.array([targets], jnp.float32)
    A = activations.get(loss.collapses_with).fn(Z)
    np.testing.assert_array_equal(loss.value(Z, A, Y), np.float32([value]))
    np.testing.assert_array_equal(loss.dZ(Z, A, Y), [dZ])


@pytest.mark.parametrize(("name", "logits", "targets", "value", "dZ"), SATURATED)
def test_network_with_saturated_logits_has_exact_value_and_gradient(
    name, logits, targets, value, dZ
):
    output = losses.get(name).collapses_with
    other = np.zeros_like(logits)  # a second sample, so that the mean shows
    J, params, X, Y = linear_network([logits, other], [targets, targets], name, output, jnp.float32)
    alone = float(J(params, X[1:], Y[1:]))
    assert float(J(params, X, Y)) == pytest.approx((value + alone) / 2, rel=2e-7)  # 2 ulps
    by_hand, by_autodiff = both_gradients(J, params, X, Y)
    np.testing.assert_array_equal(by_hand[0], np.array(dZ) / 2)
    np.testing.assert_array_equal(by_hand, by_autodiff)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", ["mse", "norm"])
def test_general_chain_is_finite_and_flat_at_saturated_logits(output, name):
    J, params, X, Y = linear_network([[BIG, -BIG]], [[0.0, 1.0]], name, output, jnp.float32)
    by_hand, by_autodiff = both_gradients(J, params, X, Y)
    np.testing.assert_array_equal(by_hand, [[0, 0]])
    np.testing.assert_array_equal(by_autodiff, [[0, 0]])


def test_binary_cross_entropy_still_learns_at_logit_20():
    true = -math.exp(-20) / (1 + math.exp(-20))  # a - y; in float32 a is 1
    J, params, X, Y = linear_network([[20.0]], [[1.0]], "binary_cross_entropy", "sigmoid")
    assert activations.sigmoid.fn(jnp.float32(20)) == 1
    for gradient in both_gradients(J, params, X, Y):
        assert float(gradient[0, 0]) == pytest.approx(true, rel=1e-6)
    assert float(J(params, X, Y)) == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)


# --- soft targets ---------------------------------------------------------------------------------


def test_rows_of_any_sum_have_the_true_derivative_under_jit():
    Y = SOFT * np.array([[0.5], [1], [2], [0], [3], [0.1]])
    with jax.enable_x64(True):
        J, params, X, Y = linear_network(LOGITS, Y, "cross_entropy", "softmax")
        by_hand = jax.jit(jaxmlp.grad(J))(params, X, Y)[0].W
        by_autodiff = jax.jit(jax.grad(J))(params, X, Y)[0].W
        A = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
        expected = (A * np.asarray(Y).sum(axis=1, keepdims=True) - np.asarray(Y)) / M
        assert relative_error(by_hand, expected) < TOLERANCE
        assert relative_error(by_hand, by_autodiff) < TOLERANCE
        with pytest.raises(ValueError, match=r"rows of Y must sum to 1, but row 0 sums to 0\.5"):
            jaxmlp.grad(J)(params, X, SOFT / 2)


# --- the norm -------------------------------------------------------------------------------------


def test_norm_is_flat_where_the_output_hits_its_target():
    J, params, X, Y = linear_network([[1.0, 2.0], [3.0, 4.0]], [[1, 2], [0, 0]], "norm", "linear")
    assert J(params, X, Y) == 2.5
    for gradient in both_gradients(J, params, X, Y):
        np.testing.assert_allclose(gradient, [[0, 0], [0.3, 0.4]], rtol=1e-6)
        np.testing.assert_array_equal(gradient[0], [0, 0])


def test_norm_of_a_perfect_fit_and_its_gradient_are_exactly_zero():
    J, params, X, Y = linear_network([[1.0, 2.0]], [[1, 2]], "norm", "linear")
    assert J(params, X, Y) == 0
    for gradient in both_gradients(J, params, X, Y):
        np.testing.assert_array_equal(gradient, [[0, 0]])


@pytest.mark.parametrize("size", [1e-35, 1e-25, 1e-20, 1.0, 1e20, 1e25, 1e37])
def test_norm_neither_underflows_nor_overflows_by_squaring(size):
    logits = np.array([[3.0, -4.0], [5.0, 12.0]]) * size
    J, params, X, Y = linear_network(logits, np.zeros((2, 2)), "norm", "linear", jnp.float32)
    assert float(J(params, X, Y)) == pytest.approx(9 * size, rel=1e-6)
    for gradient in both_gradients(J, params, X, Y):
        np.testing.assert_allclose(gradient, [[0.3, -0.4], [5 / 26, 12 / 26]], rtol=1e-6)


# --- sums and means -------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "factor"), [("sse", M), ("half_squared_error", 0.5)])
def test_squared_errors_are_multiples_of_mse(name, factor):
    J, params, X, Y = linear_network(LOGITS, TARGETS, name, "tanh")
    mse = jaxmlp.Objective(J.mlp, "mse")
    assert float(J(params, X, Y)) == pytest.approx(factor * float(mse(params, X, Y)), rel=TOLERANCE)
    by_hand, _ = both_gradients(J, params, X, Y)
    reference, _ = both_gradients(mse, params, X, Y)
    assert relative_error(by_hand, factor * reference) < TOLERANCE


# --- the numbers of the notes ---------------------------------------------------------------------


def test_softmax_of_the_notes_example():  # B1; the notes cut the last to 0.013
    z = jnp.array([[1.1, 2.2, 0.2, -1.7]])
    mlp = jaxmlp.MLP((1, 4), output="softmax")
    params = (jaxmlp.Layer(z, jnp.zeros(4)),)
    s = mlp.apply(params, jnp.ones((1, 1)))
    np.testing.assert_allclose(s, [[0.2236, 0.6718, 0.0909, 0.0136]], rtol=0, atol=5e-5)


@pytest.mark.usefixtures("x64")
def test_softmax_of_two_classes_is_the_sigmoid_of_the_difference():  # B3
    z = jnp.asarray(LOGITS[:, :2])
    first = 1 / (1 + np.exp(LOGITS[:, 1] - LOGITS[:, 0]))
    np.testing.assert_allclose(activations.softmax.fn(z)[:, 0], first, rtol=TOLERANCE)
    difference = activations.sigmoid.fn(z[:, 0] - z[:, 1])
    np.testing.assert_allclose(difference, first, rtol=TOLERANCE)


@pytest.mark.parametrize(
    ("p", "q", "bits"), [((0.9, 0.1), (0.6, 0.4), 0.795), ((0.6, 0.4), (0.9, 0.1), 1.42)]
)
def test_cross_entropy_of_the_notes_in_bits_in_both_orders(p, q, bits):  # B4
    logits = np.log([q])
    J, params, X, Y = linear_network(logits, [p], "cross_entropy", "softmax", jnp.float32)
    in_bits = float(J(params, X, Y)) / math.log(2)
    assert in_bits == pytest.approx(-sum(np.multiply(p, np.log2(q))), rel=1e-6)
    assert round(in_bits, 3) == bits


def test_derivative_of_one_softmax_sample_in_the_notes():  # B6
    J, params, X, Y = linear_network(
        np.log([[0.7, 0.2, 0.1]]), [[1, 0, 0]], "cross_entropy", "softmax", jnp.float32
    )
    np.testing.assert_allclose(jaxmlp.grad(J)(params, X, Y)[0].W, [[-0.3, 0.2, 0.1]], rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_derivatives_in_the_output_are_those_of_the_notes():  # A3, B5
    a, y = jnp.array([[0.7, 0.2, 0.1]]), jnp.array([[1.0, 0.0, 1.0]])
    softmax_dA = losses.get("cross_entropy").dA(a, y)
    np.testing.assert_allclose(softmax_dA, [[-1 / 0.7, 0, -10]], rtol=TOLERANCE)
    sigmoid_dA = losses.get("binary_cross_entropy").dA(a, y)
    np.testing.assert_allclose(sigmoid_dA, -(y / a + (1 - y) / (a - 1)), rtol=TOLERANCE)


def test_squared_errors_of_the_four_pairs_of_the_notes():  # F1
    targets, predictions = np.array([[-10, 6], [12, 30], [-5, 19], [6, 0]], np.float32).T
    values = {}
    for name in ("sse", "mse", "half_squared_error", "norm"):
        J, params, X, Y = linear_network(predictions[:, None], targets, name, "linear")
        values[name] = float(J(params, X, Y))
        if name == "mse":  # 2/n (y - t)
            expected = 2 / 4 * (predictions - targets)
            np.testing.assert_array_equal(jaxmlp.grad(J)(params, X, Y)[0].W[:, 0], expected)
    assert values == {"sse": 1192, "mse": 298, "half_squared_error": 149, "norm": 16}


@pytest.mark.parametrize(("predictions", "error"), [((0.9, 0.1), 0.01), ((0.6, 0.4), 0.16)])
def test_errors_of_the_toy_example(predictions, error):  # F2; one of the notes has 0.36 for 0.16
    a, y = jnp.array([predictions]).T, jnp.array([[1.0], [0.0]])
    np.testing.assert_allclose(losses.get("mse").value(a, a, y), error, rtol=1e-5)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "output", "sentence"),
    [
        ("cross_entropy", "sigmoid", "cross_entropy needs a softmax output, but .* is sigmoid"),
        ("binary_cross_entropy", "softmax", "needs a sigmoid output, but the MLP's is softmax"),
        ("crossentropy", "softmax", "unknown loss 'crossentropy'; did you mean 'cross_entropy'"),
        ("MSE", "linear", "unknown loss 'MSE'; did you mean 'mse'"),
    ],
)
def test_loss_that_does_not_fit_the_output_is_refused(name, output, sentence):
    with pytest.raises(ValueError, match=sentence):
        jaxmlp.Objective(jaxmlp.MLP((2, 3), output=output), name)


DOUBLED = Activation("linear", lambda Z: 2 * Z, lambda Z, A: jnp.full_like(A, 2))
IMPOSTORS = {
    "cross_entropy": Activation("softmax", lambda Z: Z, lambda Z, A: jnp.ones_like(A)),
    "binary_cross_entropy": Activation("sigmoid", jnp.tanh, lambda Z, A: 1 - A**2),
}


def test_half_squared_error_does_not_collapse_with_another_activation_called_linear():
    J, params, X, Y = linear_network(LOGITS, TARGETS, "half_squared_error", DOUBLED, np.float32)
    by_hand, by_autodiff = both_gradients(J, params, X, Y)
    assert relative_error(by_hand, by_autodiff) < 1e-6  # float32; without the factor 2 it is 0.5


@pytest.mark.parametrize("name", IMPOSTORS)
def test_another_activation_with_the_name_that_a_loss_needs_is_refused(name):
    impostor = IMPOSTORS[name]
    sentence = rf"^{name} needs the output activations\.{impostor.name}, but the MLP's is another"
    with pytest.raises(ValueError, match=sentence):
        jaxmlp.Objective(jaxmlp.MLP((2, 3), output=impostor), name)


@pytest.mark.parametrize(
    ("fields", "error", "sentence"),
    [
        ({"reduction": "average"}, ValueError, r"'mse': reduction .*'sum'\), got 'average'"),
        ({"targets": "labels"}, ValueError, r"'mse': targets must be in .* got 'labels'"),
        ({"collapses_with": "linear"}, TypeError, "outputs must be Activations, got 'linear'"),
        ({"outputs": ("softmax",)}, TypeError, "outputs must be Activations, got 'softmax'"),
    ],
)
def test_description_of_a_loss_is_checked(fields, error, sentence):
    with pytest.raises(error, match=sentence):
        dataclasses.replace(losses.mse, **fields)


def test_loss_comes_by_name_or_as_itself():
    mse = losses.get("mse")
    assert isinstance(mse, Loss)
    assert losses.get(mse) is mse
    with pytest.raises(TypeError, match="a loss must be a name or a Loss, got 3"):
        losses.get(3)


@pytest.mark.parametrize("name", losses.names())
def test_loss_survives_a_pickle(name):
    back = pickle.loads(pickle.dumps(losses.get(name)))
    assert back == losses.get(name)
    assert hash(back) == hash(losses.get(name))


def value_of_own(Z, A, Y):
    return jnp.sum(jnp.abs(A - Y), axis=1)


def dA_of_own(A, Y):
    return jnp.sign(A - Y)


def test_loss_of_a_user_survives_a_pickle_as_its_functions_do():
    own = Loss("mse", value_of_own, dA_of_own, outputs=(activations.sigmoid,))
    assert pickle.loads(pickle.dumps(own)) == own != losses.mse
