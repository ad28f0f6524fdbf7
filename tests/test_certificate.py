"""check_grads: right gradients pass in every form, wrong ones fail in their layer and are named."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import plants
import pytest

import jaxmlp
from jaxmlp import Layer, check_grads
from jaxmlp.gradcheck import Certificate, numeric

DTYPES = np.float32, np.float64
HIDDEN = plants.Case("tanh", 2)


@functools.cache
def problem(case=HIDDEN):
    return case.problem()


def right(params, X, Y):
    """The student's own pass, free of mistakes."""
    return plants.student("tanh", "cross_entropy")(params, X, Y)


def with_names(grads, prefix=""):
    return {
        f"{prefix}{field}{l}": leaf
        for l, pair in enumerate(grads, start=1)
        for field, leaf in zip("Wb", pair, strict=True)
    }


def changed(**functions):
    """The right gradient with some arrays passed through functions."""

    def candidate(params, X, Y):
        named = with_names(right(params, X, Y))
        return named | {name: f(named[name]) for name, f in functions.items()}

    return candidate


def check(candidate, case=HIDDEN, **kwargs):
    return check_grads(candidate, *problem(case), **kwargs)


def in_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def named_by_hand(J, *args):
    return jaxmlp.as_dict(in_numpy(jaxmlp.grad(J)(*args)))


def row(certificate, name):
    return next(row for row in certificate.rows if row.name == name)


# --- forms of a gradient --------------------------------------------------------------------------

