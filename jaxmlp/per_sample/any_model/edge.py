"""The public edge: what `of` takes, checks and returns."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxmlp import checks, numerics
from jaxmlp.per_sample.any_model import leaves
from jaxmlp.per_sample.any_model.instruments import (
    INSTRUMENTS,
    Instrument,
    gram_in_blocks,
    read_all,
)
from jaxmlp.per_sample.any_model.products import Product
from jaxmlp.per_sample.any_model.tracing import trace


def of(
    loss: Callable,
    names: Sequence[str | Callable],
    *,
    max_norm: Any = None,
    microbatch_size: int | None = None,
    total: bool = False,
) -> Callable:
    """Return the function that reads instruments off the loss of any JAX model.

    By definition what `jax.vmap(jax.grad(loss), (None, 0, 0))` says, leaf by leaf. The gradient of
    a weight of a matrix product is never formed; `explain` says which parameters are such weights.

    Args:
      loss: `loss(params, x, y)` -> the loss of one sample, one number. Traced once for each set of
        shapes, as `jax.jit` does: it must have no side effects.
      names: of "grad" (of the mean loss), "per_sample_grads", "per_sample_norms",
        "per_sample_sq_norms", "moments" or "gradient_moments", "noise_scale", "clipped_grad",
        "gradient_gram"; and readouts of your own, functions `(A, dZ)` -> pytree of arrays, called
        for each product of a weight with `A (m, d_in)`, `dZ (m, d_out)`, each sample's own
        derivative, or `(m, t, d_in)`, `(m, t, d_out)` if the weight is applied at t positions;
        these not with microbatch_size.
      max_norm: for "clipped_grad", above 0; inf for no clipping.
      microbatch_size: differentiate so many samples at a time; the results are the same up to
        rounding.
      total: the norms over all parameters instead, `(m,)`.

    Returns:
      `f(params, X, Y)` -> `(value, dict)` by those names. params: any pytree of floating arrays; X
      and Y: any pytrees of arrays that lead with m. value: the mean loss. Gradients, clipped
      gradients and the fields of `GradientMoments` are pytrees like params, per-sample ones lead
      with m; norms are `(m, n)`, leaves in the order of `jax.tree.leaves`; Gram is `(n, m, m)`;
      `NoiseScale` is over all leaves; a readout of your own is a list of one reading for each
      product, in the order of the leaves, under its `__name__`.

    Raises:
      ValueError: for an unknown name or one given twice; for "clipped_grad" without max_norm; for a
        loss that is not one number; for X and Y of unequal m; for moments or noise of 1 sample.
      TypeError: for parameters that are not floating arrays.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> def loss(params, x, y):
      ...     return (jnp.tanh(x @ params["W1"]) @ params["W2"] - y) ** 2
      >>> params = {"W1": jnp.ones((3, 4)), "W2": jnp.ones(4)}
      >>> f = of(loss, ("grad", "per_sample_norms"))
      >>> value, out = f(params, jnp.ones((5, 3)), jnp.zeros(5))
      >>> out["grad"]["W1"].shape, out["per_sample_norms"].shape
      ((3, 4), (5, 2))

    Source: I. Goodfellow, "Efficient per-example gradient computations", arXiv:1510.01799, 2015; at
    several positions X. Li et al., "Large language models can be strong differentially private
    learners", arXiv:2110.05679, 2021.
    """
    names = checked_names(names)
    max_norm = _checked_max_norm(names, max_norm)
    if microbatch_size is not None:
        checks.integer("microbatch_size", microbatch_size, at_least=1)
        _refuse_own_readouts(names)

    @jax.jit
    def read(params, X, Y, max_norm):
        return _read(loss, names, total, microbatch_size, params, X, Y, max_norm)

    def f(params, X, Y):
        params = check_params(params)
        _check_samples(names, X, Y)
        return read(params, X, Y, max_norm)

    return f


def _read(loss, names: tuple, total: bool, microbatch_size: int | None, params, X, Y, max_norm):
    """Trace the loss, differentiate it once for each microbatch, and finish every instrument."""
    flat, treedef = jax.tree.flatten(params)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (X, Y))
    program = trace(loss, params, *one)
    m = len(jax.tree.leaves((X, Y))[0])
    size = m if microbatch_size is None else min(microbatch_size, m)
    in_blocks = size < m and "gradient_gram" in names

    def tree(values: list) -> Any:
        like = zip(values, flat, strict=True)
        return treedef.unflatten(value.astype(leaf.dtype) for value, leaf in like)

    walked = [name for name in names if not (in_blocks and name == "gradient_gram")]
    tools = [INSTRUMENTS[n] if isinstance(n, str) else _own_readout(n) for n in walked]
    value, readings = read_all(program, tools, size, flat, X, Y, max_norm)
    results = {
        _label(name): tool.finish(tree, m, *reading)
        for name, tool, reading in zip(walked, tools, readings, strict=True)
    }
    if in_blocks:
        results["gradient_gram"] = gram_in_blocks(program, size, flat, X, Y)
    if total and "per_sample_norms" in results:
        results["per_sample_norms"] = numerics.norm(results["per_sample_norms"], axis=1)
    if total and "per_sample_sq_norms" in results:
        results["per_sample_sq_norms"] = results["per_sample_sq_norms"].sum(1)
    for name in {"per_sample_norms", "per_sample_sq_norms", "gradient_gram"} & results.keys():
        results[name] = results[name].astype(jnp.result_type(*flat))
    return value, {_label(name): results[_label(name)] for name in names}


def _own_readout(fn: Callable) -> Instrument:
    """The instrument of a user's `fn(A, dZ)`."""

    def of_product(product: Product) -> Any:
        pair = product[:2] if product.A.shape[1] > 1 else [x[:, 0] for x in product[:2]]
        return jax.tree.map(jnp.asarray, fn(*pair))

    def read(owns, max_norm):
        return [of_product(p) for own in owns for p in leaves.of_uses(own)], None

    return Instrument(read, lambda tree, m, sums, samples: sums)


