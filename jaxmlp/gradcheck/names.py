"""Names: one for each array of a gradient, and those that people give to derivatives.

W1, b1, slope1, ... for the layers of a network; for other pytrees the path of a leaf.
"""

import re
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jaxmlp.layer import Layer
from jaxmlp.storage import as_dict, count, is_stacked

Arrays = dict[str, np.ndarray]
VALUE = ""  # the name of J's value among arrays: no array of a gradient has it


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
    # By its path, or of a network by layer and field, also inside a stack
    if not is_layered(params):
        flat, structure = jax.tree_util.tree_flatten_with_path(params)
        new = [array if _path(path) == name else leaf for path, leaf in flat]
        return jax.tree.unflatten(structure, new)
    (field, number), entries, first = split(name), list(params), 1
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


def listed(names: list[str]) -> str:
    """Join names for a sentence; of more than six, the first, the last and their number."""
    return ", ".join(names) if len(names) <= 6 else f"{names[0]} to {names[-1]} ({len(names)})"


# --- dtypes ---------------------------------------------------------------------------------------


def eps_of(dtype) -> float:
    return float(jax.numpy.finfo(dtype).eps)


def dtype_of(*trees: Any) -> np.dtype:
    """Return the coarsest floating dtype among the leaves; float64 if none is floating."""
    dtypes = [np.dtype(np.float64)]
    for leaf in jax.tree.leaves(trees):
        dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        if jax.numpy.issubdtype(dtype, np.floating):
            dtypes.append(np.dtype(dtype))
    return max(dtypes, key=eps_of)


def cast(tree: Any, dtype) -> Any:
    """Return the tree with its floating arrays in dtype."""
    return mapped(lambda array: array.astype(dtype), tree)


def mapped(f: Any, tree: Any) -> Any:
    """Return f of the floating arrays of the tree; JAX arrays stay JAX's, NumPy's stay NumPy's."""

    def one(leaf):
        leaf = np.asarray(leaf) if isinstance(leaf, float) else leaf
        if not hasattr(leaf, "dtype") or not jax.numpy.issubdtype(leaf.dtype, np.floating):
            return leaf
        array = f(np.asarray(leaf))
        return jax.device_put(array) if isinstance(leaf, jax.Array) else array  # compiles nothing

    return jax.tree.map(one, tree)


# --- what people call a derivative ----------------------------------------------------------------

FIELDS = {
    "w": "W", "weight": "W", "weights": "W", "b": "b", "bias": "b", "biases": "b",
    "slope": "slope", "alpha": "slope", "z": "Z", "a": "A", "h": "A",
}  # fmt: skip
VALUES = {"j", "loss", "cost", "value"}

_DERIVATIVE = r"(?P<pre>d[jle]d|d(?:loss|cost)d|gradients?(?:of)?|grads?|nabla|delta|d|g)?"
_FIELD = r"(?P<field>weights?|bias(?:es)?|slope|alpha|[wbzah])"
_PATTERN = re.compile(rf"{_DERIVATIVE}{_FIELD}(?P<l>\d+)(?P<post>gradients?|grads?)?")


def read_name(name: str) -> str:
    """Return "dW1" for "dw1", "grad_W1", "dJ/dW_1" or "W1_grad", "dZ2" for "delta2", "J" for
    "loss"; a name that cannot be read stays as it is.

    Example:
      >>> [read_name(name) for name in ("grad_W1", "dL_db2", "delta2", "A1", "loss", "cache")]
      ['dW1', 'db2', 'dZ2', 'A1', 'J', 'cache']
    """
    plain = re.sub(r"[\s_\-\[\]()/{}.]", "", name).lower().replace("∂", "d").replace("δ", "delta")
    if plain in VALUES:
        return "J"
    if delta := re.fullmatch(r"(?:delta|error)(\d+)", plain):
        return f"dZ{delta[1]}"
    match = _PATTERN.fullmatch(plain)
    if match is None:
        return name
    is_derivative = match["pre"] or match["post"]
    return f"{'d' if is_derivative else ''}{FIELDS[match['field']]}{int(match['l'])}"


def counted_from_1(names: Iterable[str], L: int) -> dict[str, str]:
    """Return what to read for every name, with layers counted from 1 if they came from 0."""
    read = {name: read_name(name) for name in names}
    weights = {re.sub(r"^d", "", new) for new in read.values()}
    if not {"W0", "b0"} & weights or {f"W{L}", f"b{L}"} & weights:
        return read
    return {old: re.sub(r"\d+$", lambda l: str(int(l[0]) + 1), new) for old, new in read.items()}
