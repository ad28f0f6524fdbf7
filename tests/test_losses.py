import dataclasses
import functools
import math
import pickle
from typing import Any, NamedTuple

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
LABELS = np.arange(M) % K
FITTING = {"cross_entropy": SOFT, "binary_cross_entropy": BINARY}  # the targets of a loss
OUTPUT = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}
TOLERANCE = 1e-13  # rounding, float64, of a few sums over K = 4
SQUARED = ("mse", "half_squared_error", "norm")
ANY = ("softmax", "tanh", "linear:2:-1")


# --- what is computed: each precision in one program, because compiling is what it costs ----------


class Case(NamedTuple):
    """Hold a network whose last Z is exactly `logits`: W is the logits, X the identity."""

    loss: str
    output: Any
    logits: Any
    Y: Any


class Solved(NamedTuple):
    """Hold J, and dJ/dZ (which is dJ/dW) by hand and by autodiff."""

    value: np.ndarray
    by_hand: np.ndarray
    by_autodiff: np.ndarray


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
SIZES = (1e-35, 1e-25, 1e-20, 1.0, 1e20, 1e25, 1e37)
PAIRS = np.array([[-10, 6], [12, 30], [-5, 19], [6, 0]], np.float64)  # F1: targets, predictions
IN_BITS = [((0.9, 0.1), (0.6, 0.4), 0.795), ((0.6, 0.4), (0.9, 0.1), 1.42)]  # B4
DOUBLED = Activation("linear", lambda Z: 2 * Z, lambda Z, A: jnp.full_like(A, 2))
ROWS = SOFT * np.array([[0.5], [1], [2], [0], [3], [0.1]])  # of any sum

DOUBLE = {
    **{
        name: Case(name, OUTPUT.get(name, "linear"), LOGITS, FITTING.get(name, TARGETS))
        for name in losses.names()
    },
    **{(name, out): Case(name, out, LOGITS, TARGETS) for name in SQUARED for out in ANY},
    ("sse", "tanh"): Case("sse", "tanh", LOGITS, TARGETS),
    "labels": Case("cross_entropy", "softmax", LOGITS, LABELS),
    "doubled": Case("half_squared_error", DOUBLED, LOGITS, TARGETS),
    "rows": Case("cross_entropy", "softmax", LOGITS, ROWS),
    **{("bits", p): Case("cross_entropy", "softmax", np.log([q]), [p]) for p, q, _ in IN_BITS},
    "B6": Case("cross_entropy", "softmax", np.log([[0.7, 0.2, 0.1]]), [[1, 0, 0]]),
    **{
        ("F1", name): Case(name, "linear", PAIRS[:, 1:], PAIRS[:, :1])
        for name in ("sse", "mse", "half_squared_error", "norm")
    },
}
SINGLE = {
    # a second sample, so that the mean shows
    **{
        ("saturated", i): Case(name, losses.get(name).collapses_with, [z, np.zeros_like(z)], [y, y])
        for i, (name, z, y, *_) in enumerate(SATURATED)
    },
    **{
        (name, output): Case(name, output, [[BIG, -BIG]], [[0.0, 1.0]])
        for output in ("softmax", "sigmoid")
        for name in ("mse", "norm")
    },
    "logit 20": Case("binary_cross_entropy", "sigmoid", [[20.0]], [[1.0]]),
    "hit": Case("norm", "linear", [[1.0, 2.0], [3.0, 4.0]], [[1, 2], [0, 0]]),
    "perfect": Case("norm", "linear", [[1.0, 2.0]], [[1, 2]]),
    **{
        ("norm", s): Case("norm", "linear", np.array([[3, -4], [5, 12]]) * s, np.zeros((2, 2)))
        for s in SIZES
    },
}