# --- what is refused ------------------------------------------------------------------------------


def check_params(params: Any) -> Any:
    """Return params as arrays; refuse what has no gradient."""
    named, treedef = jax.tree_util.tree_flatten_with_path(params)
    if not named:
        raise ValueError("params holds no array")
    for path, leaf in named:
        name = f"params{jax.tree_util.keystr(path)}"
        dtype = jnp.dtype(float) if isinstance(leaf, float) else getattr(leaf, "dtype", None)
        if dtype is None:
            raise TypeError(f"every leaf of params must be an array, but {name} is {leaf!r}")
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{name} is {dtype}, which has no gradient; every parameter must be floating: keep "
                "other arrays out of params"
            )
    return treedef.unflatten(
        leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jnp.asarray(leaf) for _, leaf in named
    )


def _check_samples(names: tuple, X: Any, Y: Any) -> None:
    """Refuse data that do not lead with one m, or with too small a one."""
    named, _ = jax.tree_util.tree_flatten_with_path({"X": X, "Y": Y})
    if not named:
        raise ValueError("X and Y hold no array, so there are no samples")
    sizes = {}
    for path, leaf in named:
        name = path[0].key + jax.tree_util.keystr(path[1:])
        if not hasattr(leaf, "shape") or leaf.shape == ():
            raise ValueError(f"{name} must be an array that leads with the samples, got {leaf!r}")
        sizes[name] = leaf.shape[0]
    (first, m), *rest = sizes.items()
    for name, k in rest:
        if k != m:
            raise ValueError(f"{first} holds {m} samples, but {name} holds {k}")
    if m == 0:
        raise ValueError("X and Y hold no samples")
    spread = {"moments", "gradient_moments", "noise_scale"}.intersection(
        name for name in names if isinstance(name, str)
    )
    if m == 1 and spread:
        raise ValueError(f"{min(spread)} needs at least 2 samples: one sample has no variance")


def _label(name: str | Callable) -> str:
    return name if isinstance(name, str) else getattr(name, "__name__", repr(name))


def checked_names(names: Any) -> tuple:
    if isinstance(names, str) or callable(names) or not isinstance(names, Sequence):
        raise TypeError(f"names must be a tuple of instruments, got {names!r}")
    if not names:
        raise ValueError(f"names holds no instrument; known: {', '.join(sorted(INSTRUMENTS))}")
    for name in names:
        if not callable(name) and not isinstance(name, str):
            raise TypeError(f"an instrument is a name or a function (A, dZ), got {name!r}")
        if isinstance(name, str) and name not in INSTRUMENTS:
            raise checks.unknown_name("instrument", name, INSTRUMENTS)
    labels = [_label(name) for name in names]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"each instrument must be named once, got {twice[0]!r} twice")
    return tuple(names)


def _refuse_own_readouts(names: tuple) -> None:
    own = [_label(name) for name in names if callable(name)]
    if own:
        raise ValueError(
            f"microbatch_size cannot be combined with a readout of your own ({own[0]}): how its "
            "readings of several microbatches belong together is not known"
        )


def _checked_max_norm(names: tuple, max_norm: Any) -> Any:
    if "clipped_grad" not in names:
        if max_norm is not None:
            raise ValueError("max_norm is for 'clipped_grad', which is not among the names")
        return None
    if max_norm is None:
        raise ValueError("'clipped_grad' needs max_norm, the largest norm that is left as it is")
    if checks.is_concrete(max_norm) and float(max_norm) != math.inf:
        checks.positive_number("max_norm", max_norm)
    return max_norm
