"""The loop over layers, written once: on the way forward it saves, on the way back it reads.

The walk knows no formula. A rule says how ONE layer is passed; the walk applies it to each plain
layer, and to the layers of a stack in a compiled loop. `(A, S)` travels forwards and
`(dA, dS, A)` travels back. Only layers with a residual use S and dS. A travels back because the
output of a layer is the saved input of the next, so it need not be saved twice.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmlp.layer import Spec


class Run(NamedTuple):
    """Describe one entry of the parameters: a plain layer, or a stack of equal layers.

    first: the number of its first layer, 1..L. count: how many layers the stack holds; None for a
    plain layer. shape: that of each W. spec: what is fixed in each layer.
    """

    first: int
    count: int | None
    shape: tuple[int, ...]
    spec: Spec


class Rule(NamedTuple):
    """Say how one layer is passed.

    forward: `(spec, layer, (A, S)) -> ((A, S) of this layer, what to save, a reading)`.
    backward: `(spec, layer, saved, (dA, dS, A)) -> (the same of the layer below, a reading)`.
    zero_like: `dA -> dS`, a dS of zeros for a residual stack below a layer without residual.
    """

    forward: Callable
    backward: Callable
    zero_like: Callable = functools.partial(jax.tree.map, jnp.zeros_like)


def forward(rule: Rule, runs: Sequence[Run], params, carry: Any, *, recompute: bool = False):
    """Walk from the first run to the last; return the last carry, what was saved, the readings.

    What was saved and the readings are lists with one entry for each run. The arrays of a stack's
    entry lead with n.

    Args:
      params: one Layer for each run, plain or stacked as the run is.
      carry: `(A, S)` of the input; S is None.
      recompute: of a stack of n layers save only about sqrt(n) inputs. `backward` then computes
        the layers between them a second time.
    """
    saved, readings = [], []
    for run, layer in zip(runs, params, strict=True):
        if run.count is None:
            carry, kept, reading = rule.forward(run.spec, layer, carry)
        else:
            stack_forward = _forward_in_pieces if recompute else _forward
            carry = _stack_carry(run.spec, carry)
            carry, kept, reading = stack_forward(rule, run.spec, layer, carry)
        saved.append(kept)
        readings.append(reading)
    return carry, saved, readings


def backward(
    rule: Rule, runs: Sequence[Run], params, saved, carry: Any, *, recompute: bool = False
) -> tuple[Any, list]:
    """Walk from the last run to the first; return the last carry and the readings of each run.

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
            carry = _stack_carry_back(rule, run.spec, carry)
            carry, reading = stack_backward(rule, run.spec, layer, kept, carry)
        readings.append(reading)
    return carry, readings[::-1]


def forward_to_depth(rule: Rule, spec: Spec, stack: Any, carry, count):
    """Walk through the first `count` layers of a stack; `count` may be a traced number.

    Returns what `forward` does. What was saved and the readings lead with n, the length of the
    whole stack; they are zeros for the layers after the first `count`.
    """

    def one(carry, l):
        carry, kept, reading = rule.forward(spec, layer_at(stack, l), carry)
        return _stack_carry(spec, carry), (kept, reading)

    def body(l, state):
        carry, (saved, readings) = state
        carry, found = one(carry, l)
        return carry, jax.tree.map(lambda all, one: all.at[l].set(one), (saved, readings), found)

    # What is saved and read is written into arrays of the whole stack, because a loop with a traced
    # bound cannot return a number of rows that it does not know
    carry = _stack_carry(spec, carry)
    empty = _empty(_length(stack), jax.eval_shape(one, carry, 0)[1])
    carry, (saved, readings) = jax.lax.fori_loop(0, count, body, (carry, empty))
    return carry, saved, readings


def backward_to_depth(rule: Rule, spec: Spec, stack: Any, saved, carry, count):
    """Walk back through the first `count` layers of a stack; `count` may be a traced number.

    So one compiled loop serves every depth. The readings lead with n; they are zeros for the
    layers after the first `count`.
    """
    stacked = stack, saved
    carry = _stack_carry_back(rule, spec, carry)

    def one(carry, l):
        layer, kept = layer_at(stacked, l)
        return rule.backward(spec, layer, kept, carry)

    readings = _empty(_length(stack), jax.eval_shape(one, carry, 0)[1])

    def body(t, state):
        carry, readings = state
        l = count - 1 - t  # the last of the first `count` layers comes first
        carry, reading = one(carry, l)
        return carry, jax.tree.map(lambda all, one: all.at[l].set(one), readings, reading)

    return jax.lax.fori_loop(0, count, body, (carry, readings))