def solve(cases, dtype):
    groups = {}  # a loop over those of equal shape compiles as one of them
    for key, c in cases.items():
        arrays = np.asarray(c.logits, dtype), np.asarray(c.Y, None if c.Y is LABELS else dtype)
        kind = c.loss, activations.get(c.output), arrays[0].shape, arrays[1].shape
        groups.setdefault(kind, {})[key] = arrays

    def solve_all(stacked):
        found = []
        for (loss, output, shape, _), arrays in zip(groups, stacked, strict=True):
            J = jaxmlp.Objective(jaxmlp.MLP(shape, output=output, use_bias=False), loss)

            def solve_one(arrays):
                params, X = (jaxmlp.Layer(arrays[0]),), jnp.eye(len(arrays[0]), dtype=dtype)
                value, (by_hand,) = jaxmlp.value_and_grad(J)(params, X, arrays[1])  # noqa: B023
                return Solved(value, by_hand.W, jax.grad(J)(params, X, arrays[1])[0].W)  # noqa: B023

            found.append(jax.lax.map(solve_one, arrays))
        return found

    stacked = [tuple(map(np.stack, zip(*group.values(), strict=True))) for group in groups.values()]
    with jax.enable_x64(dtype == np.float64):
        found = jax.tree.map(np.asarray, jax.jit(solve_all)(stacked))
    return {
        key: Solved(*(x[i] for x in results))
        for group, results in zip(groups.values(), found, strict=True)
        for i, key in enumerate(group)
    }


@functools.cache
def solved(dtype):
    return solve(DOUBLE if dtype == np.float64 else SINGLE, dtype)


def double(key):
    return solved(np.float64)[key]


def single(key):
    return solved(np.float32)[key]


class Formulas(NamedTuple):
    """Hold a loss at Z, A, Y, with optax's value and autodiff of the notes' formula."""

    value: Any
    optax: Any
    dA: Any
    autodiff_dA: Any
    dA_of_8: Any  # dA(8 A, 8 Y)
    dZ: Any
    through: Any  # autodiff of the value through the output activation
    formula: Any  # autodiff of the notes' formula through it


OF_OPTAX = {
    "cross_entropy": lambda Z, A, Y: optax.softmax_cross_entropy(Z, Y),
    "binary_cross_entropy": lambda Z, A, Y: optax.sigmoid_binary_cross_entropy(Z, Y).sum(axis=1),
    "half_squared_error": lambda Z, A, Y: optax.l2_loss(A, Y).sum(axis=1),
    "sse": lambda Z, A, Y: 2 * optax.l2_loss(A, Y).sum(axis=1),
}
IN_NUMPY = {
    "mse": lambda A, Y: ((A - Y) ** 2).sum(axis=1),
    "norm": lambda A, Y: np.linalg.norm(A - Y, axis=1),
}
NOTES = {  # each loss as a plain function of the output, as the notes write it
    "cross_entropy": lambda A, Y: -jnp.sum(Y * jnp.log(A)),
    "binary_cross_entropy": lambda A, Y: -jnp.sum(Y * jnp.log(A) + (1 - Y) * jnp.log(1 - A)),
    "half_squared_error": lambda A, Y: jnp.sum((A - Y) ** 2) / 2,
    "mse": lambda A, Y: jnp.sum((A - Y) ** 2),
    "sse": lambda A, Y: jnp.sum((A - Y) ** 2),
    "norm": lambda A, Y: jnp.sum(jnp.sqrt(jnp.sum((A - Y) ** 2, axis=1))),
}
COLLAPSING = [name for name in losses.names() if losses.get(name).dZ is not None]


@functools.cache
def every_formula():
    def evaluate(Z, targets):
        found = {"labels": optax.softmax_cross_entropy_with_integer_labels(Z, LABELS)}
        for name, Y in targets.items():
            loss, note = losses.get(name), NOTES[name]
            act = loss.collapses_with or activations.linear()
            A, dZ, through, formula = act.fn(Z), None, None, None
            if name in COLLAPSING:
                dZ = loss.dZ(Z, A, Y)
                through = jax.grad(lambda Z: jnp.sum(loss.value(Z, act.fn(Z), Y)))(Z)  # noqa: B023
                formula = jax.grad(lambda Z: note(act.fn(Z), Y))(Z)  # noqa: B023
            of_optax = OF_OPTAX[name](Z, A, Y) if name in OF_OPTAX else None
            dA, autodiff, of_8 = loss.dA(A, Y), jax.grad(note)(A, Y), loss.dA(8 * A, 8 * Y)
            value = loss.value(Z, A, Y)
            found[name] = Formulas(value, of_optax, dA, autodiff, of_8, dZ, through, formula)
        return found

    targets = {name: FITTING.get(name, TARGETS) for name in losses.names()}
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(evaluate)(LOGITS, targets))


