"""The contract over random networks, data and dtypes: the hand-written gradient has a certificate,
eager, under jit and under vmap."""

import functools

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxmlp

M = 4
NETWORKS = {  # few, because each is compiled: sizes, options, loss
    "mixed": ((3, 5, 4, 2), {"hidden": ("relu", "prelu"), "output": "sigmoid"}, "mse"),
    "stacked": ((2, *[3] * 4, 2), {"hidden": "tanh", "stack_from": 2}, "cross_entropy"),
}


@functools.cache
def objective(name):
    sizes, options, loss = NETWORKS[name]
    return jaxmlp.Objective(jaxmlp.MLP(sizes, **options), loss)


@functools.cache
def hand(J, how):
    """`f(params, X, Y) -> (value, (grads, dX))`: eager, under jit, or mapped over params."""
    both = jaxmlp.value_and_grad(J, argnums=(0, 1))
    mapped = jax.vmap(both, (0, None, None))
    return {"eager": both, "jit": jax.jit(both), "vmap": jax.jit(mapped)}[how]


@st.composite
def problems(draw, dtype):
    """Draw (J, params, X, Y): any finite data, weights of several scales."""
    J = objective(draw(st.sampled_from(sorted(NETWORKS))))
    width = {"float32": 32, "float64": 64}[dtype]
    numbers = st.floats(-3, 3, allow_subnormal=False, width=width)
    X = draw(hnp.arrays(dtype, (M, J.mlp.sizes[0]), elements=numbers))
    if J.loss.name == "cross_entropy":
        Y = draw(hnp.arrays(np.int32, M, elements=st.integers(0, J.mlp.sizes[-1] - 1)))
    else:
        Y = draw(hnp.arrays(dtype, (M, J.mlp.sizes[-1]), elements=numbers))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.3, 1.0, 1.5]))
    weights = lambda x: (scale * rng.standard_normal(x.shape)).astype(dtype)  # noqa: E731
    return J, *jax.device_put((jax.tree.map(weights, shapes(J)), X, Y))


@functools.cache
def shapes(J):
    return jax.eval_shape(J.mlp.init, jax.random.key(0))


def over_problems(test):
    """Run the test on drawn problems of both dtypes."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data())
    def run(dtype, data):
        with jax.enable_x64(dtype == "float64"):
            test(*data.draw(problems(dtype)))

    return run


def certified(how, J, *args):
    """Return the gradient, and the certificate of value and gradient."""

    def candidate(*args):
        value, (grads, _) = hand(J, how)(*args)
        return value, grads

    assert nothing_is_wrong(candidate, J, *args).value is not None
    return hand(J, how)(*args)


def nothing_is_wrong(candidate, J, *args):
    """The certificate: every array is right, or so small that nothing can be told (X may be 0)."""
    certificate = jaxmlp.check_grads(candidate, J, *args)
    assert certificate.value is None or certificate.value.is_right, certificate
    for row in certificate.rows:
        assert row.is_right or row.why.startswith(("exactly zero", "too small")), certificate
    assert not certificate.disputes
    return certificate


@over_problems
def test_value_and_gradient_are_right_and_like_the_parameters(J, params, X, Y):
    value, (grads, dX) = certified("eager", J, params, X, Y)
    assert value.shape == ()
    for mine, theirs in ((grads, params), (dX, X)):
        assert jax.tree.structure(mine) == jax.tree.structure(theirs)
        pairs = zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True)
        assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)


@over_problems
def test_jit_changes_no_more_than_rounding(J, params, X, Y):
    certified("jit", J, params, X, Y)


@over_problems
def test_the_gradient_in_X_is_right_too(J, params, X, Y):
    value, (_, dX) = hand(J, "eager")(params, X, Y)
    limit = 1e4 * jnp.finfo(X.dtype).eps
    assert abs(value - J(params, X, Y)) <= limit * max(1, abs(value))
    with jax.enable_x64(True):
        exact = np.asarray(exact_dX(J)(*jax.tree.map(np.float64, (params, X)), Y))
    # Weights may cancel to any degree; then autodiff in the same precision is off as far
    own = np.abs(np.asarray(exact_dX(J)(params, X, Y), np.float64) - exact).max()
    assert np.abs(dX - exact).max() <= max(limit * np.abs(exact).max(), 4 * own)


@functools.cache
def exact_dX(J):
    return jax.jit(jax.grad(J, argnums=1))


@over_problems
def test_storage_changes_nothing(J, params, X, Y):
    def by_layer(params, X, Y):
        plain = tuple(jaxmlp.layers(jax.tree.map(np.asarray, params)))
        return [tuple(layer) for layer in hand(J, "eager")(plain, X, Y)[1][0]]

    nothing_is_wrong(by_layer, J, params, X, Y)


@over_problems
def test_vmap_over_params_is_a_loop(J, params, X, Y):
    def second(params, X, Y):
        stacked = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf) / 2, leaf]), params)
        values, (grads, _) = hand(J, "vmap")(stacked, X, Y)
        return values[1], jax.tree.map(lambda leaf: np.asarray(leaf)[1], grads)

    nothing_is_wrong(second, J, params, X, Y)
