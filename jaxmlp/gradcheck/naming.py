"""One name for each array of a gradient: W1, b1, slope1 for layers, the path for other pytrees."""

import re
from typing import Any

import jax
import numpy as np

from jaxmlp.layer import Layer
from jaxmlp.storage import as_dict, count, is_stacked

Arrays = dict[str, np.ndarray]


def is_layered(params: Any) -> bool:
    """Whether params are a network's: a tuple or list of Layers."""
    plain = isinstance(params, tuple | list) and not isinstance(params, Layer)
    return plain and len(params) > 0 and all(isinstance(entry, Layer) for entry in params)


def by_name(params: Any) -> Arrays:
    """Return every array of params by its name, in their order, one for each layer 1..L."""
    params = jax.tree.map(np.asarray, params)
    if is_layered(params):
        return {name: np.asarray(leaf) for name, leaf in as_dict(params).items()}
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    return {_path(path): leaf for path, leaf in paths}


def _path(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or "gradient"


def replaced(params: Any, name: str, array: np.ndarray) -> Any:
    """Return params with the array of that name exchanged."""
    if not is_layered(params):
        flat, structure = jax.tree_util.tree_flatten_with_path(params)
        new = [array if _path(path) == name else leaf for path, leaf in flat]
        return jax.tree.unflatten(structure, new)
    field, number = split(name)
    entries, first = list(params), 1
    for i, layer in enumerate(entries):
        if first <= number < first + count(layer):
            leaf = array
            if is_stacked(layer):
                leaf = np.array(getattr(layer, field), dtype=array.dtype)
                leaf[number - first] = array
            entries[i] = layer._replace(**{field: leaf})
        first += count(layer)
    return tuple(entries)


def split(name: str) -> tuple[str, int]:
    """Return ("dZ", 2) for "dZ2"."""
    match = re.fullmatch(r"([A-Za-z]+)(\d+)", name)
    assert match is not None
    return match[1], int(match[2])


def layer_of(name: str, layered: bool) -> int | None:
    """The number of the layer that an array belongs to; None outside of networks."""
    return split(name)[1] if layered else None


def listed(names: list[str]) -> str:
    """The names in a sentence; of many the first, the last and their number."""
    return ", ".join(names) if len(names) <= 6 else f"{names[0]} to {names[-1]} ({len(names)})"


def eps_of(dtype) -> float:
    return float(jax.numpy.finfo(dtype).eps)


def dtype_of(*trees: Any) -> np.dtype:
    """The coarsest floating dtype among the leaves; float64 where none is floating."""
    dtypes = [np.dtype(np.float64)]
    for leaf in jax.tree.leaves(trees):
        dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        if jax.numpy.issubdtype(dtype, np.floating):
            dtypes.append(np.dtype(dtype))
    return max(dtypes, key=eps_of)


def cast(tree: Any, dtype) -> Any:
    """Return the tree with floating arrays in dtype, NumPy ones as NumPy's, JAX ones as JAX's."""

    def one(leaf):
        if not hasattr(leaf, "dtype") or not jax.numpy.issubdtype(leaf.dtype, np.floating):
            return leaf
        array = np.asarray(leaf).astype(dtype)
        return jax.numpy.asarray(array) if isinstance(leaf, jax.Array) else array

    return jax.tree.map(one, tree)
