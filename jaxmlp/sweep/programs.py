"""The compiled programs of a sweep: one serves every activation, initialisation, depth and seed.

There are four: they draw the hidden layers, draw an output layer, go forward, and go back. Whatever
differs from network to network is a number in them: the index of the activation, the scale of the
weights, the gate of the residual, and the depth, which is the bound of a loop.
"""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmlp import flow, initializers, magnitudes, walk
from jaxmlp.activations import Activation
from jaxmlp.activations.choice import Choice
from jaxmlp.layer import REZERO, Layer, Spec
from jaxmlp.magnitudes import ForwardReading, Kept, measured
from jaxmlp.norms import Norm
from jaxmlp.objective import Objective, divisor


class Draw(NamedTuple):
    """Say which random numbers are drawn.

    unit: `unit(key, shape, dtype)`, the weights without their scale. biases: whether biases are
    drawn too. d_0, width, outputs: the sizes. deepest: for how many hidden layers there is room.
    """

    unit: Callable
    biases: bool
    d_0: int
    width: int
    outputs: int
    deepest: int


class Plan(NamedTuple):
    """Say what a forward pass and a way back are compiled for.

    J: the objective of the output layer alone. functions: the activations to choose from. quick:
    see `magnitudes.rule`.
    """

    J: Objective
    functions: tuple[Activation, ...]
    norm: Norm | None
    residual: bool
    quick: bool = True


class Numbers(NamedTuple):
    """Hold the numbers in which networks of one plan differ.

    which: the index of the activation. std_...: by what drawn weights and biases are multiplied.
    """

    which: Any
    std_first: Any
    std_stack: Any
    std_out: Any
    std_b: Any
    alpha: Any


class Drawn(NamedTuple):
    """Hold layer 1 and the stack of the other hidden layers without scale, and max |W| of each."""

    first: Layer
    stack: Layer
    largest: tuple


class Hidden(NamedTuple):
    """Hold one forward pass. readings: those of layer 1 and of the stack."""

    first: Kept
    stack: Kept
    readings: tuple[ForwardReading, ForwardReading]


class Readings(NamedTuple):
    """Hold what was read of a network on both ways, in two arrays with a row for each layer.

    Fetching an array from the device costs as much as a layer of 32 units, so all numbers of one
    kind go together. The rows are layer 1, the stack, which has room for deeper networks, and the
    output.
    """

    numbers: Any  # ForwardReading's r, its three statistics, BackwardReading's three r, alpha
    integers: Any  # ForwardReading's k, above_range, BackwardReading's three k, cause


def draw_layers(draw: Draw, key) -> Drawn:
    """Draw the hidden layers, one more than the deepest network has; layer l from key and l."""
    width = draw.width
    first = _draw_layer(draw, key, 1, (draw.d_0, width))
    one = lambda number: _draw_layer(draw, key, number, (width, width))  # noqa: E731
    stack = jax.lax.map(one, 2 + jnp.arange(draw.deepest))
    largest = tuple(jnp.max(jnp.abs(layer.W), axis=(-2, -1)) for layer in (first, stack))
    return Drawn(first, stack, largest)


def draw_output(draw: Draw, key, depth) -> Layer:
    """Draw the output layer of the network of that depth."""
    return _draw_layer(draw, key, depth + 1, (draw.width, draw.outputs))


def _draw_layer(draw: Draw, key, number, shape: tuple[int, int]) -> Layer:
    """Draw a layer as `MLP.init` does, but without its scale."""
    key, dtype = jax.random.fold_in(key, number), jnp.zeros(()).dtype
    b = jnp.zeros(shape[1], dtype)
    if draw.biases:
        b = initializers.unit_bias(key, shape, dtype)
    return Layer(draw.unit(key, shape, dtype), b)


def forward(plan: Plan, drawn: Drawn, numbers: Numbers, X, count) -> Hidden:
    """Pass layer 1 and `count` layers of the stack. What is kept then holds A[1] to A[count]."""
    rule = magnitudes.rule(len(X), statistics=True, quick=plan.quick)
    first, stack, specs = _layers(plan, drawn, numbers)
    carry, kept, one = rule.forward(specs[0], first, (magnitudes.scaled_input(X), None))
    _, saved, others = walk.forward_to_depth(rule, specs[1], stack, carry, count)
    return Hidden(kept, saved, (one, others))


