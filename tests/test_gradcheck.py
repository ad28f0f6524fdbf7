"""relative_difference of equal, wrong, zero and broken gradients, layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import relative_errors

from jaxmlp import Layer
from jaxmlp.compare import relative_difference

L = 6
STORAGES = {"plain": (0,) * L, "stacked": (0, 4, 0), "one stack": (L,), "stacks of one": (1,) * L}
# A tiny layer, a huge one: each is judged in its own size.
SIZES = (1.0, 1e-20, 1e-3, 1e20, 1.0, 1e-8)

difference = jax.jit(relative_difference)


@pytest.fixture(params=STORAGES)
def counts(request):
    return STORAGES[request.param]


def gradient():
    rng = np.random.default_rng(0)
    leaf = lambda size, *shape: (rng.normal(size=shape) * size).astype(np.float32)  # noqa: E731
    return [Layer(leaf(s, 3, 3), leaf(s, 3), leaf(s), leaf(s)) for s in SIZES]


def grouped(plain, counts):
    rest, entries = list(plain), []
    for n in counts:
        taken, rest = rest[: n or 1], rest[n or 1 :]
        entries.append(jax.tree.map(lambda *xs: np.stack(xs), *taken) if n else taken[0])
    return tuple(entries)


def changed(plain, number, **leaves):
    """The gradient with one layer's leaves passed through functions."""
    layer = plain[number - 1]
    new = layer._replace(**{name: f(getattr(layer, name)) for name, f in leaves.items()})
    return [*plain[: number - 1], new, *plain[number:]]


def test_equal_gradients_differ_by_exactly_zero_in_every_layer(counts):
    same = grouped(gradient(), counts)
    result = difference(same, same)
    assert result.shape == (L,)
    assert not result.any()


@pytest.mark.parametrize("leaf", ["W", "b", "slope"])
@pytest.mark.parametrize("number", range(1, L + 1))
def test_a_planted_thousandth_is_reported_in_its_layer_and_size(number, leaf, counts):
    planted = changed(gradient(), number, **{leaf: lambda x: x * np.float32(1.001)})
    result = difference(grouped(planted, counts), grouped(gradient(), counts))
    assert np.flatnonzero(result).tolist() == [number - 1]
    assert result[number - 1] == pytest.approx(1e-3, rel=1e-3)  # float32 rounds 1e-7 of 1e-3


def test_it_is_the_largest_of_the_leaves_by_an_independent_computation(counts):
    rng = np.random.default_rng(1)
    noisy = [jax.tree.map(lambda x: x * (1 + rng.normal() * 0.1), layer) for layer in gradient()]
    noisy = jax.tree.map(np.float32, noisy)
    errors = relative_errors(noisy, gradient())
    expected = [max(errors[f"{leaf}{l}"] for leaf in Layer._fields) for l in range(1, L + 1)]
    result = difference(grouped(noisy, counts), grouped(gradient(), counts))
    np.testing.assert_allclose(result, expected, rtol=1e-5)  # rounding of float32 differences


def test_one_wrong_entry_counts_in_the_size_of_its_leaf(counts):
    def wrong(W):
        return np.where(np.abs(W) == np.abs(W).min(), W + 0.01 * np.abs(W).max(), W)

    planted = changed(gradient(), 3, W=wrong)
    result = difference(grouped(planted, counts), grouped(gradient(), counts))
    assert result[2] == pytest.approx(0.01, rel=1e-4)


def test_a_gradient_of_zeros_is_all_wrong_and_never_small(counts):
    zeros = jax.tree.map(np.zeros_like, gradient())
    assert (difference(grouped(zeros, counts), grouped(gradient(), counts)) == 1).all()


def test_zeros_agree_with_zeros_and_anything_else_is_infinitely_wrong(counts):
    dead = changed(gradient(), 2, W=np.zeros_like, b=np.zeros_like, slope=np.zeros_like)
    assert not difference(grouped(dead, counts), grouped(dead, counts)).any()
    result = difference(grouped(gradient(), counts), grouped(dead, counts))
    assert np.isinf(result).tolist() == [False, True, False, False, False, False]
    assert not np.delete(result, 1).any()


@pytest.mark.parametrize("leaf", ["W", "b", "slope"])
@pytest.mark.parametrize("side", ["candidate", "reference", "both"])
def test_a_nan_on_either_side_is_a_nan_in_its_layer_alone(side, leaf, counts):
    broken = grouped(changed(gradient(), 4, **{leaf: lambda x: x * np.float32(np.nan)}), counts)
    sound = grouped(gradient(), counts)
    result = difference(
        sound if side == "reference" else broken, sound if side == "candidate" else broken
    )
    assert np.isnan(result).tolist() == [False, False, False, True, False, False]


def test_an_infinite_candidate_is_infinitely_wrong(counts):
    overflown = changed(gradient(), 5, W=lambda W: np.full_like(W, np.inf))
    result = difference(grouped(overflown, counts), grouped(gradient(), counts))
    assert np.isinf(result).tolist() == [False, False, False, False, True, False]


def test_storage_changes_nothing(counts):
    planted = changed(gradient(), 2, W=lambda W: W * np.float32(1.1))
    result = difference(grouped(planted, counts), grouped(gradient(), counts))
    np.testing.assert_array_equal(result, difference(planted, gradient()))


def test_absent_biases_and_slopes_are_left_out(counts):
    bare = [Layer(layer.W) for layer in gradient()]
    planted = changed(bare, 2, W=lambda W: W * np.float32(1.001))
    result = difference(grouped(planted, counts), grouped(bare, counts))
    assert np.flatnonzero(result).tolist() == [1]
    with pytest.raises(ValueError, match="None"):
        relative_difference(grouped(bare, counts), grouped(gradient(), counts))


def test_networks_of_different_length_do_not_compare():
    with pytest.raises(ValueError, match=r"argument 2 is (shorter|longer)"):
        difference(gradient()[:-1], gradient())


def test_float64_tells_differences_of_a_billionth():
    with jax.enable_x64(True):
        exact = [jax.tree.map(np.float64, layer) for layer in gradient()]
        planted = changed(exact, 6, b=lambda b: b * (1 + 1e-9))
        result = difference(planted, exact)
    assert result.dtype == jnp.float64
    assert np.flatnonzero(result).tolist() == [5]
    assert result[5] == pytest.approx(1e-9, rel=1e-6)
