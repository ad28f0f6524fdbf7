"""The public function `of`, and the checks of its arguments."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxmlp import numerics
from jaxmlp.per_sample.any_model.instruments import INSTRUMENTS, gram, read_all, users_readout
from jaxmlp.per_sample.any_model.tracing import trace
from jaxmlp.per_sample.names import (
    check_max_norm,
    check_microbatch_size,
    check_names,
    label,
    refuse_one_sample,
)


def of(
    loss: Callable,
    names: Sequence[str | Callable],
    *,
    max_norm: Any = None,
    microbatch_size: int | None = None,
    total: bool = False,
) -> Callable:
    """Return the function that computes per-sample quantities for the loss of any JAX model.

    Its results equal, by definition, those of `jax.vmap(jax.grad(loss), (None, 0, 0))`, leaf by
    leaf. The gradient of a weight in a matrix product is never formed; `explain` says which
    parameters are such weights.

    Args:
      loss: `loss(params, x, y)` -> the loss of one sample, one number. It is traced once for each
        set of shapes, as by `jax.jit`, so it must have no side effects.
      names: any of "grad" (of the mean loss), "per_sample_grads", "per_sample_norms",
        "per_sample_sq_norms", "moments" (or "gradient_moments"), "noise_scale", "clipped_grad",
        "gradient_gram"; and readouts that you write, functions `(A, dZ)` -> pytree of arrays.
        They are called for each product with a weight: `A (m, d_in)` and `dZ (m, d_out)`, each
        sample's own derivative; `(m, t, d_in)` and `(m, t, d_out)` if the weight is applied at t
        positions. They cannot be combined with microbatch_size.
      max_norm: for "clipped_grad", above 0; inf for no clipping.
      microbatch_size: how many samples to differentiate at a time. The results are the same up to
        rounding.
      total: return the norms over all parameters instead, `(m,)`.

    Returns:
      `f(params, X, Y)` -> `(value, dict)`, a dict by these names. params is any pytree of floating
      arrays; X and Y are any pytrees of arrays that lead with m. value is the mean loss.
      Gradients, clipped gradients and the fields of `GradientMoments` are pytrees like params;
      those of each sample lead with m. Norms are `(m, n)`, in the order of `jax.tree.leaves`. Gram
      is `(n, m, m)`. `NoiseScale` is over all leaves. A readout that you wrote stands under its
      `__name__`, as a list with one entry for each product, in the order of the leaves.

    Raises:
      ValueError: for an unknown name and one given twice, for "clipped_grad" without max_norm, for
        a loss that is not one number, for X and Y of unequal m, and for moments or noise of 1
        sample.
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
    names = check_names(names, INSTRUMENTS, "(A, dZ)")
    check_microbatch_size(names, microbatch_size)
    check_max_norm(names, max_norm)

    @jax.jit
    def read(params, X, Y, max_norm):
        return _read(loss, names, total, microbatch_size, params, X, Y, max_norm)

    def f(params, X, Y):
        params = check_params(params)
        refuse_one_sample(names, _number_of_samples(X, Y))
        return read(params, X, Y, max_norm)

    return f


def _read(loss, names: tuple, total: bool, microbatch_size: int | None, params, X, Y, max_norm):
    """Trace the loss, differentiate it once for each microbatch, and finish every instrument."""
    # The loss of one sample
    flat, treedef = jax.tree.flatten(params)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (X, Y))
    program = trace(loss, params, *one)
    m = len(jax.tree.leaves((X, Y))[0])
    size = min(microbatch_size or m, m)

    def tree(values: Sequence) -> Any:
        like = zip(values, flat, strict=True)
        return treedef.unflatten(value.astype(leaf.dtype) for value, leaf in like)

    # All instruments at once, but the Gram matrix of microbatches: it needs every pair of them
    walked = [name for name in names if size == m or name != "gradient_gram"]
    tools = [INSTRUMENTS[n] if isinstance(n, str) else users_readout(n) for n in walked]
    value, readings = read_all(program, tools, size, flat, X, Y, max_norm)
    read = zip(walked, tools, readings, strict=True)
    results = {label(name): tool.finish(tree, m, reading) for name, tool, reading in read}
    if len(walked) < len(names):
        results["gradient_gram"] = gram(program, size, flat, X, Y)
    # Totals, and the dtype of the parameters
    if total and "per_sample_norms" in results:
        results["per_sample_norms"] = numerics.norm(results["per_sample_norms"], axis=1)
    if total and "per_sample_sq_norms" in results:
        results["per_sample_sq_norms"] = results["per_sample_sq_norms"].sum(1)
    for name in {"per_sample_norms", "per_sample_sq_norms", "gradient_gram"} & results.keys():
        results[name] = results[name].astype(jnp.result_type(*flat))
    return value, {label(name): results[label(name)] for name in names}


# --- checks ---------------------------------------------------------------------------------------


def check_params(params: Any) -> Any:
    """Return params as arrays; refuse every leaf that is not floating."""
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


def _number_of_samples(X: Any, Y: Any) -> int:
    """Return m; refuse X and Y unless all their arrays lead with the same m."""
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
    return m
