"""jaxmlp.testing: the assertions fail where they should, and say why."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp
from jaxmlp.testing import (
    assert_grads_match,
    assert_transform_matches,
    assert_vjp_matches,
    standard_problems,
)


def test_the_message_is_the_certificate():
    certificate = assert_grads_match(lambda x: 3 * x**2, lambda x: jnp.sum(x**3), np.ones(2))
    assert certificate.passed
    with pytest.raises(AssertionError) as failure:
        assert_grads_match(lambda x: 2 * x**2, lambda x: jnp.sum(x**3), np.ones(2))
    wrong = jaxmlp.check_grads(lambda x: 2 * x**2, lambda x: jnp.sum(x**3), np.ones(2))
    assert str(failure.value) == str(wrong)
    assert_grads_match(lambda x: 2 * x**2, lambda x: jnp.sum(x**3), np.ones(2), rtol=0.5)


# --- custom rules ---------------------------------------------------------------------------------


def plain(x, n, y):
    """A dict in, a dict out, an integer between; one output of 1e-40."""
    return {"power": jnp.sin(x["u"]) ** n * y, "tiny": 1e-40 * jnp.exp(x["v"])}


def with_rule(of_u, of_v, of_y):
    @jax.custom_vjp
    def f(x, n, y):
        return plain(x, n, y)

    def backward(kept, v):
        x, n, y = kept
        sine, cosine = jnp.sin(x["u"]), jnp.cos(x["u"])
        u = v["power"] * y * n * sine ** (n - 1) * cosine
        tiny = 1e-40 * jnp.exp(x["v"]) * v["tiny"]
        return {"u": u * of_u, "v": tiny * of_v}, None, jnp.sum(v["power"] * sine**n) * of_y

    f.defvjp(lambda x, n, y: (plain(x, n, y), (x, n, y)), backward)
    return f


ARGS = {"u": jnp.linspace(0.2, 1, 4), "v": jnp.ones(2)}, 3, jnp.asarray(2.0)


def test_a_right_rule_passes():
    assert_vjp_matches(with_rule(1, 1, 1), plain, *ARGS)


@pytest.mark.parametrize(
    ("factors", "path"), [((1.001, 1, 1), "0.u"), ((1, 1.001, 1), "0.v"), ((1, 1, 1.001), "2")]
)
def test_a_thousandth_off_fails_in_its_argument_also_at_1e_40(factors, path):
    with pytest.raises(AssertionError, match=rf"wrong: {path}\."):
        assert_vjp_matches(with_rule(*factors), plain, *ARGS, draws=1)


def test_another_function_and_arguments_without_derivative_are_refused():
    with pytest.raises(AssertionError, match="but the reference"):
        assert_vjp_matches(jnp.sin, lambda x: jnp.sin(x) + 1, jnp.ones(2))
    with pytest.raises(TypeError, match="floating"):
        assert_vjp_matches(jnp.sin, jnp.sin, 3)
    with pytest.raises(TypeError, match="mixes"):
        assert_vjp_matches(jnp.sin, jnp.sin, {"x": jnp.ones(2), "n": 3})
    with pytest.raises(ValueError, match="draws"):
        assert_vjp_matches(jnp.sin, jnp.sin, jnp.ones(2), draws=0)


# --- the standard networks ------------------------------------------------------------------------


def test_the_standard_set_is_varied():
    problems = standard_problems()
    assert len({problem.name for problem in problems}) == len(problems)
    assert {len(problem.X) for problem in problems} >= {1}
    assert {problem.J.mlp.depth for problem in problems} >= {0, 1, 2, 3, 40}
    assert {len(set(problem.J.mlp.hidden)) for problem in problems} >= {0, 1, 3}
    assert any(len(p.params) < p.J.mlp.num_layers for p in problems)


@pytest.mark.parametrize("index", [1, 5])
def test_grad_passes_on_some_of_it_and_a_wrong_one_is_named(index):
    some = standard_problems()[index : index + 1]
    assert_transform_matches(jaxmlp.grad, some)

    def doubled(J):
        return lambda *args: jax.tree.map(lambda g: 2 * g, jaxmlp.grad(J)(*args))

    with pytest.raises(AssertionError, match=f"{some[0].name}\n.*wrong"):
        assert_transform_matches(doubled, some)
