"""Explain how `of` computes the gradients of each parameter of a model, and why in that way."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxmlp.per_sample.any_model.edge import check_params
from jaxmlp.per_sample.any_model.readouts import products_are_smaller
from jaxmlp.per_sample.any_model.tracing import Leaf, Use, trace


class Explained(NamedTuple):
    """Say how the samples' gradients of one parameter are held.

    factored: True if they are held as A and dZ of its products, False if they are formed
    (materialised). num_bytes: the size for one sample.
    """

    name: str
    shape: tuple[int, ...]
    factored: bool
    why: str
    num_bytes: int


class Explanation(NamedTuple):
    """Say how the samples' gradients of each leaf of params are held; it prints as a table."""

    leaves: tuple[Explained, ...]
    num_samples: int

    def __str__(self) -> str:
        samples = "1 sample" if self.num_samples == 1 else f"{self.num_samples:,} samples"
        rows = [("leaf", "shape", "gradients", f"bytes, {samples}", "why")]
        for leaf in self.leaves:
            how = "factored" if leaf.factored else "materialised"
            held = f"{leaf.num_bytes * self.num_samples:,}"
            rows.append((leaf.name, str(leaf.shape), how, held, leaf.why))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        line = "  ".join(f"{{:{'>' if i == 3 else '<'}{width}}}" for i, width in enumerate(widths))
        return "\n".join(line.format(*row).rstrip() for row in rows)

    __repr__ = __str__


def explain(loss: Callable, params: Any, x: Any, y: Any, *, num_samples: int = 1) -> Explanation:
    """Say for each parameter whether `of` forms (materialises) its gradients, and why.

    Args:
      loss, params: as `of` takes them. Only shapes and dtypes of arrays are read.
      x, y: input and target of ONE sample.
      num_samples: how many samples are differentiated at a time, m or microbatch_size. The bytes
        are counted for them.

    Returns:
      `Explanation`, which prints as a table. The bytes are those of A and dZ, or of the gradients.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss(params, x, y):
      ...     return jnp.sum((x @ params["W"] + params["b"] - y) ** 2)
      >>> params = {"W": jnp.ones((300, 200)), "b": jnp.ones(200)}
      >>> explain(loss, params, jnp.ones(300), jnp.ones(200), num_samples=128)
      leaf   shape       gradients     bytes, 128 samples  why
      ['W']  (300, 200)  factored             256,000  A (1, 300), dZ (1, 200)
      ['b']  (200,)      materialised             102,400  enters `add`
    """
    program = trace(loss, check_params(params), x, y)
    return Explanation(tuple(map(_explained, program.leaves)), num_samples)


def _explained(leaf: Leaf) -> Explained:
    size = jax.numpy.dtype(leaf.dtype).itemsize
    if leaf.obstacle is not None:
        return Explained(leaf.name, leaf.shape, False, leaf.obstacle, size * leaf.size)
    why = ", ".join(map(_of_use, leaf.uses)) or "the loss does not use it: 0"
    held = sum(size * use.t * (use.d_in + use.d_out) for use in leaf.uses)
    return Explained(leaf.name, leaf.shape, True, why, held)


def _of_use(use: Use) -> str:
    says = f"A ({use.t}, {use.d_in}), dZ ({use.t}, {use.d_out})"
    if use.t > 1:
        small = products_are_smaller(use.t, use.d_in, use.d_out)
        says += f"; norms by {'products of positions' if small else 'gradients'}"
    return says
