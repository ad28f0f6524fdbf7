"""check_grads and what students return: names, orders, precision, mistakes beside the plants."""

import functools

import numpy as np
import plants
import pytest

import jaxmlp
from jaxmlp import check_grads

CASE = plants.Case("sigmoid", 2)
SQUARE = plants.Case("tanh", 3)


@functools.cache
def problem(case=CASE):
    return case.problem()


def right(params, X, Y, case=CASE):
    return plants.student(case.activation, case.loss)(params, X, Y)


def check(shaped, case=CASE):
    """The certificate of the right gradient in another shape, or with another number."""
    J, *args = problem(case)
    return check_grads(lambda *args: shaped(right(*args, case)), J, *args)


def named(certificate):
    return {d.mistake for d in certificate.diagnoses}


# --- forms ----------------------------------------------------------------------------------------

NAMES = (
    ("grad_W{}", "grad_b{}"), ("dL_dW{}", "dL_db{}"), ("dW_{}", "db_{}"), ("dJ/dW{}", "dJ/db{}"),
    ("W{}_grad", "b{}_grad"), ("gW{}", "gb{}"), ("dw{}", "dbias{}"), ("W{}", "b{}"),
    ("nabla_W{}", "nabla_b{}"), ("∂W{}", "∂b{}"), ("DW{}", "DB{}"),
)  # fmt: skip


@pytest.mark.parametrize(("W_name", "b_name"), NAMES)
def test_common_names_are_read(W_name, b_name):
    def shaped(first, grads):
        pairs = enumerate(grads, start=first)
        return {n.format(l): x for l, g in pairs for n, x in zip((W_name, b_name), g, strict=True)}

    for first in (0, 1):
        assert check(functools.partial(shaped, first)).passed


def flat(grads):
    return [x for pair in grads for x in pair]


ORDERS = {
    "dW1, db1, ...": flat,
    "from the last": lambda grads: tuple(flat(grads[::-1])),
    "weights first": lambda grads: [dW for dW, _ in grads] + [db for _, db in grads],
    "two lists": lambda grads: ([dW for dW, _ in grads], [db for _, db in grads]),
    "a dict of lists": lambda g: {"dW": [dW for dW, _ in g], "db": [db for _, db in g]},
    "a dict of layers": lambda grads: {
        f"layer{l}": {"dW": dW, "db": db} for l, (dW, db) in enumerate(grads, start=1)
    },
    "a list of dicts": lambda grads: [{"dW": dW, "db": db} for dW, db in grads],
    "with the value": lambda grads: (0.5, flat(grads)),
    "the value last": lambda grads: (flat(grads), 0.5),
}


@pytest.mark.parametrize("order", ORDERS)
def test_tuples_in_a_natural_order_are_read(order):
    certificate = check(ORDERS[order])
    if order == "from the last":
        assert named(certificate) == {"reversed"}
    else:
        assert {row.verdict for row in certificate.rows} == {"right"}


def test_pairs_of_one_unit_are_pairs():
    J = jaxmlp.Objective(jaxmlp.MLP((1, 1, 1), hidden="tanh", output="linear"), "mse")
    params = ((np.array([[0.5]]), np.array([0.1])), (np.array([[0.7]]), np.array([0.2])))
    layers = tuple(jaxmlp.Layer(*pair) for pair in params)

    def candidate(params, X, Y):
        (W1, b1, *_), (W2, b2, *_) = params
        A1 = np.tanh(X @ W1 + b1)
        dZ2 = 2 * (A1 @ W2 + b2 - Y)
        dZ1 = dZ2 @ W2.T * (1 - A1**2)
        mean = lambda dZ: dZ.mean(axis=0, keepdims=True)  # noqa: E731
        return [(X.T @ dZ1 / len(X), mean(dZ1)), (A1.T @ dZ2 / len(X), mean(dZ2))]

    X = np.array([[1.0], [2.0], [-1.0]])
    assert check_grads(candidate, J, layers, X, 3 * X).passed


@pytest.mark.parametrize("nothing", [{"W1": 1}, {}, {"gradient": 3}, None, np.ones(3), "grads"])
def test_what_is_no_gradient_is_told_what_is_expected(nothing):
    certificate = check(lambda grads: nothing)
    assert not certificate.passed
    words = " ".join(certificate.notes)
    if not isinstance(nothing, dict) or "W1" not in nothing:
        assert "expected a dict of dW1 (3, 5), db1 (5,)" in words
    else:
        assert certificate.rows[0][2::6] == ("wrong shape", "(), not (3, 5)")
    assert "not complete" in words
    assert "dW3" in words


# --- precision ------------------------------------------------------------------------------------


