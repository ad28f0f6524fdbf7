"""Reading what a candidate returned, in whatever form a gradient comes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp.gradcheck.naming import Arrays, by_name, dtype_of, is_layered, split
from jaxmlp.storage import Layer, is_stacked

Shapes = dict[str, tuple[int, ...]]


class Answer(NamedTuple):
    """What the candidate returned, by name.

    gradient: W1, b1, ...; steps: dZ2, dA1, Z1, ...; value: J, None where none came; notes: what
    was left unread or read otherwise than written; columns: whether samples are columns.
    """

    gradient: Arrays
    steps: Arrays
    value: Any
    notes: tuple[str, ...]
    columns: bool = False

    @property
    def dtype(self) -> np.dtype:
        """The coarsest dtype among the gradients."""
        return dtype_of(self.gradient)


def read(result: Any, params: Any) -> Answer:
    """Return the gradient, or value and gradient, that a candidate returned for params.

    What cannot be read is left out of the answer, with a note; nothing raises.
    """
    parse = _layered if is_layered(params) else _tree
    found, value = parse(result, params), None
    if found is None and isinstance(result, tuple | list) and len(result) == 2:
        value, found = result[0], parse(result[1], params)
    if found is None:
        expected = "a list of (dW, db) or a dict of dW1, db1, ..." if parse is _layered else "that"
        note = (
            f"returned {_words(result)}; expected a gradient with the structure of the parameters"
        )
        return Answer({}, {}, None, (note + (f", {expected}" if parse is _layered else ""),))
    notes: list[str] = []
    arrays = {name: _array(name, leaf, notes) for name, leaf in found.items()}
    known = {name: array for name, array in arrays.items() if array is not None}
    gradient, steps = _sorted_out(known, by_name(params), notes, parse is _layered)
    return Answer(gradient, steps, value, tuple(notes))


def _words(x: Any) -> str:
    if hasattr(x, "shape"):
        return f"an array of shape {tuple(x.shape)}"
    size = f" of {len(x)}" if isinstance(x, tuple | list | dict) else ""
    return f"a {type(x).__name__}{size}"


def _array(name: str, leaf: Any, notes: list[str]) -> np.ndarray | None:
    """The leaf as an array of real numbers, or None and a note."""
    try:
        array = np.asarray(leaf)
    except Exception as error:  # whatever the candidate made of it
        notes.append(f"{name} is not an array: {error}")
        return None
    real = array.dtype.kind in "fiub" or jax.numpy.issubdtype(array.dtype, np.floating)
    if not real:
        notes.append(f"{name} must be real numbers, got dtype {array.dtype}")
        return None
    return array


def number(x: Any) -> np.ndarray | None:
    """A value as a float64 scalar, or None for anything else."""
    array = _array("J", x, [])
    return array.astype(np.float64).reshape(()) if array is not None and array.size == 1 else None


# --- forms ----------------------------------------------------------------------------------------


def _tree(result: Any, params: Any) -> dict[str, Any] | None:
    """A pytree of the structure of params."""
    if jax.tree.structure(result) != jax.tree.structure(params):
        return None
    paths = jax.tree_util.tree_flatten_with_path(result)[0]
    return dict(zip(by_name(params), (leaf for _, leaf in paths), strict=True))


def _layered(result: Any, params: Any) -> dict[str, Any] | None:
    """A dict by names, Layers in the storage of params, or one (dW, db) for each layer."""
    if isinstance(result, Mapping):
        return {str(name): leaf for name, leaf in result.items()}
    if not isinstance(result, tuple | list) or isinstance(result, Layer):
        return None
    if _stored_alike(result, params):
        return dict(by_name(tuple(result)))
    entries = [_entry(entry) for entry in result]
    if not entries or any(entry is None for entry in entries):
        return None
    return {
        f"{field}{number}": leaf
        for number, entry in enumerate(entries, start=1)
        for field, leaf in zip(Layer._fields, entry or (), strict=False)
        if leaf is not None
    }


def _stored_alike(result: Any, params: Any) -> bool:
    """Whether result holds Layers that stack as those of params do."""
    if not is_layered(result) or len(result) != len(params):
        return False
    lengths = [
        {len(leaf) for leaf in entry if leaf is not None} if is_stacked(own) else {0}
        for entry, own in zip(result, params, strict=True)
        if is_stacked(own) == (np.ndim(entry.W) == 3)
    ]
    return len(lengths) == len(params) and all(len(ns) == 1 for ns in lengths)


def _entry(entry: Any) -> tuple | None:
    """One layer of a list: (dW,), (dW, db), (dW, db, dslope), or dW alone."""
    if isinstance(entry, tuple | list) and 1 <= len(entry) <= len(Layer._fields):
        is_leaf = lambda x: x is None or hasattr(x, "shape") or isinstance(x, list | float | int)  # noqa: E731
        return tuple(entry) if all(map(is_leaf, entry)) else None
    return (entry,) if getattr(entry, "ndim", 0) == 2 else None


def _sorted_out(arrays: Arrays, right: Arrays, notes: list[str], layered: bool):
    """Tell gradient from steps, and name what is neither."""
    if not layered:
        return arrays, {}
    L = max(split(name)[1] for name in right)
    known_steps = {f"{field}{l}" for field in ("Z", "A", "dZ", "dA") for l in range(L + 1)}
    known_steps -= {"Z0", "dZ0"}
    gradient, steps = {}, {}
    for name, array in arrays.items():
        own = name.removeprefix("d")
        if name in known_steps:
            steps[name] = array
        elif own in right and own == name and f"d{own}" in arrays:
            notes.append(f"{name} was not read: d{own} is its gradient")
        elif own in right:
            gradient[own] = array
        else:
            notes.append(f"{name} was not read: the network has no such gradient or step")
    return gradient, steps


# --- shapes ---------------------------------------------------------------------------------------


def settled(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a bias that came as (1, d) or (d, 1), or a slope as (1,), in its own shape."""
    is_vector = len(shape) <= 1 and array.ndim <= 2 and array.size == np.prod(shape, dtype=int)
    return (
        array.reshape(shape) if is_vector and max(array.shape, default=1) == array.size else array
    )


def in_columns(gradient: Arrays, right: Shapes, agrees: Callable[[str, np.ndarray], bool]) -> bool:
    """Whether every weight's gradient is `(d_out, d_in)`, as where samples are columns (B6).

    Where all weights are square the shapes do not tell; then the numbers have to be right more
    often when transposed.
    """
    weights = [name for name in gradient if name.startswith("W")]
    if not weights or any(gradient[name].shape != right[name][::-1] for name in weights):
        return False
    if any(len(set(right[name])) > 1 for name in weights):
        return True
    as_rows, as_columns = (
        sum(agrees(name, turn(gradient[name])) for name in weights)
        for turn in (np.asarray, np.transpose)
    )
    return as_columns > as_rows


def to_rows(answer: Answer) -> Answer:
    """Return an answer in columns with every matrix transposed."""
    note = "gradients are (d_out, d_in), samples as columns: the same numbers, transposed; read so"
    gradient, steps = (
        {name: array.T if array.ndim == 2 else array for name, array in arrays.items()}
        for arrays in (answer.gradient, answer.steps)
    )
    return answer._replace(
        gradient=gradient, steps=steps, notes=(*answer.notes, note), columns=True
    )