FORMS = {
    "pairs": lambda grads, J: grads,
    "lists of lists": lambda grads, J: [[dW.tolist(), db.tolist()] for dW, db in grads],
    "layers": lambda grads, J: tuple(Layer(*pair) for pair in grads),
    "dict": lambda grads, J: with_names(grads),
    "dict of dW": lambda grads, J: with_names(grads, "d"),
    "value and pairs": lambda grads, J: (J, grads),
    "value and dict": lambda grads, J: [np.asarray(J), with_names(grads)],
    "rows for biases": lambda grads, J: [(dW, db[None]) for dW, db in grads],
    "columns": lambda grads, J: [(dW.T, db[:, None]) for dW, db in grads],
    "columns, flat biases": lambda grads, J: [(dW.T, db) for dW, db in grads],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_right_gradient_passes_in_every_form_and_a_wrong_one_in_none(form):
    J, params, X, Y = problem()
    with jax.enable_x64(True):
        value = float(J(params, X, Y))
    double = lambda grads: [(2 * dW, 2 * db) for dW, db in grads]  # noqa: E731
    shaped = FORMS[form]
    certificate = check(lambda *args: shaped(right(*args), value))
    assert certificate.passed
    assert certificate.first_wrong is None
    assert certificate.diagnoses == ()
    assert (certificate.value is not None) == form.startswith("value")
    assert any("d_out, d_in" in note for note in certificate.notes) == form.startswith("columns")
    wrong = check(lambda *args: shaped(double(right(*args)), value))
    assert not wrong.passed
    assert wrong.first_wrong == 3
    assert "factor_2" in {d.mistake for d in wrong.diagnoses}


@pytest.mark.parametrize("transform", [jaxmlp.grad, jaxmlp.value_and_grad, jax.value_and_grad])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_jax_candidates_pass_in_the_structure_of_the_parameters(transform, wrap):
    J, *args = problem()
    assert check_grads(wrap(transform(J)), J, *jax.tree.map(np.float32, args)).passed


def test_stacked_gradients_and_lists_of_their_layers_are_the_same():
    J, params, *data = thin()
    assert len(params) < len(jaxmlp.layers(params))

    def listed(params, X, Y):  # of plain layers, as a candidate by hand expects
        assert [layer.W.ndim for layer in params] == [2] * 101
        grads = in_numpy(jaxmlp.grad(J)(params, X, Y))
        return [tuple(layer[:2]) for layer in grads]

    def wrong(*args):
        return [(dW, -db if l == 30 else db) for l, (dW, db) in enumerate(listed(*args), start=1)]

    certificate = check_grads(wrong, J, params, *data)
    assert certificate.first_wrong == 30
    assert ("sign", (30,)) in {(d.mistake, d.layers) for d in certificate.diagnoses}


BROKEN = {
    "None": (lambda grads: None, "missing", "NoneType"),
    "a number": (lambda grads: 0.5, "missing", "float"),
    "empty": (lambda grads: {}, "missing", "not complete"),
    "no db2": (lambda g: {k: v for k, v in with_names(g).items() if k != "b2"}, "missing", ""),
    "a word": (lambda grads: with_names(grads) | {"b2": "b"}, "missing", "dtype"),
    "ragged": (lambda grads: with_names(grads) | {"b2": [[1, 2], [3]]}, "missing", "not an array"),
    "complex": (lambda grads: with_names(grads) | {"b2": 1j * np.ones(5)}, "missing", "real"),
    "NaN": (lambda g: with_names(g) | {"b2": g[1][1] * np.nan}, "not finite", "not finite"),
    "infinity": (lambda g: with_names(g) | {"b2": g[1][1] / 0.0}, "not finite", "not finite"),
    "zeros, integers": (lambda g: with_names(g) | {"b2": np.zeros(5, int)}, "wrong", "all zeros"),
    "too long": (
        lambda g: with_names(g) | {"b2": np.ones(6)},
        "wrong shape",
        "wrong shape (6,), not (5,)",
    ),
    "per sample": (lambda g: with_names(g) | {"b2": np.ones((7, 5))}, "wrong shape", "(7, 5)"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_no_gradient_fails_in_its_row_and_raises_nothing(broken):
    form, verdict, note = BROKEN[broken]
    with np.errstate(all="ignore"):
        certificate = check(lambda *args: form(right(*args)))
    assert not certificate.passed
    assert row(certificate, "b2").verdict.startswith(verdict)
    assert note in str(certificate)
    nothing_came = broken in ("None", "a number", "empty")
    assert certificate.first_wrong == (3 if nothing_came else 2)


def test_what_is_not_read_is_said():
    certificate = check(lambda *args: with_names(right(*args), "d") | {"cache": 3, "W1": 0})
    assert certificate.passed
    assert any("cache was not read" in note for note in certificate.notes)
    assert any("W1 was not read: dW1" in note for note in certificate.notes)


def test_a_wrong_value_fails_and_the_gradient_stays_right():
    J, params, X, Y = problem()
    with jax.enable_x64(True):
        value = float(J(params, X, Y))
    certificate = check(lambda *args: (value * (1 + 1e-9), right(*args)))
    assert not certificate.passed
    assert certificate.first_wrong is None
    assert certificate.value.verdict == "wrong"
    assert not check(lambda *args: (np.ones(2), right(*args))).passed


def test_a_candidate_that_writes_into_its_arguments_does_no_harm():
    def careless(params, X, Y):
        grads = right(params, X, Y)
        for layer, (dW, _) in zip(params, grads, strict=True):
            layer.W[:] -= dW
        return grads

    _, params, _, _ = problem()
    before = [layer.W.copy() for layer in params]
    certificate = check(careless)
    assert certificate.passed
    assert any("in place" in note for note in certificate.notes)
    assert all((layer.W == W).all() for layer, W in zip(params, before, strict=True))


def test_what_the_candidate_raises_goes_through():
    with pytest.raises(ZeroDivisionError):
        check(lambda *args: 1 / 0)


def test_bad_calls_are_refused_in_a_sentence():
    J, params, X, Y = problem()
    with pytest.raises(TypeError, match="arguments"):
        check_grads(right, J)
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda X: check_grads(right, J, params, X, Y).passed)(jnp.asarray(X))
    with pytest.raises(ValueError, match="rtol"):
        check(right, rtol=-1)
    with pytest.raises(ValueError, match="samples"):
        check_grads(right, J, params, X, Y[:-1])


# --- the numbers ----------------------------------------------------------------------------------


def test_each_array_is_measured_by_itself():
    def flip_one(dW):
        dW = dW.copy()
        dW[np.unravel_index(np.abs(dW).argmax(), dW.shape)] *= -1
        return dW

    certificate = check(changed(W1=flip_one, W2=lambda dW: 1.001 * dW, b3=lambda db: -db))
    flipped, scaled, turned = (row(certificate, name).numbers for name in ("W1", "W2", "b3"))
    assert (flipped.difference, flipped.sign_flips) == (2.0, 1)
    assert flipped.norm_ratio == pytest.approx(1, rel=1e-12)
    assert -1 < flipped.cosine < 1
    assert scaled.difference == pytest.approx(1e-3, rel=1e-9)
    assert scaled.norm_ratio == pytest.approx(1.001, rel=1e-12)
    assert scaled.cosine == pytest.approx(1, rel=1e-12)
    assert 1e-3 * 2**52 <= scaled.ulp <= 1e-3 * 2**53 * (1 + 1e-9)
    assert (turned.cosine, turned.sign_flips) == (pytest.approx(-1), 4)
    assert row(certificate, "b1").verdict == "right"
    assert certificate.first_wrong == 3


@pytest.mark.parametrize("error", [1e-11, 1e-6, 0.1])
@pytest.mark.parametrize("name", ["W1", "b2", "W3"])
def test_a_relative_error_is_caught_in_its_array_alone(name, error):
    certificate = check(changed(**{name: lambda x: x * (1 + error)}))
    wrong = [r.name for r in certificate.rows if r.verdict != "right"]
    assert wrong == [name]
    assert row(certificate, name).numbers.difference == pytest.approx(error, rel=1e-3)
    assert row(certificate, name).tolerance < error


def test_rtol_stands_in_for_the_tolerance():
    wrong = changed(W1=lambda dW: dW * 1.001)
    assert check(wrong, rtol=1e-2).passed
    assert not check(wrong, rtol=1e-4).passed


@functools.cache
def thin(dtype=np.float32):
    """A hundred sigmoids over a gradient of 1e-60: J, params, X, Y."""
    J = jaxmlp.Objective(jaxmlp.MLP((3, *[4] * 100, 2), hidden="sigmoid"), "cross_entropy")
    rng = np.random.default_rng(0)
    stack = Layer(rng.normal(size=(99, 4, 4)) / 2, rng.normal(size=(99, 4)) / 3)
    ends = (Layer(rng.normal(size=s), np.zeros(s[1])) for s in ((3, 4), (4, 2)))
    params = next(ends), stack, next(ends)
    X, Y = rng.normal(size=(5, 3)), np.array([0, 1, 0, 0, 1])
    return J, *jax.tree.map(lambda x: x.astype(dtype), (params, X)), Y


def test_a_millionth_is_caught_at_1e_60_under_a_hundred_sigmoids():
    J, *args = thin(np.float64)

    def candidate(factor, *args):
        grads = named_by_hand(J, *args)
        return grads | {"W1": grads["W1"] * factor}

    with jax.enable_x64(True):
        assert 1e-70 < abs(candidate(1.0, *args)["W1"]).max() < 1e-60
        exact, off = (
            check_grads(functools.partial(candidate, factor), J, *args) for factor in (1, 1 + 1e-6)
        )
    assert exact.passed
    assert not off.passed
    assert off.first_wrong == 1
    assert row(off, "W1").numbers.difference == pytest.approx(1e-6, rel=1e-3)
    assert "complex step" in row(off, "W1").second_route


def test_layers_too_small_for_float32_are_judged_in_float64():
    J, *args = thin()
    certificate = check_grads(jaxmlp.grad(J), J, *args)
    assert certificate.passed
    assert (row(certificate, "W1").dtype, row(certificate, "W101").dtype) == ("float64", "float32")
    zeros = check_grads(lambda *a: jax.tree.map(np.zeros_like, jaxmlp.grad(J)(*a)), J, *args)
    assert {r.verdict for r in zeros.rows} == {"wrong"}
    plain = tuple(jaxmlp.layers(args[0]))
    only_float32 = jax.jit(jaxmlp.grad(J)).lower(plain, *args[1:]).compile()
    undecided = check_grads(lambda *a: only_float32(*map(_float32, a)), J, *args)
    assert not undecided.passed
    assert undecided.first_wrong is None
    assert row(undecided, "W1").verdict == "undecided"


def _float32(tree):
    floating = lambda x: np.issubdtype(x.dtype, np.floating)  # noqa: E731
    return jax.tree.map(lambda x: np.float32(x) if floating(x) else x, tree)


def test_what_is_exactly_zero_must_be_exactly_zero():
    def J(params):
        return jnp.sum(params["used"] ** 2)

    params = {"unused": np.ones(2), "used": np.ones(2)}
    grads = {"unused": np.zeros(2), "used": 2 * np.ones(2)}
    assert check_grads(lambda p: grads, J, params).passed
    almost = grads | {"unused": np.array([0, 1e-300])}
    assert check_grads(lambda p: almost, J, params).first_wrong == "unused"


def test_half_precision_is_judged_in_float64_too():
    J, params, X, Y = problem()
    params, X = jax.device_put(jax.tree.map(lambda x: x.astype(jnp.bfloat16), (params, X)))
    args = params, X, np.argmax(Y, axis=1)
    assert check_grads(jaxmlp.grad(J), J, *args).passed

    def percent(*args):
        return jax.tree.map(lambda g: g * g.dtype.type(1.01), in_numpy(jaxmlp.grad(J)(*args)))

    assert not check_grads(percent, J, *args).passed


def test_right_gradients_pass_fresh_and_trained():
    chosen = [plants.Case("tanh", 2, seed=1, dtype=t, steps=n) for t in DTYPES for n in (0, 300)]
    assert [case for case in chosen if plants.alarm(case)] == []


# --- steps ----------------------------------------------------------------------------------------


def all_steps(params, X, Y, wrong=None, share=1.0):
    """E3 of a softmax regression on one tanh layer, with one step off."""
    (W1, b1, *_), (W2, b2, *_) = params
    m, found = len(X), {}

    def note(name, value):
        found[name] = value * (1.5 if name == wrong else 1)
        return found[name]

    A1 = note("A1", np.tanh(note("Z1", X @ W1 + b1)))
    A2 = note("A2", plants.softmax(note("Z2", A1 @ W2 + b2)))
    dZ2 = note("dZ2", (A2 - Y) * share)
    note("dW2", A1.T @ dZ2 / (m * share))
    note("db2", dZ2.sum(axis=0) / (m * share))
    dZ1 = note("dZ1", note("dA1", dZ2 @ W2.T) * (1 - A1**2))
    note("dW1", X.T @ dZ1 / (m * share))
    note("db1", dZ1.sum(axis=0) / (m * share))
    return found


E3 = ("Z1", "A1", "Z2", "A2", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1")


@functools.cache
def two_layers():
    rng = np.random.default_rng(1)
    params = (
        Layer(rng.normal(size=(2, 4)), rng.normal(size=4)),
        Layer(rng.normal(size=(4, 3)), rng.normal(size=3)),
    )
    J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3), hidden="tanh"), "cross_entropy")
    return J, params, rng.normal(size=(6, 2)), plants.softmax(rng.normal(size=(6, 3)))


