"""The rules by which check_grads decides what a dtype can tell, each where it alone decides."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import plants
import pytest

import jaxmlp
from jaxmlp import Layer, check_grads
from jaxmlp.gradcheck import numeric, rounding, tape

HIDDEN = plants.Case("tanh", 2)


def only(dtype, gradient):
    """A candidate that answers in one dtype alone, so that float64 cannot be asked."""

    def candidate(x):
        if x.dtype != dtype:
            raise TypeError("another dtype")
        return np.asarray(gradient(np.float64(x))).astype(dtype)

    return candidate


def verdict(candidate, J, x):
    return check_grads(candidate, J, x).rows[0]


# --- what a dtype can tell ------------------------------------------------------------------------

SMALL = lambda x: jnp.float32(1e-33) * jnp.sum(jnp.exp(x))  # noqa: E731


def test_below_1e_30_float32_does_not_decide_even_if_it_is_exact():
    x = np.ones(2, np.float32)
    row = verdict(lambda x: np.float32(1e-33) * np.exp(x), SMALL, x)
    assert (row.verdict, row.dtype) == ("right", "float64")
    alone = verdict(only(np.float32, lambda x: np.float32(1e-33) * np.exp(x)), SMALL, x)
    assert (alone.verdict, alone.why) == ("undecided", "too small here for float32")


def squares(x):
    return jnp.sum(x * x) / 2


def test_float16_decides_down_to_its_own_smallest_numbers():
    x = np.array([0.01, 0.02], np.float16)
    assert check_grads(only(np.float16, lambda x: x), squares, x).notes == ()
    below = check_grads(only(np.float16, lambda x: x), squares, x / 1000)
    assert any("too small here for float16" in note for note in below.notes)


def test_half_precision_is_too_coarse_to_judge_if_float64_can():
    x = jnp.asarray([1.0, 3.0], jnp.bfloat16)
    row = verdict(lambda x: x * 1.05, squares, x)  # within bfloat16's tolerance
    assert (row.verdict, row.dtype) == ("wrong", "float64")
    assert check_grads(lambda x: x, squares, x).passed


def test_what_float64_judged_must_be_right_in_its_own_dtype_too():
    x = jnp.asarray([1.0, 3.0], jnp.bfloat16)
    row = verdict(lambda x: x if x.dtype == np.float64 else x * 100, squares, x)
    assert (row.verdict, row.dtype) == ("wrong", "bfloat16")


def test_what_half_precision_flushes_to_zero_is_no_mistake():
    J = lambda x: 1e-6 * jnp.sum(x)  # noqa: E731
    x = np.array([1.0, 3.0], np.float16)

    def flushes(x, times=1):  # 1e-8 is 0 in float16
        tiny = np.full(2, x.dtype.type(1e-4)) * x.dtype.type(1e-4)
        return tiny * x.dtype.type(100) * x.dtype.type(times)

    assert not flushes(x).any()
    row = verdict(flushes, J, x)
    assert (row.verdict, row.dtype) == ("right", "float64")
    assert verdict(lambda x: flushes(x, times=2), J, x).verdict == "wrong"


def test_what_cancels_in_float32_is_undecided_there():
    def far(x):
        return jnp.sum(jnp.sin(1e6 + x))

    x = np.array([0.3, 0.7], np.float32)
    row = verdict(only(np.float32, lambda x: np.cos(1e6 + x)), far, x)
    assert (row.verdict, row.why) == ("undecided", "lost in cancellation here")


def test_a_function_that_float32_cannot_hold_is_judged_in_float64():
    def J(x):
        return jnp.sum(jnp.exp(x))

    assert check_grads(np.exp, J, np.array([100.0, 101.0])).notes == ()
    assert not check_grads(lambda x: np.exp(x) * (1 + 1e-9), J, np.array([100.0, 101.0])).passed
    # Value and gradient are infinite in float32
    assert check_grads(jax.value_and_grad(J), J, np.float32([100.0, 101.0])).passed


def test_a_network_that_float32_cannot_hold_is_judged_in_float64():
    J = jaxmlp.Objective(jaxmlp.MLP((1, 1), output="linear"), "mse")
    params, X = (Layer(np.float32([[1]]), np.float32([0])),), np.float32([[1e20], [2e20]])
    with jax.enable_x64(False):
        assert np.isinf(jaxmlp.grad(J)(params, X, X * 0)[0].W).all()
    certificate = check_grads(jaxmlp.grad(J), J, params, X, X * 0)
    assert certificate.rows[0].dtype == "float64"
    assert certificate.passed


def test_a_J_that_casts_to_float32_has_the_tolerance_of_float32():
    J = lambda x: jnp.sin(x.astype(jnp.float32))  # noqa: E731
    x = np.asarray(0.3)
    certificate = check_grads(np.cos, J, x)
    assert certificate.passed
    assert 1e-6 < certificate.rows[0].tolerance < 1e-4
    assert certificate.rows[0].second_route == "cannot see"  # differences of it are all rounding
    assert not check_grads(lambda x: np.cos(x) * 1.001, J, x).passed


def test_subnormal_numbers_are_zero_as_in_xla():
    J = lambda p: jnp.sum(p["a"] ** 2)  # noqa: E731
    params = {"a": np.ones(2), "b": np.ones(2)}
    assert check_grads(lambda p: {"a": 2 * p["a"], "b": np.full(2, 1e-310)}, J, params).passed
    assert not check_grads(lambda p: {"a": 2 * p["a"], "b": np.full(2, 1e-300)}, J, params).passed


@pytest.mark.parametrize("size", [7e-307, 7e-306])
def test_below_the_range_of_float64_nothing_is_wrong(size):
    """Of products that underflow on the way each order of multiplication loses others."""
    mlp = jaxmlp.MLP((2, 3, 3, 3, 3, 2), hidden="tanh")
    J, rng = jaxmlp.Objective(mlp, "cross_entropy"), np.random.default_rng(0)
    pairs = [(W, np.zeros(W[1])) for W in zip(mlp.sizes, mlp.sizes[1:], strict=False)]
    params = tuple(jaxmlp.Layer(0.3 * rng.standard_normal(W), b) for W, b in pairs)
    with jax.enable_x64(True):
        X, Y = np.full((4, 2), size), np.zeros(4, int)
        certificate = check_grads(jaxmlp.grad(J), J, params, X, Y)
    assert certificate.first_wrong is None
    assert all(row.is_right for row in certificate.rows if row.name.startswith("b"))


def test_an_array_named_J_is_not_the_value():
    J = lambda p: jnp.sum(p["W"] ** 2)  # noqa: E731
    params = {"J": np.ones(2), "W": np.ones(2)}
    assert check_grads(lambda p: {"J": np.zeros(2), "W": 2 * p["W"]}, J, params).passed
    almost = check_grads(lambda p: {"J": np.full(2, 1e-300), "W": 2 * p["W"]}, J, params)
    assert almost.first_wrong == "J"


def test_the_tolerance_is_16_times_eps_sqrt_L_or_more():
    certificate = check_grads(plants.student("tanh", "cross_entropy"), *HIDDEN.problem())
    assert all(row.tolerance >= 16 * 2**-52 * 3**0.5 for row in certificate.rows)


def test_targets_that_sum_to_1_up_to_rounding_leave_two_right_gradients():
    J, params, X, Y = HIDDEN.problem()
    Y = Y.astype(np.float32).astype(np.float64)
    assert 1e-9 < abs(Y.sum(axis=1) - 1).max() < 1e-6
    by_formula = check_grads(plants.student("tanh", "cross_entropy"), J, params, X, Y)
    with jax.enable_x64(True):
        by_autodiff = check_grads(jax.grad(J), J, params, X, Y)
    for certificate in (by_formula, by_autodiff):
        assert certificate.passed
        assert certificate.notes == ()  # in float64


def test_one_inexact_array_among_exact_ones_is_no_float32_on_the_way():
    def candidate(*args):
        grads = plants.student("tanh", "cross_entropy")(*args)
        noise = np.random.default_rng(0).normal(size=grads[0][0].shape)
        return [(grads[0][0] * (1 + 1e-8 * noise), grads[0][1]), *grads[1:]]

    recorded = candidate(*HIDDEN.problem()[1:])
    for asked in (candidate, lambda *args: recorded):
        wrong = [row.name for row in check_grads(asked, *HIDDEN.problem()).rows if row.is_wrong]
        assert wrong == ["W1"]


def test_a_recorded_factor_is_no_float32_on_the_way():
    grads = plants.student("tanh", "cross_entropy")(*HIDDEN.problem()[1:])
    recorded = [(dW * (1 + 1e-7), db * (1 + 1e-7)) for dW, db in grads]
    certificate = check_grads(lambda *args: recorded, *HIDDEN.problem())
    assert all(row.is_wrong for row in certificate.rows)


@functools.cache
def line():
    """A network of one unit, without activation: J, params, X."""
    J = jaxmlp.Objective(jaxmlp.MLP((1, 1), output="linear"), "mse")
    X = np.linspace(-1, 1, 4096, dtype=np.float32)[:, None]
    return J, (Layer(np.float32([[0.3]]), np.float32([0.1])),), X


def by_loops(params, X, Y):
    """Everything in float32, and samples added one after the other."""
    ((W, b, *_),) = params
    off = X @ W + b - Y
    dZ = 2 * off
    dW, db, m = np.zeros_like(W), np.zeros_like(b), X.dtype.type(len(X))
    for x, dz in zip(X, dZ, strict=True):
        dW, db = dW + np.outer(x, dz), db + dz
    return np.mean(off * off), [(dW / m, db / m)]


def test_sums_that_cancel_late_may_round_by_the_sum_so_far():
    J, params, X = line()
    Y = (X * np.float32(0.3) + np.float32(0.1) - np.sign(X)).astype(np.float32)
    assert check_grads(lambda *args: by_loops(*args)[1], J, params, X, Y).passed


def test_a_value_that_cancels_is_judged_by_the_size_of_its_terms():
    J, params, X = line()
    X = X[::256]
    Y = X * np.float32(0.3) + np.float32(0.1) + np.float32(1e-6)
    value = check_grads(by_loops, J, params, X, Y).value
    assert value.numbers.difference < 1e-9
    assert value.verdict == "right"


# --- kinks ----------------------------------------------------------------------------------------


def test_a_kink_above_moves_the_slope_of_a_layer_below():
    J = jaxmlp.Objective(jaxmlp.MLP((2, 3, 2, 2), hidden=("prelu", "relu")), "cross_entropy")
    rng = np.random.default_rng(0)
    params = (
        Layer(rng.normal(size=(2, 3)), np.zeros(3), np.asarray(0.3)),
        Layer(np.array([[1.0, -1.0], [-1.0, -1.0], [0.0, 0.5]]), np.zeros(2)),
        Layer(rng.normal(size=(2, 2)), np.zeros(2)),
    )
    params[0].W[:] = [[-1.0], [-2.0]]  # three equal units: the first one above them is exactly 0
    X, Y = np.abs(rng.normal(size=(4, 2))), np.eye(2)[[0, 1, 1, 0]]

    def candidate(params, X, Y, slope_of="dA1"):
        (W1, b1, slope, *_), (W2, b2, *_), (W3, b3, *_) = params
        Z1 = X @ W1 + b1
        A1 = np.where(Z1 > 0, Z1, slope * Z1)
        Z2 = A1 @ W2 + b2
        A2 = np.maximum(Z2, 0)
        dZ3 = plants.softmax(A2 @ W3 + b3) - Y
        dZ2 = dZ3 @ W3.T * (Z2 >= 0)
        dA1 = dZ2 @ W2.T
        dZ1 = dA1 * np.where(Z1 > 0, 1, slope)
        pairs = enumerate(((X, dZ1), (A1, dZ2), (A2, dZ3)), start=1)
        grads = {}
        for l, (A, dZ) in pairs:
            grads |= {f"dW{l}": A.T @ dZ / 4, f"db{l}": dZ.mean(axis=0)}
        dA1 = {"dA1": dA1, "dZ1": dZ1}[slope_of]
        return grads | {"dslope1": np.sum(dA1 * np.minimum(Z1, 0)) / 4}

    certificate = check_grads(candidate, J, params, X, Y)
    assert certificate.passed, certificate
    assert next(row for row in certificate.rows if row.name == "slope1").at_kinks == 1
    wrong = check_grads(lambda *a: candidate(*a) | {"dslope1": np.asarray(100.0)}, J, params, X, Y)
    assert wrong.first_wrong == 1
    # Away from the kink
    params[1].W[:] += 0.2
    slipped = check_grads(functools.partial(candidate, slope_of="dZ1"), J, params, X, Y)
    assert [d.mistake for d in slipped.diagnoses] == ["wrong_slope"]


def test_a_norm_enlarges_the_doubt_at_a_kink():
    """S is 2 eps of its terms, U 2 eps of terms that the norm has made 500 times larger."""
    J = jaxmlp.Objective(jaxmlp.MLP((2, 2, 2), hidden="relu", norm="rms"), "cross_entropy")
    W1, eps = np.array([[1.0, 1.0], [-1.0, 1.0]]), 2.0**-52
    layers = Layer(W1, np.zeros(2)), Layer(np.eye(2), np.zeros(2))
    X = 2.0**-10 * np.array([[1 + 2 * eps, 1.0]])
    with jax.enable_x64(True):
        found = tape.forward(J, layers, X, np.eye(2)[:1])
    U, no_drift = found.records[0].U, [np.zeros((1, 2)), np.zeros((1, 2))]
    assert 1e-3 * eps < U[0, 0] < 4 * eps
    with jax.enable_x64(True):
        assert rounding.conventions(found, no_drift, eps)
        assert not rounding.conventions(found, no_drift, eps / 100)


# --- where nothing is tested ----------------------------------------------------------------------


def test_zeros_at_a_minimum_are_looked_at_elsewhere():
    J = lambda x: jnp.sum(x**2)  # noqa: E731
    assert check_grads(lambda x: 2 * x, J, np.zeros(3)).passed
    assert check_grads(lambda x: x**2, J, np.zeros(3)).first_wrong == "gradient"
    recorded = check_grads(lambda x: np.zeros(3), J, np.zeros(3))
    assert not recorded.passed
    assert recorded.first_wrong is None


def test_a_minimum_is_looked_at_nearby_if_fresh_parameters_have_no_value():
    J = lambda x: jnp.sum(jnp.log(x) ** 2)  # noqa: E731
    assert check_grads(lambda x: 2 * np.log(x) / x, J, np.ones(3)).passed
    assert check_grads(lambda x: np.log(x) / x, J, np.ones(3)).first_wrong == "gradient"


def test_what_is_off_here_is_not_right_because_it_is_right_elsewhere():
    J = lambda x: jnp.sum(x**40)  # noqa: E731

    def candidate(x, factor):
        return 40 * x**39 * (factor if np.abs(x).max() < 0.14 else 1)

    x = np.full(3, 0.13, np.float32)  # its gradient is 1e-33
    for factor, passed in ((1, True), (2, False)):
        gradient = functools.partial(candidate, factor=factor)
        assert check_grads(only(np.float32, gradient), J, x).passed == passed


def test_saturation_is_looked_at_elsewhere_and_disputes_nothing():
    J = lambda x: jnp.sum(jnp.tanh(x))  # noqa: E731
    assert check_grads(lambda x: 1 - np.tanh(x) ** 2, J, np.full(3, 30.0)).passed
    assert not check_grads(lambda x: 1 - np.tanh(x), J, np.full(3, 30.0)).passed


def test_a_slope_that_only_the_complex_step_has_is_no_mistake():
    """At 18 autodiff's 1 - tanh^2 has no digit left; sech^2 has all of them."""
    J = lambda p: jnp.sum(jnp.sin(p["a"])) + jnp.sum(jnp.tanh(p["b"]))  # noqa: E731
    params = {"a": np.ones(2), "b": np.full(2, 18.0)}
    exact = lambda p: {"a": np.cos(p["a"]), "b": np.cosh(p["b"]) ** -2.0}  # noqa: E731
    with jax.enable_x64(True):
        for candidate in (jax.grad(J), exact):
            certificate = check_grads(candidate, J, params)
            assert certificate.disputes == ()
            assert certificate.passed, certificate