def formulas(name):
    return every_formula()[name]


def of_each_sample(name):
    """Return a loss's value by optax or NumPy."""
    if name in OF_OPTAX:
        return formulas(name).optax
    return IN_NUMPY[name](LOGITS, TARGETS)


# --- values ---------------------------------------------------------------------------------------


def test_every_loss_has_an_oracle():
    assert OF_OPTAX.keys() | IN_NUMPY.keys() == NOTES.keys() == set(losses.names())


@pytest.mark.parametrize("name", losses.names())
def test_value_of_each_sample_equals_optax_or_numpy(name):
    value = formulas(name).value
    assert value.shape == (M,)
    np.testing.assert_allclose(value, of_each_sample(name), rtol=TOLERANCE)


@pytest.mark.parametrize("name", losses.names())
def test_objective_is_the_mean_over_the_samples_or_the_sum(name):
    expected = of_each_sample(name).sum() / (1 if name == "sse" else M)
    assert double(name).value == pytest.approx(expected, rel=TOLERANCE)


def test_integer_labels_have_the_cross_entropy_of_optax():
    expected = every_formula()["labels"].mean()
    assert double("labels").value == pytest.approx(expected, rel=TOLERANCE)


# --- derivatives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", losses.names())
def test_dA_equals_autodiff_of_the_loss_in_its_output(name):
    found = formulas(name)
    assert relative_error(found.dA, found.autodiff_dA) < 1e-12
    assert relative_error(1.001 * found.dA, found.autodiff_dA) > 0.9e-3


@pytest.mark.parametrize("name", COLLAPSING)
def test_collapsed_dZ_equals_autodiff_through_the_output(name):
    found = formulas(name)
    for autodiff in (found.through, found.formula):
        assert relative_error(found.dZ, autodiff) < 1e-12
        assert relative_error(1.001 * found.dZ, autodiff) > 0.9e-3


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
    assert not losses.collapses(losses.half_squared_error, activations.linear(2.0))


def test_half_squared_error_does_not_collapse_with_another_activation_called_linear():
    _, by_hand, by_autodiff = double("doubled")
    assert relative_error(by_hand, by_autodiff) < 1e-12  # 0.5 without the factor 2


@pytest.mark.parametrize("name", SQUARED)
@pytest.mark.parametrize("output", ANY)
def test_any_output_meets_a_squared_error_or_the_norm(output, name):
    _, by_hand, by_autodiff = double((name, output))
    assert relative_error(by_hand, by_autodiff) < 1e-12


DEGREES = {"mse": 1, "sse": 1, "half_squared_error": 1, "norm": 0}


@pytest.mark.parametrize("name", DEGREES)
def test_degree_is_the_power_by_which_the_derivative_scales(name):
    degree, found = losses.get(name).degree, formulas(name)
    assert relative_error(found.dA_of_8, 8**degree * found.dA) < TOLERANCE
    assert relative_error(found.dA_of_8, 8 ** (degree + 1) * found.dA) > 0.5


def test_losses_of_differences_have_a_degree_and_no_others():
    degrees = {name: losses.get(name).degree for name in losses.names()}
    assert {name: k for name, k in degrees.items() if k is not None} == DEGREES


def test_softmax_vjp_of_the_cross_entropy_collapses_to_a_minus_y():
    A = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    with jax.enable_x64(True):
        chain = jax.jit(activations.softmax_vjp)(A, formulas("cross_entropy").dA)
    assert relative_error(chain, A - SOFT) < TOLERANCE


# --- logits of 1e4 --------------------------------------------------------------------------------


@pytest.mark.parametrize("i", range(len(SATURATED)))
def test_network_with_saturated_logits_has_exact_value_and_gradient(i):
    name, logits, _, value, dZ = SATURATED[i]
    found = single(("saturated", i))
    # the second sample's logits are 0
    alone = {"cross_entropy": math.log(len(logits)), "half_squared_error": 0}
    mean = (value + alone.get(name, len(logits) * math.log(2))) / 2
    assert found.value == pytest.approx(mean, rel=2e-7)  # 2 ulps
    np.testing.assert_array_equal(found.by_hand[0], np.array(dZ) / 2)
    np.testing.assert_array_equal(found.by_hand, found.by_autodiff)