@pytest.mark.parametrize("share", [1.0, 1 / 6], ids=["each sample's own", "of the mean"])
@pytest.mark.parametrize("wrong", [None, *E3])
def test_the_first_wrong_step_of_E3_is_named(wrong, share):
    candidate = functools.partial(all_steps, wrong=wrong, share=share)
    certificate = check_grads(candidate, *two_layers())
    assert certificate.first_wrong_step == wrong
    assert certificate.passed == (wrong is None)
    assert {r.name for r in certificate.steps} == {name for name in E3 if name[1] not in "Wb"}


def test_steps_in_columns_are_read_as_rows():
    def columns(*args):
        return {name: np.atleast_2d(x).T for name, x in all_steps(*args, wrong="dA1").items()}

    assert check_grads(columns, *two_layers()).first_wrong_step == "dA1"


def test_given_steps_tell_arrays_that_are_wrong_from_a_wrong_walk():
    def candidate(*args):
        found = all_steps(*args)
        return found | {name: -found[name] for name in ("dW1", "db1")}

    (diagnosis,) = check_grads(candidate, *two_layers()).diagnoses
    assert (diagnosis.mistake, diagnosis.steps) == ("sign", ("dW1", "db1"))


def test_a_wrong_step_beside_right_gradients_is_a_note():
    def candidate(*args):
        found = all_steps(*args)
        return found | {"dA1": 2 * found["dA1"]}

    certificate = check_grads(candidate, *two_layers())
    assert certificate.passed
    assert any(note.startswith("dA1") for note in certificate.notes)