def test_a_dead_network_is_looked_at_with_fresh_parameters():
    J = jaxmlp.Objective(jaxmlp.MLP((2, 3, 3, 2), hidden="relu"), "cross_entropy")
    bs = np.zeros(3), -np.ones(3), np.zeros(2)
    Ws = np.ones((2, 3)), -np.ones((3, 3)), np.ones((3, 2))
    params = tuple(map(Layer, Ws, bs))
    X, Y = np.random.default_rng(0).random((5, 2)), np.eye(2)[[0, 1, 1, 0, 1]]
    assert check_grads(plants.student("relu", "cross_entropy"), J, params, X, Y).passed
    wrong = plants.student("relu", "cross_entropy", "no_derivative", (1,))
    assert check_grads(wrong, J, params, X, Y).first_wrong == 1


def test_a_zero_that_its_input_makes_tests_nothing():
    J, params, X, Y = HIDDEN.problem()
    X = X * [0, 1, 1]
    certificate = check_grads(plants.student("tanh", "cross_entropy"), J, params, X * 0, Y)
    assert {row.name for row in certificate.rows if row.verdict == "undecided"} == {"W1"}
    assert check_grads(plants.student("tanh", "cross_entropy"), J, params, X, Y).passed


# --- the second route -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "route"), [(jnp.sin, "complex step"), (jax.nn.softplus, "cannot see")]
)
def test_a_complex_step_is_believed_if_differences_confirm_it(f, route):
    J = lambda p: jnp.sum(f(p["a"])) + 1e-20 * jnp.sum(jnp.sin(p["b"]))  # noqa: E731
    params = {"a": np.ones(2), "b": np.ones(2)}
    with jax.enable_x64(True):
        certificate = check_grads(jax.grad(J), J, params)
    assert certificate.passed
    assert certificate.rows[1].second_route.endswith(route)