def in_float32(params, X, Y):
    """A right pass that keeps its arrays in float32, and so reads float64 targets."""
    (W1, b1, *_), (W2, b2, *_), (W3, b3, *_) = [
        [None if x is None else x.astype(np.float32) for x in layer] for layer in params
    ]
    A1 = 1 / (1 + np.exp(-(X.astype(np.float32) @ W1 + b1)))
    A2 = 1 / (1 + np.exp(-(A1 @ W2 + b2)))
    m, dZ3 = len(X), plants.softmax(A2 @ W3 + b3) - Y
    dZ2 = dZ3 @ W3.T * A2 * (1 - A2)
    dZ1 = dZ2 @ W2.T * A1 * (1 - A1)
    pairs = (X, dZ1), (A1, dZ2), (A2, dZ3)
    return [(A.T @ dZ / m, dZ.mean(axis=0)) for A, dZ in pairs]


def test_float32_inside_and_float64_outside_is_right():
    J, params, X, Y = problem()
    assert in_float32(params, X, Y)[2][0].dtype == np.float64  # promoted by the targets

    def cast_last(*args):  # numbers of 24 bits are no finite differences with steps of 2^-k
        return [[x.astype(np.float32).astype(float) for x in one] for one in in_float32(*args)]

    for candidate in (in_float32, cast_last):
        certificate = check_grads(candidate, J, params, X, Y)
        assert certificate.passed
        assert any("as exact as float32" in note for note in certificate.notes)

    def off(*args):  # a ten-thousandth in one array is no rounding
        grads = in_float32(*args)
        return [*grads[:2], (grads[2][0] * (1 + 1e-4), grads[2][1])]

    assert not check_grads(off, J, params, X, Y).passed


def test_a_mistake_as_small_as_the_rounding_of_float32_is_one_in_float64():
    J, params, X, Y = problem()

    def off(params, X, Y):
        return right([params[0]._replace(b=params[0].b + 1e-6), *params[1:]], X, Y)

    assert not check_grads(off, J, params, X, Y).passed


def test_a_small_factor_in_float64_is_not_taken_for_rounding():
    certificate = check(lambda grads: [(dW * (1 + 1e-7), db * (1 + 1e-7)) for dW, db in grads])
    assert not certificate.passed
    one = check(lambda grads: [(grads[0][0] * (1 + 1e-7), grads[0][1]), *grads[1:]])
    assert [row.name for row in one.rows if row.verdict == "wrong"] == ["W1"]


# --- mistakes -------------------------------------------------------------------------------------


def test_a_factor_is_told_by_its_size_in_one_array_or_in_all():
    everywhere = check(lambda grads: [(0.1 * dW, 0.1 * db) for dW, db in grads])
    assert named(everywhere) == {"factor"}
    assert "0.1 times the right one" in everywhere.diagnoses[0].mend
    one = check(lambda grads: [grads[0], (3.7 * grads[1][0], grads[1][1]), grads[2]])
    (diagnosis,) = one.diagnoses
    assert diagnosis[:2] == ("factor", (2,))
    assert "3.7 times the right one" in diagnosis.mend
    m = len(problem()[2])
    by_m = check(lambda grads: [(dW * m / 2, db * m / 2) for dW, db in grads])
    assert "m / 2" in str(by_m)


def test_a_reversed_list_is_not_transposed():
    for case in (CASE, SQUARE):
        certificate = check(lambda grads: grads[::-1], case)
        assert named(certificate) == {"reversed"}
        assert "grads[::-1]" in certificate.diagnoses[0].mend


def test_two_mistakes_at_once_are_told_one_after_the_other():
    assert {plants.outcome_of_two(CASE, *pair) for pair in plants.PAIRS[1::2]} == {"named"}


def test_given_forward_steps_are_looked_at_first():
    J, params, X, Y = problem()

    def candidate(params, X, Y):
        W1, W2, W3 = (layer.W for layer in params)
        b1, _, b3 = (layer.b for layer in params)
        Z1 = X @ W1 + b1
        A1 = 1 / (1 + np.exp(-Z1))
        Z2 = A1 @ W2  # the bias is left out
        A2 = 1 / (1 + np.exp(-Z2))
        A3 = plants.softmax(A2 @ W3 + b3)
        dZ3 = A3 - Y
        dZ2 = dZ3 @ W3.T * A2 * (1 - A2)
        dZ1 = dZ2 @ W2.T * A1 * (1 - A1)
        names = {"Z1": Z1, "A1": A1, "Z2": Z2, "A2": A2, "A3": A3}
        names |= {"dZ3": dZ3, "dZ2": dZ2, "dZ1": dZ1}
        for l, (A, dZ) in enumerate(((X, dZ1), (A1, dZ2), (A2, dZ3)), start=1):
            names |= {f"dW{l}": A.T @ dZ / len(X), f"db{l}": dZ.mean(axis=0)}
        return names

    certificate = check_grads(candidate, J, params, X, Y)
    assert certificate.first_wrong_step == "Z2"
    assert [(d.mistake, d.layers) for d in certificate.diagnoses] == [("bias_left_out", (2,))]