# --- kinks ----------------------------------------------------------------------------------------


def at_the_origin(gate, factor=1.0):
    """A ReLU network with samples at 0 and no biases: every unit at its kink there."""
    J = jaxmlp.Objective(jaxmlp.MLP((3, 5, 4), hidden="relu"), "cross_entropy")
    rng = np.random.default_rng(0)
    params = (
        Layer(rng.normal(size=(3, 5)), np.zeros(5)),
        Layer(rng.normal(size=(5, 4)), np.zeros(4)),
    )
    X = rng.normal(size=(8, 3))
    X[:2] = 0
    Y = np.eye(4)[rng.integers(0, 4, 8)]

    def candidate(params, X, Y):
        (W1, b1, *_), (W2, b2, *_) = params
        Z1 = X @ W1 + b1
        A1 = np.maximum(Z1, 0)
        dZ2 = plants.softmax(A1 @ W2 + b2) - Y
        dZ1 = dZ2 @ W2.T * gate(Z1) * factor
        return [(X.T @ dZ1 / 8, dZ1.mean(axis=0)), (A1.T @ dZ2 / 8, dZ2.mean(axis=0))]

    return check_grads(candidate, J, params, X, Y)


@pytest.mark.parametrize(
    "gate",
    [
        lambda Z: Z > 0,
        lambda Z: Z >= 0,
        lambda Z: np.heaviside(Z, 0.5),
        lambda Z: np.heaviside(Z, np.arange(Z.size).reshape(Z.shape) % 2),
    ],
    ids=["0", "1", "half", "mixed"],
)
def test_entries_at_kinks_count_apart_and_every_side_is_right(gate):
    certificate = at_the_origin(gate)
    assert certificate.passed
    assert [row.at_kinks for row in certificate.rows] == [0, 5, 0, 0]
    assert row(certificate, "b1").second_route == ""


