"""Reading what a candidate returned, in whatever form a gradient comes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp.gradcheck.judge import error, settled
from jaxmlp.gradcheck.names import (
    Arrays,
    by_name,
    counted_from_1,
    dtype_of,
    is_layered,
    listed,
    split,
)
from jaxmlp.layer import Layer

Leaves = dict[str, Any]  # by name, before they are arrays


class Answer(NamedTuple):
    """What the candidate returned, by name.

    gradient: W1, b1, ...; steps: dZ2, dA1, Z1, ...; value: J, None if none came; notes: what was
    left unread, or was not read as it was written; in_order: whether the layers came in an order,
    without their numbers.
    """

    gradient: Arrays
    steps: Arrays
    value: Any
    notes: tuple[str, ...]
    in_order: bool = False

    @property
    def dtype(self) -> np.dtype:
        """The coarsest dtype among the gradients."""
        return dtype_of(self.gradient)


def read(result: Any, params: Any) -> Answer:
    """Return the gradient, or value and gradient, that a candidate returned for params.

    What cannot be read is left out of the answer, with a note; nothing raises.
    """
    # The gradient alone, or with the value before or after it
    parse = _layered if is_layered(params) else _tree
    found, value = parse(result, params), None
    if found is None and isinstance(result, tuple | list) and len(result) == 2:
        value, found = result[0], parse(result[1], params)
        if found is None and number(result[1]) is not None:
            value, found = result[1], parse(result[0], params)
    if found is None:
        note = f"returned {_words(result)}; expected {_expected(params)}"
        return Answer({}, {}, None, (note,))
    # Its arrays
    notes: list[str] = []
    if blank := [name for name, leaf in found.items() if leaf is ...]:
        notes.append(f"{listed(blank)}: not filled in")
    arrays = {name: _array(name, leaf, notes) for name, leaf in found.items() if leaf is not ...}
    known = {name: array for name, array in arrays.items() if array is not None}
    # Gradient and steps
    gradient, steps = known, {}
    if parse is _layered:
        gradient, steps = _sorted_out(known, by_name(params), notes)
        value = steps.pop("J", value)
    if not gradient and not blank:
        notes.append(f"no gradient was found in it; expected {_expected(params)}")
    in_order = parse is _layered and not isinstance(result, Mapping)
    return Answer(gradient, steps, value, tuple(notes), in_order)


def _words(x: Any) -> str:
    if hasattr(x, "shape"):
        return f"an array of shape {tuple(x.shape)}"
    size = f" of {len(x)}" if isinstance(x, tuple | list | dict) else ""
    return f"a {type(x).__name__}{size}"


def _expected(params: Any) -> str:
    """The forms of a gradient, with the shapes of this one."""
    if not is_layered(params):
        return "a gradient with the structure of the parameters"
    shapes = [f"d{name} {leaf.shape}" for name, leaf in by_name(params).items()]
    return (
        f"a dict of {listed(shapes)}, those arrays in this order, a list of (dW, db), or a "
        "gradient with the structure of the parameters"
    )


def _array(name: str, leaf: Any, notes: list[str]) -> np.ndarray | None:
    """The leaf as an array of real numbers, or None and a note."""
    try:
        array = np.asarray(leaf)
    except Exception as error:  # whatever the candidate made of it
        notes.append(f"{name} is not an array: {error}")
        return None
    if array.dtype.kind in "fiub" or jax.numpy.issubdtype(array.dtype, np.floating):
        return array
    notes.append(f"{name} must be real numbers, got dtype {array.dtype}")
    return None


def number(x: Any) -> np.ndarray | None:
    """Return a value as a float64 scalar, or None for anything else."""
    array = _array("J", x, [])
    return array.astype(np.float64).reshape(()) if array is not None and array.size == 1 else None


def _sorted_out(arrays: Arrays, right: Arrays, notes: list[str]) -> tuple[Arrays, Arrays]:
    """Tell gradient from steps, and name what is neither."""
    L = max(split(name)[1] for name in right)
    steps_of_layers = {f"{field}{l}" for field in "ZSUA" for l in range(1, L + 1)} | {"A0"}
    known_steps = {"J"} | steps_of_layers | {f"d{name}" for name in steps_of_layers}
    # Other people's names, unless all are those of E3; two of one meaning are left as they are
    read = {name: name for name in arrays}
    if not all(name.removeprefix("d") in right or name in known_steps for name in arrays):
        new = counted_from_1(arrays, L)
        clear = len(set(new.values())) == len(new)
        read |= new if clear else {n: name for n, name in new.items() if name not in arrays}
    gradient, steps = {}, {}
    for written, array in arrays.items():
        name = read[written]
        own = name.removeprefix("d")
        if name in known_steps:
            steps[name] = array
        elif own in right and own == name and f"d{own}" in read.values():
            notes.append(f"{written} was not read: d{own} is its gradient")
        elif own in right:
            gradient[own] = array
        else:
            notes.append(f"{written} was not read: the network has no such gradient or step")
    return gradient, steps


# --- forms ----------------------------------------------------------------------------------------


def _tree(result: Any, params: Any) -> Leaves | None:
    """A pytree of the structure of params."""
    if jax.tree.structure(result) != jax.tree.structure(params):
        return None
    return dict(zip(by_name(params), jax.tree.leaves(result), strict=True))


def _layered(result: Any, params: Any) -> Leaves | None:
    """A dict by names, Layers in the storage of params, one (dW, db) for each layer, or arrays in
    the order of the parameters."""
    if isinstance(result, Mapping):
        return _by_names(result)
    if not isinstance(result, tuple | list) or isinstance(result, Layer):
        return None
    if stored := _as_stored(result, params):
        return stored
    right, pairs = by_name(params), _each_layer(result)
    # Of units that are few, other orders may have the shapes of pairs too
    fits = (name in right and _fits(x, right[name].shape) for name, x in (pairs or {}).items())
    if pairs and pairs.keys() == right.keys() and all(fits):
        return pairs
    return _in_order(result, right) or pairs


def _by_names(result: Mapping) -> Leaves:
    """Every entry under its name; {"dW": [dW1, dW2]} and {"layer1": {"dW": dW1}} as dW1, ..."""
    flat: Leaves = {}
    for name, leaf in result.items():
        number = re.search(r"\d+$", str(name))
        if number and isinstance(leaf, Mapping):
            flat |= {f"{field}{number[0]}": part for field, part in leaf.items()}
        elif not number and isinstance(leaf, tuple | list) and all(map(_is_leaf, leaf)):
            flat |= {f"{name}{l}": part for l, part in enumerate(leaf, start=1)}
        else:
            flat[str(name)] = leaf
    return flat


def _in_order(result: Any, right: Arrays) -> Leaves | None:
    """dW1, db1, dW2, ..., or weights first; from the first layer or the last, as shapes tell."""
    weights_first = sorted(right, key=lambda name: Layer._fields.index(split(name)[0]))
    orders = [list(right), weights_first]
    if len(result) == 2 and all(isinstance(part, tuple | list) for part in result):
        result, orders = [*result[0], *result[1]], [weights_first]  # ([dW1, dW2], [db1, db2])
    if len(result) != len(right) or not all(map(_is_leaf, result)) or len(right) == 1:
        return None
    # The layers of a gradient that comes from the last are counted as they came
    for mirror in (False, True):
        for names in orders:
            places = [_mirrored(name, right) for name in names] if mirror else names
            if all(_fits(x, right[name].shape) for x, name in zip(result, places, strict=True)):
                return dict(zip(names, result, strict=True))
    return None


def _mirrored(name: str, names: Iterable[str]) -> str:
    """The name of the same array if layers are counted from the other end."""
    field, number = split(name)
    return f"{field}{max(split(n)[1] for n in names) + 1 - number}"


def _fits(x: Any, shape: tuple[int, ...]) -> bool:
    """Whether x has that shape, or as a bias one of its variants."""
    try:
        given = np.shape(x)
    except ValueError:  # rows of several lengths
        return False
    return given in (shape, shape[::-1], (1, *shape), (*shape, 1))


def _each_layer(result: Iterable) -> Leaves | None:
    """One (dW, db) for each layer, or a dict of them."""
    entries = [_entry(entry) for entry in result]
    if not entries or any(entry is None for entry in entries):
        return None
    return {
        f"{field}{number}": leaf
        for number, entry in enumerate(entries, start=1)
        for field, leaf in (entry or {}).items()
        if leaf is not None
    }


def _entry(entry: Any) -> Leaves | None:
    """One layer of a list: (dW,), (dW, db), (dW, db, dslope), {"dW": dW, "db": db}, or dW alone."""
    if isinstance(entry, Mapping):
        return {str(name): leaf for name, leaf in entry.items()}
    if isinstance(entry, tuple | list) and 1 <= len(entry) <= len(Layer._fields):
        pairs = dict(zip(Layer._fields, entry, strict=False))
        return pairs if all(map(_is_leaf, entry)) else None
    return {"W": entry} if getattr(entry, "ndim", 0) == 2 else None


def _as_stored(result: Any, params: Any) -> Leaves | None:
    """Layers in the structure of the parameters, stacked in any way."""
    if not is_layered(result):
        return None
    try:
        found = by_name(tuple(result))
    except (TypeError, ValueError):  # leaves that are no arrays, or stacks of several lengths
        return None
    return dict(found) if found.keys() == by_name(params).keys() else None


def _is_leaf(x: Any) -> bool:
    return x is None or hasattr(x, "shape") or isinstance(x, list | float | int)


# --- columns, and layers from the last ------------------------------------------------------------


def in_columns(gradient: Arrays, right: Arrays) -> bool:
    """Whether every weight's gradient is `(d_out, d_in)`, as where samples are columns (B6).

    If all weights are square the shapes do not tell; then the numbers have to be right more often
    when transposed.
    """
    weights = [name for name in gradient if name.startswith("W")]
    if not weights or any(gradient[name].shape != right[name].shape[::-1] for name in weights):
        return False
    if any(len(set(right[name].shape)) > 1 for name in weights):
        return True
    turned = {name: gradient[name].T for name in weights}
    return _agreeing(turned, right) > _agreeing({n: gradient[n] for n in weights}, right)


def _agreeing(given: Arrays, right: Arrays) -> int:
    """How many arrays are right to a hundredth."""
    return sum(error(x, right[name]) <= 0.01 for name, x in given.items())


def to_rows(answer: Answer) -> Answer:
    """Return an answer in columns with every matrix transposed."""
    note = "gradients are (d_out, d_in), samples as columns: the same numbers, transposed; read so"
    gradient, steps = (
        {name: array.T if array.ndim == 2 else array for name, array in arrays.items()}
        for arrays in (answer.gradient, answer.steps)
    )
    return answer._replace(gradient=gradient, steps=steps, notes=(*answer.notes, note))


def from_the_last(answer: Answer, right: Arrays) -> Arrays | None:
    """Return the gradient with its layers counted from the output, if they came in that order.

    As for columns, shapes tell, or numbers that are right more often.
    """
    # Both readings, if there are two
    turned = {_mirrored(name, right): array for name, array in answer.gradient.items()}
    if not answer.in_order or turned.keys() != right.keys():
        return None
    given, turned = (
        {name: settled(x, right[name].shape) for name, x in arrays.items()}
        for arrays in (answer.gradient, turned)
    )
    # The one that fits, or the one whose numbers do, in most arrays
    if any(x.shape != right[name].shape for name, x in turned.items()):
        return None
    if any(x.shape != right[name].shape for name, x in given.items()):
        return turned
    most = max(_agreeing(given, right), len(right) // 2)
    return turned if _agreeing(turned, right) > most else None
