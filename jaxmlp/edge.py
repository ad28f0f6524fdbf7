"""The public edge: parameters and inputs are checked here before anything is computed.

A structure (network, pytree, shapes, dtypes) that was checked is remembered and not checked again.
Neither are the values of a JAX array, because nobody can change them.
"""

import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmlp import checks
from jaxmlp.layer import Layer
from jaxmlp.storage import count, lead

DTYPES = ("float64", "float32", "bfloat16", "float16")
_CHECKED: dict[tuple, np.dtype] = {}
_MOST_CHECKED = 1024  # chosen: how many structures are remembered before all are forgotten
_CHECKED_VALUES: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def as_layers(params: Any) -> Any:
    """Return Layers for a list of (W, b), which may be NumPy's; return Layers as they are."""
    if not isinstance(params, list | tuple) or isinstance(params, Layer):
        return params
    is_pair = lambda x: isinstance(x, list | tuple) and 1 <= len(x) <= len(Layer._fields)  # noqa: E731
    if not params or any(isinstance(x, Layer) or not is_pair(x) for x in params):
        return params
    return tuple(Layer(*pair) for pair in params)


def checked_params(mlp: Any, params: Any) -> np.dtype:
    """Refuse parameters that do not belong to the network `mlp`; return their dtype."""
    leaves, tree = jax.tree.flatten(params)
    try:
        signature = (mlp, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
        signature = (*signature, jax.dtypes.canonicalize_dtype(float))
        if signature in _CHECKED:
            return _CHECKED[signature]
    except AttributeError:  # a leaf is not an array; the check below says so
        signature = None
    dtype = _checked_structure(mlp, params)
    if signature is not None:
        if len(_CHECKED) >= _MOST_CHECKED:
            _CHECKED.clear()
        _CHECKED[signature] = dtype
    return dtype


def _checked_structure(mlp: Any, params: Any) -> np.dtype:
    """Refuse parameters of another structure than the network's; return their dtype."""
    if not isinstance(params, list | tuple) or isinstance(params, Layer):
        raise TypeError(f"params must be a tuple of Layers, got {type(params).__name__}")
    # Each entry: its kind, and the shapes of the layers that it holds
    number, dtypes = 0, set()
    for layer in params:
        if not isinstance(layer, Layer):
            raise TypeError(f"params must be a tuple of Layers, but one is {type(layer).__name__}")
        for name, leaf in layer._asdict().items():
            if leaf is not None and not hasattr(leaf, "dtype"):
                raise TypeError(
                    f"{name} of layer {number + 1} must be an array, got {type(leaf).__name__}"
                )
        n = count(layer)
        if n == 0:
            raise ValueError("params hold a stack of no layers")
        for i in range(number, min(number + n, mlp.num_layers)):
            _check_layer(mlp, i, layer)
        number += n
        dtypes |= {jnp.result_type(leaf) for leaf in jax.tree.leaves(layer)}
    # All of them together
    if number != mlp.num_layers:
        raise ValueError(f"params hold {number} layers, but the network has {mlp.num_layers}")
    if len(dtypes) != 1 or not jnp.issubdtype(next(iter(dtypes)), jnp.floating):
        raise TypeError(f"params must have one floating dtype, got {sorted(map(str, dtypes))}")
    dtype = dtypes.pop()
    if dtype.name not in DTYPES:
        raise TypeError(f"params must be {', '.join(DTYPES)}, got {dtype}")
    return dtype


def _check_layer(mlp: Any, i: int, layer: Layer) -> None:
    """Refuse arrays that are not those of layer i + 1: none too many, none missing, each shape."""
    d_in, d_out = mlp.sizes[i : i + 2]
    shapes = {"W": (d_in, d_out), "b": (d_out,), "slope": (), "alpha": ()}
    fields = mlp.specs[i].fields(mlp.use_bias)
    for name, leaf in layer._asdict().items():
        shape = (*lead(layer), *shapes[name]) if name in fields else None  # None: must be missing
        given = None if leaf is None else jnp.shape(leaf)
        if given != shape:
            given, shape = ("none" if s is None else s for s in (given, shape))
            raise ValueError(
                f"params are of another network: {name} of layer {i + 1} is {given}, "
                f"expected {shape}"
            )


def checked_inputs(features: int, X: Any, dtype, ranks: tuple[int, ...] = (2,)) -> Array:
    """Return X as a JAX array; refuse a wrong shape or dtype, no samples, NaN and infinity."""
    X = as_array("X", X)
    if not jnp.issubdtype(X.dtype, jnp.floating):
        raise TypeError(f"X must be floating, got dtype {X.dtype}")
    if X.ndim not in ranks:
        shapes = {1: f"({features},)", 2: f"(m, {features})"}
        expected = " or ".join(shapes[rank] for rank in reversed(ranks))
        raise ValueError(f"X must have shape {expected}, got {X.shape}")
    if X.shape[-1] != features:
        raise ValueError(f"X has {X.shape[-1]} features, but the network takes {features}")
    if X.shape[0] == 0:
        raise ValueError("X holds no samples")
    # The values, and the dtype that JAX gives them
    X = as_jax("X", X)
    if X.dtype != dtype:
        raise TypeError(f"X is {X.dtype}, but the parameters are {dtype}: cast one of them")
    return X


def as_array(name: str, values: Any):
    """Return JAX and NumPy arrays as they are, and anything else as a NumPy array."""
    if isinstance(values, jax.Array):
        if jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
            raise TypeError(f"{name} must be an array of numbers, got dtype {values.dtype}")
        # With Explicit axes the type holds the sharding, and JAX refuses products over samples
        spec = jax.typeof(values).sharding.spec  # it does not name axes of type Auto
        if any(axis is not None for axis in spec):
            raise ValueError(
                f"{name} is sharded as {spec} over Explicit axes of a mesh: make the mesh with "
                "axis_types=(jax.sharding.AxisType.Auto,) for each axis"
            )
        return values
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a plain array: of a masked one the mask would be lost")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is not an array: {error}") from None
    if array.dtype.kind in "OUSMm":  # objects, text, bytes, dates, time differences
        raise TypeError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    if (array.dtype.itemsize > 8 and array.dtype.kind == "f") or not array.dtype.isnative:
        raise TypeError(
            f"{name} must be of a dtype that JAX knows, in this machine's byte order, "
            f"got dtype {array.dtype.str} ({array.dtype.name})"
        )
    return array