def test_kinks_hide_no_mistake():
    certificate = at_the_origin(lambda Z: Z >= 0, factor=-1.0)
    assert certificate.first_wrong == 1
    assert ("sign", (1,)) in {(d.mistake, d.layers) for d in certificate.diagnoses}
    assert not at_the_origin(lambda Z: np.heaviside(Z, 3.0)).passed
    assert not at_the_origin(lambda Z: Z > 0, factor=1 + 1e-9).passed


# --- references -----------------------------------------------------------------------------------


@jax.custom_vjp
def wrong_rule(x):
    return jnp.tanh(x)


wrong_rule.defvjp(lambda x: (jnp.tanh(x), x), lambda x, v: (v * (1 - jnp.tanh(x)),))


@jax.custom_jvp
def right_rule(x):
    return jnp.tanh(x)


right_rule.defjvps(lambda t, y, x: t * (1 - y**2))


def loss_with(act):
    def J(params, X):
        return jnp.mean((act(X @ params["W"] + params["b"]) @ params["v"]) ** 2)

    return J


def inside_a_loop(act):
    """The same, the rule hidden in jit and scan."""
    apply = jax.jit(lambda A: jax.lax.scan(lambda A, _: (act(A), None), A, None, length=1)[0])
    return loss_with(apply)


SOUND = loss_with(jnp.tanh)


@functools.cache
def small():
    rng = np.random.default_rng(0)
    shapes = {"W": (3, 4), "b": (4,), "v": (4,)}
    params = {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}
    return params, jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)


@pytest.mark.parametrize("build", [loss_with, inside_a_loop])
@pytest.mark.parametrize("reference", [None, SOUND], ids=["numeric", "reference"])
def test_a_wrong_rule_fails_although_autodiff_agrees_with_it(build, reference):
    J = build(wrong_rule)
    certificate = check_grads(jax.jit(jax.grad(J)), J, *small(), reference=reference)
    assert not certificate.passed
    assert {r.name for r in certificate.rows if r.verdict == "wrong"} == {"W", "b"}
    assert any("rule of your own, wrong_rule" in note for note in certificate.notes)
    sound = jax.jit(jax.grad(SOUND))
    assert check_grads(sound, J, *small(), reference=reference).passed