def test_a_loss_of_a_known_name_is_not_the_known_loss():
    mse = jaxmlp.losses.get("mse")
    mine = dataclasses.replace(mse, value=lambda Z, A, Y: jnp.sum(jnp.abs(A - Y), axis=1))
    mlp = jaxmlp.MLP((2, 2), output="linear")
    assert numeric.complex_is_right(jaxmlp.Objective(mlp, mse))
    assert not numeric.complex_is_right(jaxmlp.Objective(mlp, mine))


# --- forms ----------------------------------------------------------------------------------------


@functools.cache
def square():
    """A network whose weights all have one shape: J, params, X, Y."""
    J = jaxmlp.Objective(jaxmlp.MLP((4, 4, 4, 4), hidden="tanh"), "cross_entropy")
    rng = np.random.default_rng(3)
    params = tuple(Layer(rng.normal(size=(4, 4)), rng.normal(size=4)) for _ in range(3))
    return J, params, rng.normal(size=(9, 4)), plants.softmax(rng.normal(size=(9, 4)))


def test_square_weights_in_columns_are_read_by_their_numbers():
    right = plants.student("tanh", "cross_entropy")
    certificate = check_grads(lambda *args: [(dW.T, db) for dW, db in right(*args)], *square())
    assert certificate.passed
    assert any("d_out, d_in" in note for note in certificate.notes)
    alone = check_grads(
        lambda *args: [(dW.T if l == 1 else dW, db) for l, (dW, db) in enumerate(right(*args))],
        *square(),
    )
    assert (alone.first_wrong, alone.diagnoses[0].mistake) == (2, "transposed")


