import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxmlp import numerics
from jaxmlp.numerics import power_of_two, power_of_two_scale, tree_norm

norm = jax.jit(numerics.norm, static_argnums=1)
split_norm = jax.jit(numerics.split_norm)

RNG = np.random.default_rng(3)
SIZES = [1e-37, 1e-30, 1e-25, 1e-22, 1e-20, 1e-10, 1.0, 1e10, 1e19, 1e22, 1e25, 1e36]
TOLERANCE = 5e-7  # rounding, float32: a few ulps


def draws(size, shape=(5, 4)):
    """Entries of both signs between size and 9 times size, in float32."""
    return jnp.asarray(RNG.choice([-1, 1], shape) * RNG.uniform(1, 9, shape) * size, jnp.float32)


def true_norm(x, axis=None):
    """Return the norm in float64, in which squares of float32 stay in range."""
    return np.sqrt(np.sum(np.asarray(x, np.float64) ** 2, axis=axis))


def exact_norm(x):
    """Return the norm with 50 digits and no limit to the exponent."""
    with mpmath.workdps(50):
        return mpmath.sqrt(sum(mpmath.mpf(float(entry)) ** 2 for entry in np.ravel(x)))


# --- norm -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1), -1])
@pytest.mark.parametrize("size", SIZES)
def test_norm_is_right_at_every_size(size, axis):
    x = draws(size)
    np.testing.assert_allclose(norm(x, axis), true_norm(x, axis), rtol=TOLERANCE)


@pytest.mark.parametrize("naive", [jnp.linalg.norm, lambda x: jnp.sqrt(jnp.sum(x**2))])
@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_comparison_catches_a_norm_that_squares_first(naive, size):
    x = draws(size)
    assert not abs(float(naive(x)) / true_norm(x) - 1) < 0.5


@pytest.mark.parametrize("size", SIZES)
def test_rows_of_different_size_are_each_right(size):
    x = jnp.concatenate([draws(size, (1, 4)), draws(1.0, (1, 4)), jnp.zeros((1, 4))])
    np.testing.assert_allclose(norm(x, 1), true_norm(x, axis=1), rtol=TOLERANCE)


@pytest.mark.parametrize("size", SIZES)
def test_small_and_large_entries_together_count_the_large(size):
    x = jnp.array([1e-37, size, -size, 0])
    assert float(norm(x)) == pytest.approx(true_norm(x), rel=TOLERANCE)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-160, 1.0, 1e160, 1e300])
def test_norm_is_right_in_float64_against_50_digits(size):
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(size=20) * size)
        assert abs(mpmath.mpf(float(norm(x))) / exact_norm(x) - 1) < 1e-14


@pytest.mark.parametrize("entry", [float(jnp.finfo(jnp.float32).tiny), 3.4e38, 2.0**-126, 2.0**127])
def test_norm_of_one_entry_is_its_magnitude_at_the_ends_of_the_range(entry):
    assert norm(jnp.float32([entry])) == norm(jnp.float32(-entry)) == np.float32(entry)


def test_norm_of_zeros_and_of_nothing_is_zero():
    assert norm(jnp.zeros((3, 4))) == 0
    assert norm(jnp.zeros((0,))) == 0
    np.testing.assert_array_equal(norm(jnp.zeros((3, 4)), 0), np.zeros(4))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_norm_of_what_is_not_finite_is_not_finite(bad):
    x = jnp.array([[1.0, bad], [3.0, 4.0]])
    np.testing.assert_array_equal(norm(x), abs(bad))
    np.testing.assert_array_equal(norm(x, 1), [abs(bad), 5])


