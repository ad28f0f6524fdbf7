"""How parameters are stored: a tuple of layers in which a long run of equal layers is one stack.

A plain `Layer` holds `W (d_in, d_out)`. A stacked one holds n layers of equal shape, `W (n, d, d)`
and `b (n, d)`. Every function of the package accepts any grouping of the right layers. It regroups
the parameters as `mlp.init` does before it starts, and its results as the parameters came.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmlp.layer import Layer
from jaxmlp.walk import Run

STACK_FROM = 32  # chosen: shorter runs stay plain, because slices of wide layers are copies

Counts = tuple[int | None, ...]
"""The grouping of parameters: how many layers each entry stacks, None for a plain layer."""


def is_stacked(layer: Layer) -> bool:
    """Return whether the Layer is a stack of layers."""
    return jnp.ndim(layer.W) > 2


def count(layer: Layer) -> int:
    """Return how many layers the Layer holds."""
    return layer.W.shape[0] if is_stacked(layer) else 1


def lead(layer: Layer) -> tuple[int, ...]:
    """Return the leading shape of the Layer's arrays: `(n,)` for a stack, () for a plain layer."""
    return layer.W.shape[:-2]


def swap_layer_and_sample(counts: Counts, entries: Sequence) -> list:
    """Swap the first two axes, layer and sample, in the entry of every stack."""
    swap = functools.partial(jax.tree.map, lambda x: jnp.moveaxis(x, 0, 1))
    return [entry if n is None else swap(entry) for n, entry in zip(counts, entries, strict=True)]


def counts_of(params: Iterable[Layer]) -> Counts:
    """Return how params are grouped."""
    return tuple(count(layer) if is_stacked(layer) else None for layer in params)


def regroup(entries: Sequence, have: Counts, want: Counts) -> tuple:
    """Return entries that are grouped as `have` in the grouping `want`.

    An entry is a pytree; for a stack its arrays lead with n. If `have` and `want` are equal, the
    entries are returned as they are. Stacks of NumPy arrays are NumPy's.
    """
    if have == want:
        return tuple(entries)
    numpy = all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tuple(entries)))
    stacked = np.stack if numpy else jnp.stack
    rest = iter(split(entries, have))
    return tuple(
        next(rest)
        if n is None
        else jax.tree.map(lambda *leaves: stacked(leaves), *itertools.islice(rest, n))
        for n in want
    )


def split(entries: Sequence, have: Counts) -> list:
    """Return one entry for each of the layers 1..L."""
    each = []
    for entry, n in zip(entries, have, strict=True):
        if n is None:
            each.append(entry)
            continue
        leaves, tree = jax.tree.flatten(entry)
        columns = zip(*map(list, leaves), strict=True) if leaves else [()] * n
        each.extend(jax.tree.unflatten(tree, column) for column in columns)
    return each


def canonical(runs: Sequence[Run], params: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return params in the storage of `mlp.init`."""
    return regroup(params, counts_of(params), tuple(run.count for run in runs))


def grouped_like(params: Sequence[Layer], runs: Sequence[Run], entries: Sequence) -> tuple:
    """Return the results of a walk, one entry for each run, grouped as params are."""
    return regroup(entries, tuple(run.count for run in runs), counts_of(params))


def in_container_of(params: Any, entries: Sequence) -> Any:
    """Return Layers that are grouped like params in the same pytree as params."""
    return jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(tuple(entries)))


def layers(params: Iterable[Layer]) -> list[Layer]:
    """Return one plain Layer for each of the layers 1..L, however they are stored.

    Example:
      >>> import jax, jaxmlp
      >>> mlp = jaxmlp.MLP((2, *[8] * 50, 3), hidden="tanh", output="softmax")
      >>> params = mlp.init(jax.random.key(0), "lecun")
      >>> len(params), len(layers(params)), layers(params)[49].W.shape
      (3, 51, (8, 8))
    """
    params = tuple(params)
    return split(params, counts_of(params))


def stack(layers: Iterable[Layer], mlp: Any = None) -> tuple[Layer, ...]:
    """Return the layers as `mlp.init` stores them: a long run of equal layers as one stack.

    Args:
      layers: plain layers, layer 1 first.
      mlp: the network, which decides what is stacked. Without it every run of more than 32 layers
        of equal shape is.
    """
    layers = list(layers)
    want = _equal_runs(layers) if mlp is None else tuple(run.count for run in mlp.runs)
    expected = sum(1 if n is None else n for n in want)
    if expected != len(layers):
        raise ValueError(f"got {len(layers)} layers for a network of {expected}")
    return regroup(layers, (None,) * len(layers), want)


def _equal_runs(layers: list[Layer]) -> Counts:
    """Return the grouping that stacks every run of more than 32 layers of equal shape."""

    def shapes(layer):
        return tuple(None if leaf is None else jnp.shape(leaf) for leaf in layer)

    lengths = [len(list(run)) for _, run in itertools.groupby(layers, key=shapes)]
    runs = [[n] if n > STACK_FROM else [None] * n for n in lengths]
    return tuple(itertools.chain.from_iterable(runs))


def as_dict(params: Iterable[Layer]) -> dict[str, Array]:
    """Return `{"W1": ..., "b1": ..., "W2": ...}`, numbered as in the lecture notes.

    PReLU's slope is `slope1`, ReZero's gate `alpha2`.

    Example:
      >>> import jax, jaxmlp
      >>> list(as_dict(jaxmlp.MLP((2, 4, 3)).init(jax.random.key(0))))
      ['W1', 'b1', 'W2', 'b2']
    """
    return {
        f"{name}{number}": leaf
        for number, layer in enumerate(layers(params), start=1)
        for name, leaf in layer._asdict().items()
        if leaf is not None
    }


def from_dict(arrays: Mapping[str, Array], mlp: Any = None) -> tuple[Layer, ...]:
    """Return the parameters from the dictionary of `as_dict`, stored as `stack` stores them.

    Raises:
      ValueError: for a name that is not W, b, slope or alpha with the number of a layer, and for a
        W that is missing.
    """
    # L is the largest number of a W, but not above what the arrays can name
    numbers = [int(name[1:]) for name in map(str, arrays) if re.fullmatch(r"W\d+", name)]
    L = min(max(numbers, default=0), len(arrays) + 1)
    expected = {f"{field}{number}" for field in Layer._fields for number in range(1, L + 1)}
    unknown = sorted(set(map(str, arrays)) - expected)
    missing = sorted({f"W{number}" for number in range(1, max(L, 1) + 1)} - set(arrays))
    if unknown or missing:
        raise ValueError(
            f"expected W1..WL (and b1.., slope1..); unknown: {unknown}, missing: {missing}"
        )
    plain = [
        Layer(*(arrays.get(f"{field}{number}") for field in Layer._fields))  # pyright: ignore
        for number in range(1, L + 1)
    ]
    return stack(plain, mlp)


def weight_mask(params):
    """Return the mask for weight decay: True for every W and False for all else.

    Example:
      >>> import optax
      >>> decay = optax.add_decayed_weights(1e-3, mask=weight_mask)
    """
    masks = [jax.tree.map(lambda _: False, layer)._replace(W=True) for layer in params]
    return in_container_of(params, masks)