def test_a_right_rule_passes_by_the_numeric_route():
    J = loss_with(right_rule)
    certificate = check_grads(jax.jit(jax.grad(J)), J, *small())
    assert certificate.passed
    assert all("central differences" in r.second_route for r in certificate.rows)


def test_a_wrong_rule_in_an_activation_fails():
    mlp = jaxmlp.MLP((3, 4, 2), hidden=jaxmlp.Activation("mine", wrong_rule))
    J, (_, X) = jaxmlp.Objective(mlp, "cross_entropy"), small()
    rng = np.random.default_rng(0)
    params = tuple(
        Layer(np.float32(rng.normal(size=s)), np.zeros(s[1], np.float32)) for s in ((3, 4), (4, 2))
    )
    certificate = check_grads(jax.jit(jax.grad(J)), J, params, X, np.arange(6) % 2)
    assert certificate.first_wrong == 1
    assert certificate.diagnoses == ()


@pytest.mark.parametrize("act", [jax.nn.relu, jax.nn.softplus], ids=["custom_jvp", "logaddexp"])
def test_the_rules_of_jax_itself_are_trusted(act):
    J = loss_with(act)
    text = str(jax.make_jaxpr(J)(*small()))
    assert "custom_jvp" in text
    certificate = check_grads(jax.jit(jax.grad(J)), J, *small())
    assert certificate.passed
    assert certificate.notes == ()


def test_where_autodiff_and_differences_disagree_nothing_is_certified():
    J = loss_with(lambda Z: jax.lax.stop_gradient(jnp.tanh(Z)) * Z)
    certificate = check_grads(jax.jit(jax.grad(J)), J, *small())
    assert not certificate.passed
    assert "disagree in W, b" in certificate.disputes[0]


def test_a_reference_of_other_values_is_disputed():
    grad = jax.jit(jax.grad(SOUND))
    certificate = check_grads(grad, SOUND, *small(), reference=loss_with(jnp.sin))
    assert not certificate.passed
    assert "but the reference" in certificate.disputes[0]


def test_a_J_that_cannot_run_in_float64_is_compared_in_its_own_dtype():
    def J(params, X):
        step = lambda total, row: (total + row @ params["W"] @ params["v"], None)  # noqa: E731
        return jax.lax.scan(step, jnp.float32(0), X)[0] ** 2

    def candidate(params, X, factor=1.0):
        params, X = in_numpy((params, X))
        total, rows = X.sum(axis=0) @ params["W"] @ params["v"], X.sum(axis=0)
        W = np.outer(rows, params["v"]) * 2 * total * np.float32(factor)
        return {"W": W, "b": params["b"] * 0, "v": 2 * total * rows @ params["W"]}

    certificate = check_grads(candidate, J, *small())
    assert certificate.passed
    assert any("does not run in float64" in note for note in certificate.notes)
    assert {row.dtype for row in certificate.rows} == {"float32"}
    off = check_grads(functools.partial(candidate, factor=1 + 1e-4), J, *small())
    assert off.first_wrong == "W"


def test_a_J_that_casts_to_float32_inside_is_no_better_than_that():
    J = loss_with(lambda Z: jnp.tanh(Z.astype(jnp.float32)))
    with jax.enable_x64(True):
        args = jax.tree.map(lambda x: np.asarray(x, np.float64), small())
        assert check_grads(jax.jit(jax.grad(SOUND)), J, *args).passed
    certificate = check_grads(jax.jit(jax.grad(J)), J, *small())
    assert certificate.passed
    assert any("casts to float32" in note for note in certificate.notes)


def test_a_J_that_looks_at_its_values_is_run_without_jit():
    def J(x):
        return jnp.sum(x**3) if x.sum() > 0 else jnp.sum(x)

    assert check_grads(lambda x: 3 * x**2, J, np.ones(3)).passed
    assert not check_grads(lambda x: np.ones(3), J, np.ones(3)).passed