def test_value_and_derivative_of_a_sample_with_saturated_logits_are_exact():
    arrays = [(np.float32([logits]), np.float32([y])) for _, logits, y, *_ in SATURATED]

    def evaluate(arrays):
        described = [losses.get(name) for name, *_ in SATURATED]
        outputs = [
            loss.collapses_with.fn(Z) for loss, (Z, _) in zip(described, arrays, strict=True)
        ]
        return [
            (loss.value(Z, A, Y), loss.dZ(Z, A, Y))
            for loss, A, (Z, Y) in zip(described, outputs, arrays, strict=True)
        ]

    for (_, _, _, value, dZ), found in zip(SATURATED, jax.jit(evaluate)(arrays), strict=True):
        np.testing.assert_array_equal(found[0], np.float32([value]))
        np.testing.assert_array_equal(found[1], [dZ])


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", ["mse", "norm"])
def test_general_chain_is_finite_and_flat_at_saturated_logits(output, name):
    found = single((name, output))
    np.testing.assert_array_equal(found.by_hand, [[0, 0]])
    np.testing.assert_array_equal(found.by_autodiff, [[0, 0]])


def test_binary_cross_entropy_still_learns_at_logit_20():
    true = -math.exp(-20) / (1 + math.exp(-20))  # a - y; in float32 a is 1
    assert activations.sigmoid.fn(np.float32(20)) == 1
    value, *gradients = single("logit 20")
    for gradient in gradients:
        assert float(gradient[0, 0]) == pytest.approx(true, rel=1e-6)
    assert float(value) == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)


# --- soft targets ---------------------------------------------------------------------------------


def test_rows_of_any_sum_have_the_true_derivative_under_jit_and_are_refused_outside():
    _, by_hand, by_autodiff = double("rows")
    A = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    assert relative_error(by_hand, (A * ROWS.sum(axis=1, keepdims=True) - ROWS) / M) < TOLERANCE
    assert relative_error(by_hand, by_autodiff) < TOLERANCE
    J = jaxmlp.Objective(jaxmlp.MLP((M, K), use_bias=False), "cross_entropy")
    params, X = (jaxmlp.Layer(np.float32(LOGITS)),), np.eye(M, dtype=np.float32)
    with pytest.raises(ValueError, match=r"rows of Y must sum to 1, but row 0 sums to 0\.5"):
        jaxmlp.grad(J)(params, X, SOFT / 2)


# --- the norm -------------------------------------------------------------------------------------


def test_norm_is_flat_where_the_output_hits_its_target():
    value, *gradients = single("hit")
    assert value == 2.5
    for gradient in gradients:
        np.testing.assert_allclose(gradient, [[0, 0], [0.3, 0.4]], rtol=1e-6)
        np.testing.assert_array_equal(gradient[0], [0, 0])


def test_norm_of_a_perfect_fit_and_its_gradient_are_exactly_zero():
    value, *gradients = single("perfect")
    assert value == 0
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, [[0, 0]])


@pytest.mark.parametrize("size", SIZES)
def test_norm_neither_underflows_nor_overflows_by_squaring(size):
    value, *gradients = single(("norm", size))
    assert float(value) == pytest.approx(9 * size, rel=1e-6)
    for gradient in gradients:
        np.testing.assert_allclose(gradient, [[0.3, -0.4], [5 / 26, 12 / 26]], rtol=1e-6)


# --- sums and means -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "factor"), [("sse", M), ("half_squared_error", 0.5)])
def test_squared_errors_are_multiples_of_mse(name, factor):
    found, mse = double((name, "tanh")), double(("mse", "tanh"))
    assert found.value == pytest.approx(factor * mse.value, rel=TOLERANCE)
    assert relative_error(found.by_hand, factor * mse.by_hand) < TOLERANCE


# --- the numbers of the notes ---------------------------------------------------------------------


