"""One differentiation: A and dZ of every product, the gradients of the parameters with an obstacle.

Each product found by `tracing` gets a zero probe added to its result: the derivative in the probe
is dZ, and the other operand is A. The weight itself is a constant, so that no gradient
`(m, d_in, d_out)` is formed.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array, Float

from jaxmlp.per_sample.any_model.tracing import REMAT, Leaf, Program, Use, inner


class Product(NamedTuple):
    """A weight's input and each sample's own derivative in its output; t positions of a sample.

    place: from `(d_in, d_out)` to the axes of the leaf. precision: of the product in the loss.
    """

    A: Float[Array, "m t d_in"]
    dZ: Float[Array, "m t d_out"]
    place: Callable = lambda dW: dW
    precision: str | None = None

    @property
    def t(self) -> int:
        return self.A.shape[1]


class Own(NamedTuple):
    """What holds the m samples' own gradients of one leaf.

    products: of its uses; if the leaf has an obstacle, its gradients as the product with the
    input 1.
    """

    leaf: Leaf
    m: int
    products: Sequence[Product]


def derivatives(
    program: Program, params: list[Array], X: Any, Y: Any
) -> tuple[Float[Array, " m"], list[Own]]:
    """Return each sample's loss, and what holds its gradient of each leaf."""
    uses = program.uses
    blocked = [i for i, leaf in enumerate(program.leaves) if leaf.obstacle is not None]

    def one_loss(probes, formed, data):
        leaves = list(params)
        for i, leaf in zip(blocked, formed, strict=True):
            leaves[i] = leaf
        (loss,), inputs = _run(program.traced.jaxpr, program.traced.consts, [*leaves, *data],
                               (), uses, probes)  # fmt: skip
        return loss, (loss, inputs)

    probes = {where: jnp.zeros((use.t, use.d_out), use.dtype) for where, use in uses.items()}
    formed = [params[i] for i in blocked]
    of_each = jax.vmap(jax.grad(one_loss, argnums=(0, 1), has_aux=True), (None, None, 0))
    (dZ, formed), (losses, inputs) = of_each(probes, formed, jax.tree.leaves((X, Y)))
    gradients, m = dict(zip(blocked, formed, strict=True)), len(losses)
    owns = []
    for i, leaf in enumerate(program.leaves):
        if i in gradients:
            products = [_of_gradients(leaf, gradients[i])]
        else:
            products = [_of_use(leaf, use, inputs[use.where], dZ[use.where]) for use in leaf.uses]
        owns.append(Own(leaf, m, products))
    return losses, owns


def _of_use(leaf: Leaf, use: Use, A: Array, dZ: Array) -> Product:
    return Product(A, dZ, lambda dW: use.place(dW, leaf.shape), use.precision)


def _of_gradients(leaf: Leaf, G: Array) -> Product:
    rows = G.reshape(len(G), 1, leaf.size)
    ones = jnp.ones((len(G), 1, 1), G.dtype)
    return Product(ones, rows, lambda dW: dW.reshape(leaf.shape), "highest")


def _run(jaxpr, consts, values, where: tuple, uses: dict[tuple, Use], probes: dict):
    """Run a program with a probe added to each product; return its outputs and each A."""
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *values], strict=True))
    inputs = {}

    def read(atom):
        return atom.val if isinstance(atom, Literal) else env[atom]

    for i, eqn in enumerate(jaxpr.eqns):
        here = (*where, i)
        values = [read(atom) for atom in eqn.invars]
        within = {w: probe for w, probe in probes.items() if w[: len(here)] == here}
        if within and here not in uses:
            results, found = _run_inner(eqn, values, here, uses, within)
            inputs |= found
        else:
            with eqn.ctx.manager:
                results = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
            results = results if eqn.primitive.multiple_results else [results]
        if here in uses:
            use = uses[here]
            results = [results[0] + use.output(probes[here])]
            inputs[here] = use.input(values[1 - use.side])
        env |= zip(eqn.outvars, results, strict=True)
    return [read(atom) for atom in jaxpr.outvars], inputs


def _run_inner(eqn, values, here: tuple, uses: dict, probes: dict):
    """Run the program that an equation calls, recomputed where the equation is a `remat`."""

    def run(values, probes):
        return _run(inner(eqn), (), values, here, uses, probes)

    if eqn.primitive.name in REMAT:
        options = {name: eqn.params[name] for name in ("policy", "prevent_cse")}
        run = jax.checkpoint(run, **options)
    return run(values, probes)