# --- the numeric route ----------------------------------------------------------------------------

ELEMENTWISE = [name for name in jaxmlp.activations.names() if name != "softmax"]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_complex_step_is_used_exactly_where_jax_evaluates_it_rightly(name):
    act = jaxmlp.activations.get(name)
    with jax.enable_x64(True):
        Z = np.random.default_rng(0).normal(size=9) * 2
        exact = jax.jit(jax.vmap(jax.grad(act.fn)))(Z)
        try:
            step = np.asarray(jax.jit(act.fn)(Z + 1e-20j)).imag / 1e-20
        except (TypeError, ValueError):  # no complex form
            step = np.full(9, np.nan)
    agrees = np.allclose(step, exact, rtol=1e-13, atol=0)
    assert agrees == (act.name not in numeric.NOT_COMPLEX)


@pytest.mark.parametrize("loss", jaxmlp.losses.names())
def test_so_it_is_for_losses(loss):
    output = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}.get(loss, "linear")
    loss, output = jaxmlp.losses.get(loss), jaxmlp.activations.get(output)
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        Z, V = rng.normal(size=(2, 5, 3))
        Y = plants.softmax(rng.normal(size=(5, 3)))
        value = lambda Z: jnp.sum(loss.value(Z, output.fn(Z), Y))  # noqa: E731
        exact = np.vdot(jax.jit(jax.grad(value))(Z), V)
        try:
            step = complex(jax.jit(value)(Z + 1e-20j * V)).imag / 1e-20
        except TypeError:
            step = np.nan
    assert (abs(step - exact) < 1e-13) == (loss.name in numeric.LOSSES_COMPLEX)


def seen(J, x):
    with jax.enable_x64(True):
        (line,) = numeric.lines(J, (np.asarray(x, np.float64),), "gradient", 1)
        return line, numeric.central(line)


@pytest.mark.parametrize("f", [jnp.sin, jnp.exp, lambda x: x**5, jax.nn.softplus])
def test_central_differences_know_their_own_error(f):
    line, found = seen(lambda x: jnp.sum(f(x)), [0.3, -1.2])
    with jax.enable_x64(True):
        exact = np.vdot(jax.jit(jax.vmap(jax.grad(f)))(line.array), line.direction)
    assert abs(found.derivative - exact) <= found.error
    assert found.error < 1e-7 * abs(exact)


def test_differences_do_not_see_a_kink_or_what_is_small_beside_J():
    assert seen(lambda x: jnp.sum(jnp.abs(x)), [0.0, 0.0])[1].route == ""
    assert seen(lambda x: jnp.sum(jnp.abs(x)), [0.1, -2.0])[1].route == "central differences"
    _, found = seen(lambda x: 1.0 + 1e-20 * jnp.sum(jnp.sin(x)), [0.3, -1.2])
    assert found.error > abs(found.derivative)
    certificate = check_grads(
        lambda x: 1e-20 * np.exp(x), lambda x: 1.0 + 1e-20 * jnp.sum(jnp.exp(x)), np.ones(2)
    )
    assert certificate.passed
    assert certificate.rows[0].second_route == "cannot see"


# --- diagnosis ------------------------------------------------------------------------------------


def outcomes(case, some_plants, places):
    found = {
        (plant, layers): plants.outcome(case, plant, layers)
        for plant, layers in itertools.product(some_plants, places)
    }
    return {key: result for key, result in found.items() if result is not None}


def test_every_plant_in_every_layer_is_caught_and_named():
    # Each at one layer in turn, and in all; `python tests/plants.py` visits every layer
    found = outcomes(HIDDEN, plants.PLANTS, [(1, 2, 3)])
    for l in (1, 2, 3):
        found |= outcomes(HIDDEN, plants.PLANTS[l - 1 :: 3], [(l,)])
    assert len(found) > 80
    assert set(found.values()) == {"named"}