def each(runs: Sequence[Run], function: Callable, *entries) -> list:
    """Apply `function` to the entries of every layer; return one result for each run."""
    results = []
    for run, *entry in zip(runs, *entries, strict=True):
        if run.count is None:
            results.append(function(*entry))
        else:
            body = lambda _, xs: (None, function(*xs))  # noqa: E731
            results.append(jax.lax.scan(body, None, tuple(entry), length=run.count)[1])
    return results


def in_line(runs: Sequence[Run], readings: Sequence) -> Any:
    """Return the readings of all layers 1..L along one first axis."""
    lines = [
        jax.tree.map(lambda x: x[None], reading) if run.count is None else reading
        for run, reading in zip(runs, readings, strict=True)
    ]
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *lines)


def layer_at(stacked: Any, l) -> Any:
    """Return the entry of layer l from arrays that lead with the layer."""
    return jax.tree.map(lambda x: x[l], stacked)


# --- through a stack ------------------------------------------------------------------------------


def _forward(rule: Rule, spec: Spec, stack: Any, carry, layers=None):
    """Walk through some layers of a stack, by default all."""
    layers = jnp.arange(_length(stack)) if layers is None else layers

    def body(carry, l):
        carry, kept, reading = rule.forward(spec, layer_at(stack, l), carry)
        return _stack_carry(spec, carry), (kept, reading)

    carry, (saved, readings) = jax.lax.scan(body, carry, layers)
    return carry, saved, readings


def _backward(rule: Rule, spec: Spec, stack: Any, saved, carry, layers=None):
    """Walk back through some layers of a stack, by default all."""
    layers = jnp.arange(_length(stack)) if layers is None else layers

    def body(carry, l_and_saved):
        l, kept = l_and_saved
        return rule.backward(spec, layer_at(stack, l), kept, carry)

    return jax.lax.scan(body, carry, (layers, saved), reverse=True)


def _forward_in_pieces(rule: Rule, spec: Spec, stack: Any, carry):
    """Walk through a stack cut in pieces, and save only the input of each piece.

    The first piece is shorter, and its layers are saved as usual.
    """
    rest, length, starts = _pieces(_length(stack))
    carry, saved, first = _forward(rule, spec, stack, carry, jnp.arange(rest))

    def piece(carry, start):
        out, _, readings = _forward(rule, spec, stack, carry, start + jnp.arange(length))
        return out, (carry, readings)

    carry, (inputs, readings) = jax.lax.scan(piece, carry, starts)
    return carry, (saved, inputs), _joined(first, readings)


def _backward_in_pieces(rule: Rule, spec: Spec, stack: Any, saved, carry):
    """Walk back through the pieces. Each goes forward again from its input, then back."""
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
    """Cut n layers: first `rest` of them, then pieces of `length` (about sqrt(n)) from `starts`."""
    length = math.isqrt(n)
    rest = n % length
    return rest, length, rest + length * jnp.arange(n // length)


def _joined(first, pieces):
    """Return the readings of the rest and then those of the pieces, along one axis."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), pieces)
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), first, flat)


def _empty(n: int, shapes: Any) -> Any:
    """Return zeros of these shapes with a leading n."""
    return jax.tree.map(lambda x: jnp.zeros((n, *x.shape), x.dtype), shapes)


def _length(stack: Any) -> int:
    return jax.tree.leaves(stack)[0].shape[0]


def _stack_carry(spec: Spec, carry):
    """Return `(A, S)` as the loop over a stack carries it: without S if the layers ignore S."""
    A, S = carry
    return A, (None if spec.residual is None else S)


def _stack_carry_back(rule: Rule, spec: Spec, carry):
    """Return `(dA, dS, A)` as the loop over a stack carries it: zeros if dS is None but needed."""
    dA, dS, A = carry
    if spec.residual is not None and dS is None:
        dS = rule.zero_like(dA)
    return dA, dS, A