def test_square_layers_from_the_last_are_read_by_their_numbers():
    right = plants.student("tanh", "cross_entropy")
    certificate = check_grads(lambda *args: right(*args)[::-1], *square())
    assert {d.mistake for d in certificate.diagnoses} == {"reversed"}


def test_two_names_of_one_array_do_not_hide_each_other():
    def candidate(*args):
        pairs = enumerate(plants.student("tanh", "cross_entropy")(*args), start=1)
        named = {}
        for l, (dW, db) in pairs:
            named |= {f"dW{l}": dW, f"db{l}": db, f"grad_W{l}": 5 * dW}
        return named

    assert check_grads(candidate, *HIDDEN.problem()).passed


def test_parameters_without_arrays_have_a_certificate_too():
    certificate = check_grads(lambda p: {}, lambda p: jnp.float32(1), {})
    assert not certificate.passed
    assert "could not be decided" in str(certificate)
    assert "could not be decided" in certificate._repr_html_()


# --- mistakes that no plant makes -----------------------------------------------------------------

DONE_TO_IT = {
    "rounded": lambda g, p: np.round(g, 3),
    "clipped": lambda g, p: np.clip(g, -0.05, 0.05),
    "updated_parameter": lambda g, p: p - 0.1 * g,
    "wrong_array": lambda g, p: p,
}


