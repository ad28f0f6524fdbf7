"""The loop over layers, written once: forwards it saves, backwards it reads.

It knows no formula. A rule says how ONE layer is passed; the walk passes a plain layer as it is
and a stack in a compiled loop. What travels forwards is `(A, S)`, what travels back is
`(dA, dS, A)`: S and dS only through layers with a residual, and A, so that a layer's output is
not saved beside the input of the next.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmlp.layer import Spec


class Run(NamedTuple):
    """Consecutive layers of one shape and Spec: `count` of them in one stack, None for a plain one.

    first: the number of the first of them, 1..L.
    """

    first: int
    count: int | None
    shape: tuple[int, ...]
    spec: Spec


class Rule(NamedTuple):
    """Say how one layer is passed.

    forward: `(spec, layer, (A, S)) -> ((A, S) of this layer, what to save, a reading)`.
    backward: `(spec, layer, saved, (dA, dS, A)) -> (the same of the layer below, a reading)`.
    nothing: `dA -> dS`, the dS that a layer without a residual hands down: zeros.
    """

    forward: Callable
    backward: Callable
    nothing: Callable = functools.partial(jax.tree.map, jnp.zeros_like)


def forward(rule: Rule, runs: Sequence[Run], params, carry: Any, *, recompute: bool = False):
    """Walk from the first run to the last; return the last carry, what was saved, the readings.

    Saved and readings hold one entry for each run, that of a stack with a leading n.

    Args:
      params: one Layer for each run, in its storage.
      carry: `(A, S)` of the input; S is None.
      recompute: save of a stack of n only about sqrt(n) inputs; `backward` passes the layers
        between them once more.
    """
    saved, readings = [], []
    for run, layer in zip(runs, params, strict=True):
        if run.count is None:
            carry, kept, reading = rule.forward(run.spec, layer, carry)
        else:
            stack_forward = _forward_in_pieces if recompute else _forward
            carry, kept, reading = stack_forward(rule, run.spec, layer, _entered(run.spec, carry))
        saved.append(kept)
        readings.append(reading)
    return carry, saved, readings


def backward(
    rule: Rule, runs: Sequence[Run], params, saved, carry: Any, *, recompute: bool = False
) -> tuple[Any, list]:
    """Walk from the last run to the first; return the last carry and the readings, as `forward`.

    Args:
      saved: what `forward` saved with the same `recompute`.
      carry: `(dA, dS, A)` of the last layer.
    """
    readings = []
    for run, layer, kept in zip(*map(reversed, (runs, params, saved)), strict=True):
        if run.count is None:
            carry, reading = rule.backward(run.spec, layer, kept, carry)
        else:
            stack_backward = _backward_in_pieces if recompute else _backward
            carry, reading = stack_backward(
                rule, run.spec, layer, kept, _left(rule, run.spec, carry)
            )
        readings.append(reading)
    return carry, readings[::-1]


def forward_to_depth(rule: Rule, spec: Spec, stack: Any, carry, count):
    """Walk through the first `count` layers of a stack, a number known only at run time.

    Returns what `forward` does; saved and readings lead with n, and those above are zeros.
    """

    def one(carry, l):
        carry, kept, reading = rule.forward(spec, layer_at(stack, l), carry)
        return _entered(spec, carry), (kept, reading)

    def body(l, state):
        carry, (saved, readings) = state
        carry, found = one(carry, l)
        return carry, jax.tree.map(lambda all, one: all.at[l].set(one), (saved, readings), found)

    carry = _entered(spec, carry)
    empty = _empty(_length(stack), jax.eval_shape(one, carry, 0)[1])
    carry, (saved, readings) = jax.lax.fori_loop(0, count, body, (carry, empty))
    return carry, saved, readings


def backward_to_depth(rule: Rule, spec: Spec, stack: Any, saved, carry, count):
    """Walk back through the first `count` layers of a stack, a number known only at run time.

    One compiled loop serves every depth. The readings lead with n; those above are zeros.
    """
    stacked = stack, saved
    carry = _left(rule, spec, carry)

    def one(carry, l):
        layer, kept = layer_at(stacked, l)
        return rule.backward(spec, layer, kept, carry)

    readings = _empty(_length(stack), jax.eval_shape(one, carry, 0)[1])

    def body(t, state):
        carry, readings = state
        l = count - 1 - t
        carry, reading = one(carry, l)
        return carry, jax.tree.map(lambda all, one: all.at[l].set(one), readings, reading)

    return jax.lax.fori_loop(0, count, body, (carry, readings))


def each(runs: Sequence[Run], function: Callable, *entries) -> list:
    """Apply `function` to the entries of every run, layer by layer within a stack."""
    results = []
    for run, *entry in zip(runs, *entries, strict=True):
        if run.count is None:
            results.append(function(*entry))
        else:
            body = lambda _, xs: (None, function(*xs))  # noqa: E731
            results.append(jax.lax.scan(body, None, tuple(entry), length=run.count)[1])
    return results


def in_line(runs: Sequence[Run], readings: Sequence) -> Any:
    """Return the readings of all layers, of stacks and plain ones, along one first axis."""
    lines = [
        jax.tree.map(lambda x: x[None], reading) if run.count is None else reading
        for run, reading in zip(runs, readings, strict=True)
    ]
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *lines)


def layer_at(stacked: Any, l) -> Any:
    """Return layer l of arrays that lead with the layer."""
    return jax.tree.map(lambda x: x[l], stacked)


# --- through a stack ------------------------------------------------------------------------------


def _forward(rule: Rule, spec: Spec, stack: Any, carry, layers=None):
    """Pass the layers of a stack, all of them by default."""
    layers = jnp.arange(_length(stack)) if layers is None else layers

    def body(carry, l):
        carry, kept, reading = rule.forward(spec, layer_at(stack, l), carry)
        return _entered(spec, carry), (kept, reading)

    carry, (saved, readings) = jax.lax.scan(body, carry, layers)
    return carry, saved, readings


def _backward(rule: Rule, spec: Spec, stack: Any, saved, carry, layers=None):
    layers = jnp.arange(_length(stack)) if layers is None else layers

    def body(carry, l_and_saved):
        l, kept = l_and_saved
        return rule.backward(spec, layer_at(stack, l), kept, carry)

    return jax.lax.scan(body, carry, (layers, saved), reverse=True)


def _forward_in_pieces(rule: Rule, spec: Spec, stack: Any, carry):
    """As `_forward`, saving the layers of the first piece, and of every other its input only."""
    rest, length, starts = _pieces(_length(stack))
    carry, saved, first = _forward(rule, spec, stack, carry, jnp.arange(rest))

    def piece(carry, start):
        out, _, readings = _forward(rule, spec, stack, carry, start + jnp.arange(length))
        return out, (carry, readings)

    carry, (inputs, readings) = jax.lax.scan(piece, carry, starts)
    return carry, (saved, inputs), _joined(first, readings)


def _backward_in_pieces(rule: Rule, spec: Spec, stack: Any, saved, carry):
    saved, inputs = saved
    rest, length, starts = _pieces(_length(stack))

    def piece(carry, start_and_input):
        start, carry_in = start_and_input
        layers = start + jnp.arange(length)
        _, kept, _ = _forward(rule, spec, stack, carry_in, layers)
        return _backward(rule, spec, stack, kept, carry, layers)

    carry, readings = jax.lax.scan(piece, carry, (starts, inputs), reverse=True)
    carry, first = _backward(rule, spec, stack, saved, carry, jnp.arange(rest))
    return carry, _joined(first, readings)


def _pieces(n: int):
    """Cut n layers into `rest`, then pieces of `length`, about sqrt(n), from `starts` on."""
    length = math.isqrt(n)
    rest = n % length
    return rest, length, rest + length * jnp.arange(n // length)


def _joined(first, pieces):
    """The readings of the rest and of the pieces, one after the other."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), pieces)
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), first, flat)


def _empty(n: int, shapes: Any) -> Any:
    """Zeros that lead with n."""
    return jax.tree.map(lambda x: jnp.zeros((n, *x.shape), x.dtype), shapes)


def _length(stack: Any) -> int:
    return jax.tree.leaves(stack)[0].shape[0]


def _entered(spec: Spec, carry):
    """`(A, S)` as a stack carries it: without S if its layers do not add to it."""
    A, S = carry
    return A, (None if spec.residual is None else S)


def _left(rule: Rule, spec: Spec, carry):
    """`(dA, dS, A)` as a stack carries it: dS is 0 where the layer above hands none down."""
    dA, dS, A = carry
    if spec.residual is not None and dS is None:
        dS = rule.nothing(dA)
    return dA, dS, A