def backward(
    plan: Plan, drawn: Drawn, out: Layer, numbers: Numbers, hidden: Hidden, Y, depth
) -> Readings:
    """Return what is read on both ways. Of the stack, only the layers of this network count.

    The depth is a traced number, the bound of a loop that is walked back by hand.
    """
    rule = magnitudes.rule(divisor(plan.J, Y.shape[0]), statistics=True, quick=plan.quick)
    first, stack, specs = _layers(plan, drawn, numbers, back=True)
    # The output layer of this depth, on the hidden layers that all depths share
    output = Spec(plan.J.mlp.output)
    last_layer = measured(out._replace(b=out.b * numbers.std_b), numbers.std_out)
    A_D = walk.layer_at(hidden.stack.A_prev, depth - 1)
    (A_L, S_L), kept, ahead = rule.forward(output, last_layer, (A_D, None))
    carry = flow.output_derivative(plan.J, S_L, A_L, Y)
    # Back through the output, the stack as far as this network has it, and layer 1
    carry, last = rule.backward(output, last_layer, kept, carry)
    carry, readings = walk.backward_to_depth(rule, specs[1], stack, hidden.stack, carry, depth - 1)
    _, one = rule.backward(specs[0], first, hidden.first, carry)
    # Put the layers in line
    below, stacked = hidden.readings
    rows = lambda *x: jnp.concatenate([x[0][None], x[1], x[2][None]])  # noqa: E731
    way = jax.tree.map(rows, below, stacked, ahead)
    back = jax.tree.map(rows, one, readings, last)
    read = (way.r, way.statistics, back.r, back.alpha)
    integers = (way.k, way.above_range, back.k, back.cause)
    return Readings(jnp.column_stack(read), jnp.column_stack(integers))


def _layers(plan: Plan, drawn: Drawn, numbers: Numbers, *, back: bool = False) -> Any:
    """Return layer 1 and the stack as the rule takes them, and their Specs.

    The quick way back needs no slopes, because act' was kept on the way forward.
    """
    # The activation is a choice by number, so that one program serves all of them
    act = Choice(plan.functions, numbers.which)
    slopes = jnp.array([act.slope or 0.0 for act in plan.functions])[numbers.which]
    learned = any(act.slope is not None for act in plan.functions) and not (back and plan.quick)
    specs = [Spec(act, plan.norm), Spec(act, plan.norm, REZERO if plan.residual else None)]
    found = []
    stds = numbers.std_first, numbers.std_stack
    for spec, layer, std, largest in zip(specs, drawn[:2], stds, drawn.largest, strict=True):
        lead = layer.W.shape[:-2]
        layer = Layer(
            layer.W,
            layer.b * numbers.std_b,
            jnp.broadcast_to(slopes, lead) if learned else None,
            None if spec.residual is None else jnp.broadcast_to(numbers.alpha, lead),
        )
        found.append(measured(layer, std, largest))
    return (*found, specs)


# --- compiling them -------------------------------------------------------------------------------

# Half of the time to compile goes to LLVM's optimisations and XLA's fusion emitters, which do not
# make matrix products faster. Products on one thread have the same bits on any number of cores.
_CPU = {
    "xla_backend_optimization_level": 1,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_multi_thread_eigen": False,
}


@functools.cache
def compiled(function: Callable) -> Any:
    """Return the function compiled with the options above; its first argument is static."""
    return jax.jit(function, static_argnums=0, compiler_options=_options())


@functools.cache
def _options() -> dict[str, Any]:
    """Return the options above if this is a CPU: those that jaxlib knows and XLA_FLAGS leaves."""
    known, flags = {}, os.environ.get("XLA_FLAGS", "")
    wanted = {name: value for name, value in _CPU.items() if name not in flags}
    for name, value in wanted.items() if jax.default_backend() == "cpu" else ():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(lambda: 0).lower().compile(compiler_options={name: value})
            known[name] = value
    return known