@pytest.mark.parametrize("mistake", DONE_TO_IT)
def test_what_was_done_to_a_right_gradient_is_named(mistake):
    done = DONE_TO_IT[mistake]

    def candidate(params, X, Y):
        grads = plants.student("tanh", "cross_entropy")(params, X, Y)
        pairs = zip(grads, params, strict=True)
        return [tuple(map(done, grad, layer[:2])) for grad, layer in pairs]

    named = {d.mistake for d in check_grads(candidate, *HIDDEN.problem()).diagnoses}
    assert named == {mistake}


def test_a_bias_of_dW_and_a_scaled_X_are_named():
    right = plants.student("tanh", "cross_entropy")

    def of_dW(*args):
        return [(dW, dW.sum(axis=0)) for dW, _ in right(*args)]

    def standardised(params, X, Y):
        return right(params, (X - X.mean(axis=0)) / X.std(axis=0), Y)

    for candidate, mistake in ((of_dW, "bias_of_dW"), (standardised, "X_scaled")):
        diagnoses = check_grads(candidate, *HIDDEN.problem()).diagnoses
        assert mistake in {d.mistake for d in diagnoses}


def test_a_transposed_weight_in_the_forward_pass_alone_is_named():
    def candidate(params, X, Y):
        (W1, b1, *_), (W2, b2, *_), (W3, b3, *_) = params
        A1 = np.tanh(X @ W1 + b1)
        A2 = np.tanh(A1 @ W2.T + b2)
        dZ3 = plants.softmax(A2 @ W3 + b3) - Y
        dZ2 = dZ3 @ W3.T * (1 - A2**2)
        dZ1 = dZ2 @ W2.T * (1 - A1**2)
        pairs = (X, dZ1), (A1, dZ2), (A2, dZ3)
        return [(A.T @ dZ / len(X), dZ.mean(axis=0)) for A, dZ in pairs]

    found = check_grads(candidate, *square())
    assert [(d.mistake, d.layers) for d in found.diagnoses] == [("wrong_W_forward", (2,))]
    assert "W2.T" in found.diagnoses[0].mend


