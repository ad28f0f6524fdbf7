"""A and dZ of every product, and the gradients of all other parameters, by one differentiation.

A zero probe is added to the result of each product that `tracing` has found. The derivative in the
probe is dZ, and the other operand is A. The weight itself is a constant, so no gradient
`(m, d_in, d_out)` is formed.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array, Float

from jaxmlp.per_sample.any_model.tracing import REMAT, Leaf, Program, Use, inner


class Product(NamedTuple):
    """Hold A and dZ of one product with a weight, which is applied at t positions of each sample.

    place: puts `(d_in, d_out)` into the axes of the leaf. precision: the matmul precision that the
    loss asks for.
    """

    A: Float[Array, "m t d_in"]
    dZ: Float[Array, "m t d_out"]
    place: Callable = lambda dW: dW
    precision: str | None = None

    @property
    def t(self) -> int:
        return self.A.shape[1]


class Own(NamedTuple):
    """Hold the m samples' own gradients of one leaf, as products that are not multiplied out.

    products: one for each use of the leaf. If the leaf has an obstacle, its gradients were formed,
    and they are written as one product whose A is 1.
    """

    leaf: Leaf
    m: int
    products: Sequence[Product]


def derivatives(
    program: Program, params: list[Array], X: Any, Y: Any
) -> tuple[Float[Array, " m"], list[Own]]:
    """Return each sample's loss, and the samples' own gradients of each leaf."""
    uses = program.uses
    blocked = [i for i, leaf in enumerate(program.leaves) if leaf.obstacle is not None]

    def one_loss(probes, formed, data):
        leaves = list(params)
        for i, leaf in zip(blocked, formed, strict=True):
            leaves[i] = leaf
        (loss,), inputs = _run(program.traced.jaxpr, program.traced.consts, [*leaves, *data],
                               (), uses, probes)  # fmt: skip
        return loss, (loss, inputs)

    # One differentiation for all samples
    probes = {where: jnp.zeros((use.t, use.d_out), use.dtype) for where, use in uses.items()}
    formed = [params[i] for i in blocked]
    of_each = jax.vmap(jax.grad(one_loss, argnums=(0, 1), has_aux=True), (None, None, 0))
    (dZ, formed), (losses, inputs) = of_each(probes, formed, jax.tree.leaves((X, Y)))
    # The products of each leaf
    gradients, m = dict(zip(blocked, formed, strict=True)), len(losses)
    owns = []
    for i, leaf in enumerate(program.leaves):
        if i in gradients:
            G = gradients[i]
            rows, ones = G.reshape(m, 1, leaf.size), jnp.ones((m, 1, 1), G.dtype)
            place = functools.partial(jnp.reshape, shape=leaf.shape)
            products = [Product(ones, rows, place, "highest")]
        else:
            products = [
                Product(inputs[use.where], dZ[use.where],
                        functools.partial(use.place, shape=leaf.shape), use.precision)
                for use in leaf.uses
            ]  # fmt: skip
        owns.append(Own(leaf, m, products))
    return losses, owns


def _run(jaxpr, consts, values, where: tuple, uses: dict[tuple, Use], probes: dict):
    """Run a program equation by equation, with a probe added to the result of each product.

    Return its outputs, and A of each product.
    """
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *values], strict=True))
    inputs = {}

    def read(atom):
        return atom.val if isinstance(atom, Literal) else env[atom]

    for i, eqn in enumerate(jaxpr.eqns):
        here = (*where, i)
        values = [read(atom) for atom in eqn.invars]
        within = {w: probe for w, probe in probes.items() if w[: len(here)] == here}
        if within and here not in uses:  # a call of a program that has products inside
            results, found = _run_inner(eqn, values, here, uses, within)
            inputs |= found
        else:
            with eqn.ctx.manager:
                results = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
            results = results if eqn.primitive.multiple_results else [results]
        if here in uses:  # a product with a weight: note A, and add the probe to Z
            use = uses[here]
            results = [results[0] + use.output(probes[here])]
            inputs[here] = use.input(values[1 - use.side])
        env |= zip(eqn.outvars, results, strict=True)
    return [read(atom) for atom in jaxpr.outvars], inputs


def _run_inner(eqn, values, here: tuple, uses: dict, probes: dict):
    """Run the program that an equation calls. A `remat` keeps recomputing it on the way back."""

    def run(values, probes):
        return _run(inner(eqn), (), values, here, uses, probes)

    if eqn.primitive.name in REMAT:
        options = {name: eqn.params[name] for name in ("policy", "prevent_cse")}
        run = jax.checkpoint(run, **options)
    return run(values, probes)
