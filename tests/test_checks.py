import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import checks


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_typed_key_of_any_implementation_passes_as_it_is(impl):
    key = jax.random.key(3, impl=impl)
    assert checks.prng_key(key).dtype == key.dtype
    np.testing.assert_array_equal(
        jax.random.key_data(checks.prng_key(key)), jax.random.key_data(key)
    )


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_legacy_key_is_told_by_its_shape(impl, kind):
    key, typed = (
        checks.prng_key(kind(jax.random.PRNGKey(3, impl=impl))),
        jax.random.key(3, impl=impl),
    )
    assert key.dtype == typed.dtype
    np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(typed))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_legacy_key_of_the_default_implementation_is_one(impl):
    with jax.default_prng_impl(impl):
        key = checks.prng_key(jax.random.PRNGKey(3))
        assert key.dtype == jax.random.key(3).dtype


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (3, "got 3"),
        (np.zeros(3, np.uint32), r"got an array of uint32\[3\]"),
        (np.zeros((2, 2), np.uint32), r"got an array of uint32\[2, 2\]"),
        (np.zeros(2, np.int32), r"got an array of int32\[2\]"),
        (jax.random.split(jax.random.key(0)), r"got an array of key<.*>\[2\]"),
    ],
)
def test_what_is_no_single_key_is_refused(given, sentence):
    with pytest.raises(TypeError, match=f"key must be one PRNG key .*, {sentence}"):
        checks.prng_key(given)