def as_jax(name: str, values: Any) -> Array:
    """Return a JAX array; refuse entries that are not finite, or not in JAX's precision."""
    if _CHECKED_VALUES.get(id(values)) is values and values is not None:
        return values
    with np.errstate(over="ignore"):  # an overflow is refused below, as infinity
        # `jnp.asarray` would compile a program for each shape of a NumPy array. A copy, because
        # `device_put` shares the memory of an array that its owner may write to later
        array = values if isinstance(values, jax.Array) else jax.device_put(np.array(values))
    if checks.is_concrete(array):
        for part in local_values(array):
            checks.finite(name, part)
            _refuse_subnormal(name, part)
        if (
            isinstance(values, np.ndarray)
            and values.dtype != array.dtype
            and values.any()
            and not np.asarray(array).any()
        ):
            raise ValueError(
                f"{name} underflows: its largest entry, {np.abs(values).max():g}, is 0 in "
                f"{array.dtype}; scale it, or enable x64"
            )
        if array is values:
            _CHECKED_VALUES[id(values)] = values
    return array


def _refuse_subnormal(name: str, values: np.ndarray) -> None:
    """Refuse entries that XLA takes as 0 although they matter beside the largest entry."""
    dtype = np.dtype(np.float64 if values.dtype == np.float64 else np.float32)
    if values.dtype not in (dtype, jnp.bfloat16):
        return  # float16 is computed in float32
    limits, size = np.finfo(dtype), np.abs(values.astype(dtype))
    largest = size.max(initial=0)
    if largest == 0 or largest > limits.tiny / limits.eps:
        return
    lost = (size > limits.eps * largest) & (size < limits.tiny)
    if lost.any():
        raise ValueError(
            f"{name} underflows: XLA takes entries below {limits.tiny:.3g} as 0, here "
            f"{size[lost][0]:g} beside the largest, {largest:g}; scale it"
        )


def local_values(array: Array) -> list[np.ndarray]:
    """Return the values that this process holds, as NumPy arrays; others may hold more."""
    if array.is_fully_addressable:
        return [np.asarray(array)]
    return [np.asarray(shard.data) for shard in array.addressable_shards]
