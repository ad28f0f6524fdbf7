"""The check of a user's Activation: which pass, and which are refused."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import activations
from jaxmlp.activations import Activation, check_derivative


def as_own(name):
    """Return an activation of the package under another name, so that it is checked."""
    return dataclasses.replace(activations.get(name), name=f"own_{name}")


RIGHT = [
    as_own("gelu_tanh"),  # terms of it cancel on the left
    as_own("prelu"),
    as_own("linear:2:-1"),
    Activation("sqrt", jnp.sqrt, lambda Z, A: 0.5 / A),  # defined on half of the line
    Activation("exp_exp", lambda Z: jnp.exp(jnp.exp(Z)), lambda Z, A: A * jnp.exp(Z)),  # overflows
    Activation("steep", lambda Z: jnp.tanh(1e6 * Z), lambda Z, A: 1e6 * (1 - A) * (1 + A)),
    Activation("fast", lambda Z: jnp.sin(1e5 * Z), lambda Z, A: 1e5 * jnp.cos(1e5 * Z)),
    Activation("tiny", lambda Z: 1e-200 * jnp.sin(Z), lambda Z, A: 1e-200 * jnp.cos(Z)),
    Activation("offset", lambda Z: 1e6 + jnp.tanh(Z), lambda Z, A: 1 - jnp.tanh(Z) ** 2),
    Activation(
        "bent", lambda Z: jnp.where(Z > 0.3, Z, Z / 8), lambda Z, A: jnp.where(Z > 0.3, 1, 0.125)
    ),
    Activation("jump", lambda Z: jnp.where(Z > 0.7, 1.0, 0.0), lambda Z, A: 0 * A),
    Activation(
        "saw",  # more kinks than a step of any length avoids
        lambda Z: jnp.abs(jnp.mod(Z, 0.1) - 0.05),
        lambda Z, A: jnp.sign(jnp.mod(Z, 0.1) - 0.05),
    ),
    Activation("constant", lambda Z: 2 * Z, lambda Z, A: 2.0),
    Activation(
        "half", lambda Z: jnp.tanh(Z.astype(jnp.bfloat16)).astype(Z.dtype), lambda Z, A: 1 - A**2
    ),
    Activation(
        "hyperbola",
        lambda Z: jnp.sqrt(1 + Z**2),
        lambda Z, A: Z / A,
        asymptote=(-1, 1),
        threshold=1e8,
    ),
]


@pytest.mark.parametrize("act", RIGHT, ids=lambda act: act.name)
def test_right_derivative_passes(act):
    check_derivative(act)


def wrong(name, derivative, fn=jnp.tanh, **fields):
    return Activation(name, fn, derivative, **fields)


def halves(Z, slope=0.1):
    return jnp.where(Z > 0, Z, slope * Z)


WRONG = [
    (wrong("1 - A", lambda Z, A: 1 - A), r"derivative\(Z, A\) is 2 at z = -\S+, but .* give 0 "),
    (wrong("off", lambda Z, A: 1.00001 * (1 - A**2)), r"is 0.7\d+ at z = 0.6\d+, .* give 0.7\d+"),
    (
        wrong("tail", lambda Z, A: jnp.where(Z < -8, 0, A * (1 - A)), jax.nn.sigmoid),
        r"is 0 at z = -8\.\d+, but central differences of fn give 0\.0002",
    ),
    (wrong("nan", lambda Z, A: jnp.log(Z), lambda Z: jnp.maximum(Z, 0)), "is nan at z = -"),
    (wrong("steep", lambda Z, A: 1 - A**2, lambda Z: jnp.tanh(1e6 * Z)), r"z = .*e-0\d, but"),
    (
        wrong("zero", lambda Z, A: 0 * Z, jnp.abs),
        r"derivative jumps there, name the place in kinks",
    ),
    (
        wrong("softmax", lambda Z, A: A * (1 - A), jax.nn.softmax),
        "fn must be elementwise, but what",
    ),
    (wrong("sum", lambda Z, A: 1.0, jnp.sum), r"must be elementwise, but Z of shape \(\d+, \d+\) "),
    (wrong("nowhere", lambda Z, A: Z, lambda Z: Z * jnp.nan), "fn is finite at none of .* points"),
    (
        wrong("slope", lambda Z, A, s: jnp.where(Z > 0, 1, 0.1), halves, kinks=(0,), slope=0.1),
        "is 0.1 at z = .* with the slope 0.6, but central differences of fn give 0.6",
    ),
    (
        wrong("scaled", lambda Z, A, s: s + 0 * Z, lambda Z, s: s * Z, slope=0.1),
        r"in its learned slope must be min\(z, 0\), PReLU's, but it is",
    ),
    (
        wrong("no ray", lambda Z, A: 1 - A**2, homogeneous=True),
        r"is no homogeneous function: at z = .* fn\(0.5 z\) is .*, but 0.5 fn\(z\) is",
    ),
    (
        wrong("early", lambda Z, A: 1 - A**2, asymptote=(0, 0), threshold=5),
        r"asymptote=\(0, 0\) does not hold beyond threshold=5: at z = -5 fn is -0.9999",
    ),
    (
        wrong("other", lambda Z, A: 2 + 0 * A, lambda Z: 2 * Z, asymptote=(2, 1)),
        r"asymptote=\(2, 1\) does not hold beyond threshold=0: at z = 1 fn is 2 and its derivat",
    ),
]


@pytest.mark.parametrize(("act", "sentence"), WRONG, ids=lambda case: getattr(case, "name", ""))
def test_wrong_description_is_refused_with_the_place_and_both_numbers(act, sentence):
    with pytest.raises(ValueError, match=rf"^activation '{act.name}'.* {sentence}"):
        check_derivative(act)


def test_numbers_in_the_sentence_are_those_of_the_two_derivatives():
    with pytest.raises(ValueError, match="central differences") as caught:
        check_derivative(WRONG[1][0])
    numbers = re.search(r"is (\S+) at z = (\S+), but .* give (\S+)", str(caught.value)).groups()
    by_hand, z, true = map(float, numbers)
    assert true == pytest.approx(1 / np.cosh(z) ** 2, rel=1e-5)  # six digits are printed
    assert by_hand == pytest.approx(1.00001 / np.cosh(z) ** 2, rel=1e-5)


def test_straight_through_derivative_is_refused_as_autodiff_gives_another():
    through = wrong("through", lambda Z, A: jnp.ones_like(Z), lambda Z: jnp.round(Z * 10) / 10)
    with pytest.raises(ValueError, match=r"is 1 at .* give 0 "):
        check_derivative(through)


def test_library_activation_is_not_looked_at(monkeypatch):
    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(activations.checking, "_evaluator", fail)
    for name in activations.names():
        check_derivative(activations.get(name))
    check_derivative(activations.leaky_relu(0.123))
    check_derivative(Activation("without", jnp.tanh))  # refused elsewhere, in other words


def test_activation_is_looked_at_once(monkeypatch):
    calls = []

    def fn(Z):
        calls.append(1)
        return jnp.tanh(Z)

    act = Activation("once", fn, lambda Z, A: 1 - A**2)
    check_derivative(act)
    seen = len(calls)
    check_derivative(act)
    check_derivative(Activation("once", fn, act.derivative))
    assert len(calls) == seen > 0


TRACES = {
    "jit": lambda f: jax.jit(f)(jnp.ones((2, 3))),
    "vmap": lambda f: jax.vmap(f)(jnp.ones((2, 3))),
    "grad": lambda f: jax.jit(jax.vmap(jax.grad(lambda x: jnp.sum(f(x)))))(jnp.ones((2, 3))),
    "scan": lambda f: jax.lax.scan(lambda c, x: (c, f(x)), 0, jnp.ones((2, 3))),
    "shapes": lambda f: jax.eval_shape(f, jnp.ones((2, 3))),
}


@pytest.mark.parametrize("trace", TRACES)
def test_first_look_may_come_under_a_trace(trace):
    good, bad = wrong(trace, lambda Z, A: 1 - A**2), wrong(trace, lambda Z, A: 1 - A)

    def using(act):
        def f(x):
            check_derivative(act)
            return x

        return f

    with jax.checking_leaks():
        TRACES[trace](using(good))
    with pytest.raises(ValueError, match="central differences"):
        TRACES[trace](using(bad))


def test_functions_that_close_over_traced_values_have_no_numbers_and_pass():
    def f(steepness):
        act = wrong("own", lambda Z, A: 3 * A, lambda Z: jnp.tanh(steepness * Z))
        check_derivative(act)
        return steepness

    assert jax.jit(f)(2.0) == 2


def test_flags_of_a_debugging_user_are_no_obstacle_and_stay():
    act = Activation("log", jnp.log, lambda Z, A: 1 / Z)
    with jax.debug_nans(True), jax.transfer_guard("disallow"):
        check_derivative(act)
        assert jax.config.jax_debug_nans
        assert not jax.config.jax_enable_x64
