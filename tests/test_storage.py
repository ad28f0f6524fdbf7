import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmlp
from jaxmlp import MLP, Layer
from jaxmlp.storage import count, is_stacked

KEY = jax.random.key(5)
NETWORKS = [
    MLP((2, 4, 3)),
    MLP((2, 4, 3), use_bias=False, hidden="tanh"),
    MLP((2, *[4] * 40, 3), hidden="prelu"),
    MLP((2, *[4] * 6, 3), hidden="prelu", use_bias=False, stack_from=2),
    MLP((4, *[4] * 8, 4), hidden=["tanh"] * 4 + ["relu"] * 4, stack_from=2),
    MLP((4, *[4] * 40, 4), stack_from=None),
    MLP((3, 3), output="prelu"),
]
each_network = pytest.mark.parametrize("mlp", NETWORKS, ids=lambda mlp: f"depth{mlp.depth}")


def drawn(mlp):
    """Return parameters stored as by init, in which all numbers differ."""
    rng, blank = np.random.default_rng(0), mlp.init(KEY, jax.nn.initializers.zeros)
    return jax.device_put(
        jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), blank)
    )


def same(one, other):
    """Whether two pytrees have the same structure and bits."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.array_equal(a, b) for a, b in pairs
    )


# --- layers and stack -----------------------------------------------------------------------------


@each_network
def test_layers_are_plain_and_as_many_as_the_network_has(mlp):
    plain = jaxmlp.layers(drawn(mlp))
    assert [layer.W.shape for layer in plain] == list(zip(mlp.sizes, mlp.sizes[1:], strict=False))
    for layer, act in zip(plain, mlp.activations, strict=True):
        assert not is_stacked(layer)
        assert (layer.b is None) == (not mlp.use_bias)
        assert (layer.slope is None) == (act.name != "prelu")


def test_prelu_slopes_start_at_a_quarter():
    params = NETWORKS[3].init(KEY, jax.nn.initializers.zeros)
    slopes = [layer.slope for layer in jaxmlp.layers(params)]
    assert slopes == [0.25] * 6 + [None]


def test_layers_are_the_slices_of_a_stack_in_order():
    first, run, last = drawn(NETWORKS[3])
    plain = jaxmlp.layers((first, run, last))
    assert (plain[0], plain[-1]) == (first, last)
    for n, layer in enumerate(plain[1:-1]):
        np.testing.assert_array_equal(layer.W, run.W[n])
        np.testing.assert_array_equal(layer.slope, run.slope[n])
        assert layer.b is None


@each_network
def test_stack_restores_the_storage_of_init(mlp):
    params = drawn(mlp)
    assert same(jaxmlp.stack(jaxmlp.layers(params), mlp), params)


@each_network
def test_stack_without_a_network_keeps_the_layers(mlp):
    plain = jaxmlp.layers(drawn(mlp))
    assert same(jaxmlp.layers(jaxmlp.stack(plain)), plain)


@pytest.mark.parametrize(("n", "counts"), [(32, [1] * 32), (33, [33]), (50, [50])])
def test_stack_without_a_network_groups_runs_longer_than_32(n, counts):
    layers = [Layer(jnp.full((3, 3), i), jnp.zeros(3)) for i in range(n)]
    assert [count(layer) for layer in jaxmlp.stack(layers)] == counts


def test_stack_without_a_network_tells_shapes_and_leaves_apart():
    square = [Layer(jnp.ones((3, 3)), jnp.ones(3))] * 40
    unbiased = [Layer(jnp.ones((3, 3)))] * 40
    sloped = [Layer(jnp.ones((3, 3)), jnp.ones(3), jnp.ones(()))] * 40
    stacked = jaxmlp.stack([*square, *unbiased, Layer(jnp.ones((3, 2))), *sloped])
    assert [count(layer) for layer in stacked] == [40, 40, 1, 40]
    assert [layer.b is None for layer in stacked] == [False, True, True, False]


@pytest.mark.parametrize("mlp", NETWORKS[3:5], ids=["slopes", "two activations"])
def test_stack_and_layers_compose_with_jit(mlp):
    params = drawn(mlp)
    assert same(jax.jit(lambda p: jaxmlp.stack(jaxmlp.layers(p), mlp))(params), params)


def test_stack_for_another_depth_is_refused():
    plain = jaxmlp.layers(drawn(MLP((2, 4, 3))))
    with pytest.raises(ValueError, match="got 2 layers for a network of 3"):
        jaxmlp.stack(plain, MLP((2, 4, 4, 3)))


# --- dictionaries ---------------------------------------------------------------------------------


def test_dictionary_is_numbered_like_the_notes():
    arrays = jaxmlp.as_dict(drawn(MLP((2, 4, 3), hidden="prelu")))
    assert {name: array.shape for name, array in arrays.items()} == {
        "W1": (2, 4),
        "b1": (4,),
        "slope1": (),
        "W2": (4, 3),
        "b2": (3,),
    }


@each_network
def test_dictionary_round_trips_to_the_bit(mlp):
    params = drawn(mlp)
    arrays = jaxmlp.as_dict(params)
    assert same(jaxmlp.from_dict(arrays, mlp), params)
    assert same(jaxmlp.layers(jaxmlp.from_dict(arrays)), jaxmlp.layers(params))


def test_dictionary_in_any_order_gives_the_layers_in_order():
    params = drawn(MLP((2, *[3] * 11, 2)))  # W10 sorts before W2
    arrays = jaxmlp.as_dict(params)
    shuffled = {name: arrays[name] for name in sorted(arrays, reverse=True)}
    assert same(jaxmlp.from_dict(shuffled), params)


def test_dictionary_without_a_network_stacks_runs_longer_than_32():
    params = drawn(NETWORKS[2])
    assert same(jaxmlp.from_dict(jaxmlp.as_dict(params)), params)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], r"expected W1\.\.WL .*missing: \['W1'\]"),
        (["W2", "b2"], r"unknown: \[\], missing: \['W1'\]"),
        (["W1", "W3"], r"unknown: \[\], missing: \['W2'\]"),
        (["W1", "c1"], r"unknown: \['c1'\], missing: \[\]"),
        (["W1", "b2"], r"unknown: \['b2'\], missing: \[\]"),
        (["w1"], r"unknown: \['w1'\], missing: \['W1'\]"),
        (["b1"], r"unknown: \['b1'\], missing: \['W1'\]"),
    ],
)
def test_dictionary_of_other_names_is_refused(names, sentence):
    with pytest.raises(ValueError, match=sentence):
        jaxmlp.from_dict(dict.fromkeys(names, jnp.ones((2, 2))))


def test_dictionary_of_another_depth_is_refused():
    arrays = jaxmlp.as_dict(drawn(MLP((2, 4, 3))))
    with pytest.raises(ValueError, match="got 2 layers for a network of 3"):
        jaxmlp.from_dict(arrays, MLP((2, 4, 4, 3)))


# --- Layer ----------------------------------------------------------------------------------------


def test_stacked_layer_prints_its_shapes():
    _, run, _ = drawn(NETWORKS[2])
    assert repr(run) == "Layer(39 layers: W (39, 4, 4), b (39, 4), slope (39,))"
    _, unbiased, _ = drawn(NETWORKS[3])
    assert repr(unbiased) == "Layer(5 layers: W (5, 4, 4), slope (5,))"


def test_plain_layer_prints_its_numbers():
    layer = Layer(jnp.array([[1.0, 2.0]]), jnp.array([0.5, 0.25]))
    W, b = "Array([[1., 2.]], dtype=float32)", "Array([0.5 , 0.25], dtype=float32)"
    assert repr(layer) == f"Layer(W={W}, b={b})"
    assert repr(Layer(layer.W)) == f"Layer(W={W})"


def test_layer_counts_what_it_holds():
    first, run, last = drawn(NETWORKS[3])
    assert [count(layer) for layer in (first, run, last)] == [1, 5, 1]
    assert [is_stacked(layer) for layer in (first, run, last)] == [False, True, False]


# --- weight decay ---------------------------------------------------------------------------------


@each_network
def test_weight_mask_lets_optax_decay_the_weights_alone(mlp):
    params = drawn(mlp)
    decay = optax.add_decayed_weights(0.5, mask=jaxmlp.weight_mask)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = decay.update(zeros, decay.init(params), params)
    for update, layer in zip(updates, params, strict=True):
        np.testing.assert_array_equal(update.W, 0.5 * layer.W)
        for name in ("b", "slope"):
            untouched = getattr(update, name)
            assert (untouched is None) == (getattr(layer, name) is None)
            assert untouched is None or not np.any(untouched)


@pytest.mark.parametrize("container", [tuple, list])
def test_weight_mask_has_the_structure_of_the_parameters(container):
    params = container(drawn(NETWORKS[3]))
    mask = jaxmlp.weight_mask(params)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    assert [layer.W for layer in mask] == [True] * 3
    assert [layer.slope for layer in mask] == [False, False, None]