def test_softmax_of_the_notes_example():  # B1; the notes cut the last to 0.013
    mlp = jaxmlp.MLP((1, 4), output="softmax")
    params = (jaxmlp.Layer(np.float32([[1.1, 2.2, 0.2, -1.7]]), np.zeros(4, np.float32)),)
    s = mlp.apply(params, np.ones((1, 1), np.float32))
    np.testing.assert_allclose(s, [[0.2236, 0.6718, 0.0909, 0.0136]], rtol=0, atol=5e-5)


def test_softmax_of_two_classes_is_the_sigmoid_of_the_difference():  # B3
    z = LOGITS[:, :2]
    first = 1 / (1 + np.exp(z[:, 1] - z[:, 0]))
    with jax.enable_x64(True):
        softmax, sigmoid = jax.jit(
            lambda z: (activations.softmax.fn(z), activations.sigmoid.fn(z[:, 0] - z[:, 1]))
        )(z)
    np.testing.assert_allclose(softmax[:, 0], first, rtol=TOLERANCE)
    np.testing.assert_allclose(sigmoid, first, rtol=TOLERANCE)


@pytest.mark.parametrize(("p", "q", "bits"), IN_BITS)
def test_cross_entropy_of_the_notes_in_bits_in_both_orders(p, q, bits):  # B4
    in_bits = float(double(("bits", p)).value) / math.log(2)
    assert in_bits == pytest.approx(-sum(np.multiply(p, np.log2(q))), rel=1e-6)
    assert round(in_bits, 3) == bits


def test_derivative_of_one_softmax_sample_in_the_notes():  # B6
    np.testing.assert_allclose(double("B6").by_hand, [[-0.3, 0.2, 0.1]], rtol=1e-6)


def test_derivatives_in_the_output_are_those_of_the_notes():  # A3, B5
    a, y = np.array([[0.7, 0.2, 0.1]]), np.array([[1.0, 0.0, 1.0]])
    with jax.enable_x64(True):
        softmax_dA, sigmoid_dA = jax.jit(
            lambda a, y: (losses.cross_entropy.dA(a, y), losses.binary_cross_entropy.dA(a, y))
        )(a, y)
    np.testing.assert_allclose(softmax_dA, [[-1 / 0.7, 0, -10]], rtol=TOLERANCE)
    np.testing.assert_allclose(sigmoid_dA, -(y / a + (1 - y) / (a - 1)), rtol=TOLERANCE)


def test_squared_errors_of_the_four_pairs_of_the_notes():  # F1
    names = ("sse", "mse", "half_squared_error", "norm")
    assert [double(("F1", name)).value for name in names] == [1192, 298, 149, 16]
    expected = 2 / 4 * (PAIRS[:, 1:] - PAIRS[:, :1])  # 2/n (y - t)
    np.testing.assert_array_equal(double(("F1", "mse")).by_hand, expected)


@pytest.mark.parametrize(("predictions", "error"), [((0.9, 0.1), 0.01), ((0.6, 0.4), 0.16)])
def test_errors_of_the_toy_example(predictions, error):  # F2; one of the notes has 0.36 for 0.16
    a, y = np.float32([predictions]).T, np.float32([[1.0], [0.0]])
    np.testing.assert_allclose(losses.mse.value(a, a, y), error, rtol=1e-5)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "output", "sentence"),
    [
        ("cross_entropy", "sigmoid", "cross_entropy needs a softmax output, but .* is sigmoid"),
        ("binary_cross_entropy", "softmax", "needs a sigmoid output, but the MLP's is softmax"),
        ("crossentropy", "softmax", "unknown loss 'crossentropy'; did you mean 'cross_entropy'"),
        ("MSE", "linear", "unknown loss 'MSE'; did you mean 'mse'"),
        ("mse:2", "linear", "loss 'mse' takes no arguments, got 'mse:2'"),
    ],
)
def test_loss_that_does_not_fit_the_output_is_refused(name, output, sentence):
    with pytest.raises(ValueError, match=sentence):
        jaxmlp.Objective(jaxmlp.MLP((2, 3), output=output), name)


IMPOSTORS = {
    "cross_entropy": Activation("softmax", lambda Z: Z, lambda Z, A: jnp.ones_like(A)),
    "binary_cross_entropy": Activation("sigmoid", jnp.tanh, lambda Z, A: 1 - A**2),
}


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