def test_norm_too_large_for_the_dtype_is_infinite():
    assert norm(jnp.full(4, 3e38)) == np.inf


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_norm_keeps_half_precision(dtype, size):
    x = draws(size).astype(dtype)
    assert norm(x).dtype == dtype
    assert float(norm(x)) == pytest.approx(true_norm(x), rel=2 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("size", [1e-35, 1e-25, 1.0, 1e25, 1e36])
def test_gradient_of_the_norm_is_the_unit_vector(size):
    x = draws(size)
    unit = np.asarray(x, np.float64) / true_norm(x)
    np.testing.assert_allclose(jax.grad(norm)(x), unit, rtol=TOLERANCE)


def test_gradient_of_the_norm_at_zero_is_zero():
    np.testing.assert_array_equal(jax.grad(norm)(jnp.zeros(3)), np.zeros(3))
    rows = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    per_row = jax.grad(lambda x: jnp.sum(norm(x, 1)))(rows)
    np.testing.assert_allclose(per_row, [[0, 0], [0.6, 0.8]], rtol=TOLERANCE)


# --- the scale ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_scale_is_a_power_of_two_that_brings_the_largest_near_one(size):
    x = draws(size)
    scale = power_of_two_scale(x)
    assert scale.shape == (1, 1)
    assert np.frexp(float(scale[0, 0]))[0] == 0.5
    assert 0.25 <= float(jnp.max(jnp.abs(x * scale))) < 4


@pytest.mark.parametrize("exponent", range(-126, 128, 11))
def test_scaling_is_exact(exponent):
    x = jnp.float32(np.ldexp(1 + RNG.uniform(size=8) / 2, exponent))
    scale = power_of_two_scale(x)
    np.testing.assert_array_equal(
        np.asarray(x * scale, np.float64), np.asarray(x, np.float64) * float(scale[0])
    )


def test_scale_keeps_the_axes_and_is_one_where_all_is_zero():
    x = jnp.array([[0.0, 0.0, 0.0], [4.0, 1.0, 0.0]])
    assert power_of_two_scale(x, axis=1).tolist() == [[1], [0.125]]
    assert power_of_two_scale(x, axis=0).shape == (1, 3)


# --- of a pytree ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_norm_of_a_tree_is_that_of_all_its_entries(size):
    tree = {"W": draws(size), "b": [draws(size, (3,)), None], "slope": draws(size / 8, ())}
    entries = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    assert float(tree_norm(tree)) == pytest.approx(true_norm(entries), rel=TOLERANCE)


def test_norm_of_a_tree_counts_leaves_of_very_different_size():
    tree = (jnp.full(4, 1e-30), jnp.full(4, 1e25), jnp.zeros(2))
    assert float(tree_norm(tree)) == pytest.approx(2e25, rel=TOLERANCE)
    assert tree_norm((jnp.zeros(3), jnp.zeros(()))) == 0
    assert np.isnan(tree_norm((jnp.array([np.nan]), jnp.zeros(2))))


# --- with an exponent -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("size", [1e-37, 1e-22, 1e-18, 1e-3, 1.0, 1e3, 1e18, 1e20, 1e36])
def test_split_norm_is_a_mantissa_below_one_and_an_exponent(size, dtype):
    x = draws(size).astype(dtype)
    x = jnp.where(jnp.isfinite(x), x, 1)  # float16 holds no 1e18
    r, k = split_norm(x)
    if np.any(x):
        assert 0.5 <= float(r) < 1
    rounding = TOLERANCE if dtype == jnp.float32 else 2 * float(jnp.finfo(dtype).eps)
    assert math.ldexp(float(r), int(k)) == pytest.approx(true_norm(x), rel=rounding)


def test_split_norm_of_a_norm_beyond_the_range_is_still_right():
    r, k = split_norm(jnp.full(100, 3e38))
    assert math.ldexp(float(r), int(k)) == pytest.approx(3e39, rel=TOLERANCE)


def test_split_norm_of_zeros_is_zero_with_exponent_zero():
    assert split_norm(jnp.zeros((2, 3))) == (0, 0)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_split_norm_of_what_is_not_finite_is_not_finite(bad):
    r, _ = split_norm(jnp.array([1.0, bad, 2.0]))
    np.testing.assert_array_equal(r, abs(bad))


@pytest.mark.parametrize("k", [-126, -100, -1, 0, 1, 64, 127])
def test_power_of_two_is_exact(k):
    assert float(power_of_two(jnp.int32(k), jnp.float32)) == 2.0**k


def test_power_of_two_ends_with_the_range_of_the_dtype():
    k = jnp.array([-10_000, -127, 128, 10_000])
    np.testing.assert_array_equal(power_of_two(k, jnp.float32), [0, 0, 2.0**127, 2.0**127])
    np.testing.assert_array_equal(power_of_two(k, jnp.float16), [0, 0, 2.0**15, 2.0**15])