def test_a_mistake_that_its_own_layer_does_not_show_is_named_in_it():
    """Samples 0 and 2 give no input to layer 2, so the order of dZ2 shows in layer 1 alone."""
    J = jaxmlp.Objective(jaxmlp.MLP((3, 2, 2), hidden="tanh"), "cross_entropy")
    rng = np.random.default_rng(0)
    W1 = np.vstack([rng.normal(size=(2, 2)), np.zeros((1, 2))])
    params = Layer(W1, np.zeros(2)), Layer(rng.normal(size=(2, 2)), np.zeros(2))
    X = np.array([[0.0, 0, 1], [1, 2, 3], [0, 0, -2]])
    candidate = plants.student("tanh", "cross_entropy", "rows_moved", (2,))
    certificate = check_grads(candidate, J, params, X, plants.softmax(rng.normal(size=(3, 2))))
    assert certificate.first_wrong == 1
    assert ("rows_moved", (2,)) in {(d.mistake, d.layers) for d in certificate.diagnoses}


def test_three_mistakes_in_one_layer_are_not_guessed():
    """Where a step and both arrays are free, something would explain any numbers."""
    first = "factor_2 dW db", (3,)
    three = [(plant, (2,)) for plant in ("no_derivative", "transposed", "bias_wrong_axis")]
    candidate = plants.student("tanh", "cross_entropy", *first, also=three)
    certificate = check_grads(candidate, *HIDDEN.problem())
    assert "factor_2" in {d.mistake for d in certificate.diagnoses}
    assert certificate.further == ()