@pytest.mark.parametrize(
    "case",
    [
        plants.Case("tanh", 2, "mse", dtype=np.float32),
        plants.Case("sigmoid", 3),
        plants.Case("relu", 6, dtype=np.float32),
    ],
    ids=lambda case: f"{case.activation} {case.depth}",
)
def test_in_other_networks_too(case):
    places = (case.depth // 2,), (case.depth + 1,)
    found = outcomes(case, (*plants.STEPS, "sign dZ", "sum_not_mean dW db"), places)
    assert len(found) > 15
    assert set(found.values()) == {"named"}


def diagnoses(candidate, *args):
    return {(d.mistake, d.layers) for d in check_grads(candidate, *args).diagnoses}


def test_where_mistakes_give_the_same_numbers_all_are_named():
    J, params, X, Y = problem()
    assert Y.shape[1] == 4

    def fourfold(*args):
        return [(4 * dW, 4 * db) for dW, db in right(*args)]

    both = {(name, (3,)) for name in ("sum_not_mean", "mean_over_classes")}
    assert both <= diagnoses(fourfold, J, params, X[:4], Y[:4])
    eleven = diagnoses(fourfold, J, params, X, Y)
    assert ("mean_over_classes", (3,)) in eleven
    assert "sum_not_mean" not in {name for name, _ in eleven}


def test_a_plant_that_changes_no_number_passes():
    case = plants.Case("relu", 2)
    J, *args = problem(case)
    gates = plants.student("relu", "cross_entropy", "derivative_at_A", (1, 2))
    assert check_grads(gates, J, *args).passed
    one_sample = [jax.tree.map(lambda x: x[:1], x) for x in args[1:]]
    summed = plants.student("relu", "cross_entropy", "sum_not_mean dZ", (1, 2, 3))
    assert check_grads(summed, J, args[0], *one_sample).passed


def test_what_no_known_mistake_explains_is_not_explained():
    odd = changed(W2=lambda dW: dW + np.linspace(0, 1, dW.size).reshape(dW.shape))
    certificate = check(odd)
    assert certificate.diagnoses == ()
    assert any("no known mistake" in note and "dW2 alone" in note for note in certificate.notes)
    off = lambda x: x + np.arange(x.size).reshape(x.shape)  # noqa: E731
    cases = {("W2", "b2"): "dW2 and db2 alone", ("W1", "b1", "W2", "b2"): "in dZ2 = "}
    for names, words in cases.items():
        certificate = check(changed(**dict.fromkeys(names, off)))
        assert certificate.diagnoses == ()
        assert any(words in note for note in certificate.notes)


def test_the_mend_names_the_layer():
    case = plants.Case("sigmoid", 3)
    J, *args = problem(case)
    updated = plants.student("sigmoid", "cross_entropy", "updated_W", (3,), rate=0.7)
    (diagnosis,) = check_grads(updated, J, *args).diagnoses
    assert (diagnosis.mistake, diagnosis.layers) == ("updated_W", (3,))
    assert "dA2 = dZ3 @ W3.T" in diagnosis.mend


# --- the report -----------------------------------------------------------------------------------


def test_it_prints_as_a_table_and_as_html():
    certificate = check(changed(W2=lambda dW: -dW))
    text, page = str(certificate), certificate._repr_html_()
    for name in ("dW1", "db1", "dW2", "db2", "dW3", "db3"):
        assert text.count(f"\n{name} ") == 1
        assert f"<td>{name}</td>" in page
    assert "wrong, from layer 2" in text
    assert "sign in layer 2 (dW2)" in text
    assert "cosine" not in text
    verbose = certificate.text(verbose=True)
    assert "float64 on cpu" in verbose
    assert jax.__version__ in verbose
    for column in ("cosine", "norm ratio", "sign flips", "ulp", "second route"):
        assert column in verbose.splitlines()[2]
        assert column in Certificate.text.__doc__
    assert "act&#x27;" in page or "&#x27;" in page or "&lt;" in page or "A2" in page
    assert page.count("<tr") == 7
    assert repr(certificate) == text


def test_a_deep_network_shows_where_it_matters():
    J, *args = thin()

    def candidate(*args):
        grads = named_by_hand(J, *args)
        return grads | {"b20": -grads["b20"]}

    certificate = check_grads(candidate, J, *args)
    text = str(certificate)
    assert len(certificate.rows) == 202
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^db20 +wrong", text, flags=re.MULTILINE)
    assert "more, in .rows" in text
