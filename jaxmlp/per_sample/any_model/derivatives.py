"""One differentiation: A and dZ of every product, the gradients of the parameters with an obstacle.

Each product found by `tracing` gets a zero probe added to its result: the derivative in the probe
is dZ, and the other operand is A. The weight itself is a constant, so that no gradient
`(m, d_in, d_out)` is formed.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array, Float

from jaxmlp.per_sample.any_model.tracing import REMAT, Leaf, Program, Use, inner


class Own(NamedTuple):
    """What holds the samples' own gradients of one leaf.

    pairs: `(A (m, t, d_in), dZ (m, t, d_out))` for each of leaf.uses. formed: the gradients
    themselves, `(m, *shape)`, if the leaf has an obstacle.
    """

    leaf: Leaf
    m: int
    pairs: Sequence[tuple[Array, Array]]
    formed: Array | None = None


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
    gradients = dict(zip(blocked, formed, strict=True))
    owns = []
    for i, leaf in enumerate(program.leaves):
        pairs = [(inputs[use.where], dZ[use.where]) for use in leaf.uses]
        owns.append(Own(leaf, len(losses), pairs, gradients.get(i)))
    return losses, owns


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