def test_two_mistakes_in_one_layer_are_named():
    pair = ("no_derivative", (2,)), ("bias_not_summed", (2,))
    assert plants.outcome_of_two(HIDDEN, *pair) == "named"


@pytest.mark.parametrize("h", [1e-4, 1e-6])
def test_differences_as_exact_as_float32_are_differences_all_the_same(h):
    def candidate(params, X, Y):
        def value(arrays):
            A = X
            for W, b in arrays[:-1]:
                A = np.tanh(A @ W + b)
            W, b = arrays[-1]
            return -np.sum(Y * np.log(plants.softmax(A @ W + b))) / len(X)

        return plants.differences(value, params, h, both_sides=True)

    certificate = check_grads(candidate, *HIDDEN.problem())
    assert [d.mistake for d in certificate.diagnoses] == ["finite_differences"]


def test_at_a_kink_of_a_plain_function_every_number_between_the_two_slopes_is_right():
    zero = jnp.float32(0)
    for slope, verdict in ((0.0, True), (-1.0, True), (0.5, True), (1.01, False), (-5.0, False)):
        assert check_grads(lambda x: slope, jnp.abs, zero).passed == verdict  # noqa: B023
    assert not check_grads(lambda x: 1e-3, jnp.square, zero).passed  # a bend is no kink
    assert not check_grads(lambda x: 1.0, lambda x: jnp.where(x > 0, 1, 0 * x), zero).passed


def test_a_lasso_with_weights_of_exactly_zero_is_right_by_the_sign():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 4)).astype(np.float32)
    w = np.array([0.7, 0.0, -1.2, 0.0], np.float32)

    def J(w, X):
        return jnp.mean((X @ w) ** 2) / 2 + 0.1 * jnp.sum(jnp.abs(w))

    def by_hand(w, X, penalty=0.1):
        return X.T @ (X @ w) / len(X) + np.float32(penalty) * np.sign(w)

    certificate = check_grads(by_hand, J, w, X)
    assert certificate.passed
    assert certificate.rows[0].at_kinks == 2
    assert not check_grads(lambda *args: by_hand(*args, penalty=0.05), J, w, X).passed
