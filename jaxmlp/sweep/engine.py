"""The measurement of a job: every activation, initialisation, depth and seed by the same programs.

Four are compiled: the random numbers of the hidden layers and of an output layer, one forward pass
and one way back. What differs from network to network is a number in them: which activation, the
scale of the weights, the gate of the residual, and the depth, which is a loop's bound.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, flow, initializers, norms, walk
from jaxmlp.activations import Activation
from jaxmlp.activations.choice import Choice
from jaxmlp.flow import BackwardReading, ForwardReading, Kept, sized
from jaxmlp.layer import REZERO, Layer, Spec
from jaxmlp.mlp import INVERSE_ROOT
from jaxmlp.norms import Norm
from jaxmlp.objective import Objective, divisor
from jaxmlp.sweep.grid import Job, Network, output_objective
from jaxmlp.sweep.store import Rows

VERSION = 2
"""Goes up when the numbers change: what a store holds of another version is measured again."""


class Draw(NamedTuple):
    """Say what random numbers are drawn: `unit(key, shape, dtype)`, and whether biases too."""

    unit: Callable
    biases: bool
    d_0: int
    width: int
    outputs: int
    deepest: int


class Plan(NamedTuple):
    """Say what a forward pass and a way back are compiled for.

    J: the output layer by itself. quick: see `flow.rule`.
    """

    J: Objective
    functions: tuple[Activation, ...]
    norm: Norm | None
    residual: bool
    quick: bool = True


class Numbers(NamedTuple):
    """Hold what differs between networks of one plan."""

    which: Any
    std_first: Any
    std_stack: Any
    std_out: Any
    std_b: Any
    alpha: Any


class Drawn(NamedTuple):
    """Hold layer 1 and the stack of the others before they are scaled, and max |W| of each."""

    first: Layer
    stack: Layer
    largest: tuple


class Hidden(NamedTuple):
    """Hold one forward pass; readings: of layer 1 and of the stack."""

    first: Kept
    stack: Kept
    readings: tuple[ForwardReading, ForwardReading]


class Returned(NamedTuple):
    """Hold the readings of one way back: the output's of both ways, layer 1's and the stack's."""

    ahead: ForwardReading
    first: BackwardReading
    stack: BackwardReading
    last: BackwardReading


def measure(
    job: Job, X: Any, Y: Any, outputs: int, functions: Sequence[Activation] | None = None
) -> dict[Network, Rows]:
    """Return the columns of the table for each network of the job; nothing else happens.

    Args:
      X, Y: as `Objective` takes them; float64 is measured in float64.
      outputs: K, how many the networks have.
      functions: the activations of the grid, which then share the compiled programs. The result is
        the same to the bit for any of them.
    """
    with precision_of(X):
        X, Y = jnp.asarray(X), jnp.asarray(Y)
        draw, plan, numbers = described(job, X, outputs, functions)
        key = jax.random.key(job.network.seed)
        drawn = _drawn(draw, job.network.seed)
        ways = functools.partial(_ways, draw, drawn, numbers, key, X, Y)
        readings, back = ways(plan, job.depths)
        found = {}
        for network, own in zip(job.networks, back, strict=True):
            found[network] = rows_of(readings, own, len(X), network.depth)
            if np.any(found[network]["status"] == flow.UNDECIDED):  # once more, with care
                again, (own,) = ways(plan._replace(quick=False), (network.depth,))
                found[network] = rows_of(again, own, len(X), network.depth)
        return found


def _ways(
    draw: Draw, drawn: Drawn, numbers: Numbers, key: Any, X: Any, Y: Any, plan: Plan,
    depths: tuple[int, ...],
) -> tuple[tuple, list[Returned]]:  # fmt: skip
    """Go one way forward, and one back for each depth; return what left the device."""
    hidden = compiled(forward)(plan, drawn, numbers, X, max(depths))
    back = []
    for depth in depths:
        out = compiled(draw_output)(draw, key, depth)
        back.append(compiled(backward)(plan, drawn, out, numbers, hidden, Y, depth))
    return jax.device_get((hidden.readings, back))


def rows_of(readings: tuple, back: Returned, m: int, depth: int) -> Rows:
    """Return what the table holds of a network, from what left the device."""
    one, others = readings
    ahead = _in_line(one, others, back.ahead, depth)
    with np.errstate(divide="ignore", invalid="ignore"):  # an exact zero is -inf
        found = flow.flow_of(m, ahead, _in_line(back.first, back.stack, back.last, depth), np)
    return columns(found)


def columns(found: flow.GradientFlow) -> dict[str, np.ndarray]:
    """Return the layers of a network, and each field of its flow."""
    layer = np.arange(1, len(found.status) + 1, dtype=np.int32)
    return {"layer": layer, "distance": layer[::-1] - 1, **found._asdict()}


def _in_line(first: Any, stack: Any, last: Any, depth: int) -> Any:
    """Put the readings of the layers of a network in line; the stack has room for deeper ones."""
    return jax.tree.map(
        lambda one, all, end: np.concatenate([one[None], all[: depth - 1], end[None]]),
        first, stack, last,
    )  # fmt: skip


def precision_of(X: Any):
    """Enter float64 or leave it, as the dtype of X says: a thread does not inherit the setting."""
    wanted = np.dtype(X.dtype) == np.float64
    same = bool(jax.config.jax_enable_x64) == wanted  # pyright: ignore
    return contextlib.nullcontext() if same else jax.enable_x64(wanted)


def described(job: Job, X: Any, outputs: int, functions: Any) -> tuple[Draw, Plan, Numbers]:
    network, dtype = job.network, X.dtype
    act, init = activations.get(network.activation), initializers.get(network.init)
    functions = tuple(functions or (act,))
    d_0, width = X.shape[1], network.width
    draw = Draw(init.unit or init.W, init.sigma_b2 > 0, d_0, width, outputs, job.deepest)
    J = output_objective(network.loss, width, outputs)
    plan = Plan(J, functions, norms.get(network.norm), network.residual is not None)
    std: Callable = init.std or (lambda shape, dtype: np.ones((), dtype))
    alpha: Any = network.residual
    starts = {None: 1.0, REZERO: 0.0, INVERSE_ROOT: max(job.depths) ** -0.5}
    shapes = ((d_0, width), (width, width), (width, outputs))
    std_first, std_stack, std_out = (std(shape, dtype) for shape in shapes)
    numbers = Numbers(
        which=np.int32(functions.index(act)),
        std_first=std_first,
        std_stack=std_stack,
        std_out=std_out,
        std_b=np.sqrt(np.asarray(init.sigma_b2, dtype)),
        alpha=np.asarray(starts.get(alpha, alpha), dtype),
    )
    return draw, plan, numbers


# --- the programs ---------------------------------------------------------------------------------


def draw_layers(draw: Draw, key) -> Drawn:
    """Draw the hidden layers, one more than the deepest network has, each from its own number."""
    width = draw.width
    first = _draw_layer(draw, key, 1, (draw.d_0, width))
    one = lambda number: _draw_layer(draw, key, number, (width, width))  # noqa: E731
    stack = jax.lax.map(one, 2 + jnp.arange(draw.deepest))
    largest = tuple(jnp.max(jnp.abs(layer.W), axis=(-2, -1)) for layer in (first, stack))
    return Drawn(first, stack, largest)


def draw_output(draw: Draw, key, depth) -> Layer:
    return _draw_layer(draw, key, depth + 1, (draw.width, draw.outputs))


def _draw_layer(draw: Draw, key, number, shape: tuple[int, int]) -> Layer:
    """As `MLP.init` does, but not yet scaled."""
    key, dtype = jax.random.fold_in(key, number), jnp.zeros(()).dtype
    b = jnp.zeros(shape[1], dtype)
    if draw.biases:
        b = initializers.unit_bias(key, shape, dtype)
    return Layer(draw.unit(key, shape, dtype), b)


def forward(plan: Plan, drawn: Drawn, numbers: Numbers, X, count) -> Hidden:
    """Pass layer 1 and `count` layers of the stack, so that what is kept holds A[count]."""
    rule = flow.rule(len(X), statistics=True, quick=plan.quick)
    first, stack, specs = _layers(plan, drawn, numbers)
    carry, kept, one = rule.forward(specs[0], first, (flow.scaled_input(X), None))
    _, saved, others = walk.forward_to_depth(rule, specs[1], stack, carry, count)
    return Hidden(kept, saved, (one, others))


def backward(
    plan: Plan, drawn: Drawn, out: Layer, numbers: Numbers, hidden: Hidden, Y, depth
) -> Returned:
    """Return what is read on the way back; of the stack, the layers that this network has.

    The depth is a number like any other here: a loop with a traced bound, walked backwards by hand.
    """
    rule = flow.rule(divisor(plan.J, Y.shape[0]), statistics=True, quick=plan.quick)
    first, stack, specs = _layers(plan, drawn, numbers, back=True)
    # The output layer of this depth, on the hidden layers that all depths share
    output = Spec(plan.J.mlp.output)
    last_layer = sized(out._replace(b=out.b * numbers.std_b), numbers.std_out)
    A_D = walk.layer_at(hidden.stack.A_prev, depth - 1)
    (A_L, S_L), kept, ahead = rule.forward(output, last_layer, (A_D, None))
    carry = flow.output_derivative(plan.J, S_L, A_L, Y)
    # Back through the output, the stack as far as this network has it, and layer 1
    carry, last = rule.backward(output, last_layer, kept, carry)
    carry, readings = walk.backward_to_depth(rule, specs[1], stack, hidden.stack, carry, depth - 1)
    _, one = rule.backward(specs[0], first, hidden.first, carry)
    return Returned(ahead, one, readings, last)


def _layers(plan: Plan, drawn: Drawn, numbers: Numbers, *, back: bool = False) -> Any:
    """Return layer 1 and the stack as the rule takes them, and what is fixed of them.

    On a quick way back nobody reads a slope: act' is kept.
    """
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
        found.append(sized(layer, std, largest))
    return (*found, specs)


# --- how they are compiled ------------------------------------------------------------------------

# LLVM's dearer passes and XLA's fusion emitters cost half of the time to compile and gain nothing
# on matrix products; a product on one thread has the same bits on any number of cores.
_CPU = {
    "xla_backend_optimization_level": 1,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_multi_thread_eigen": False,
}


@functools.cache
def compiled(function: Callable) -> Any:
    return jax.jit(function, static_argnums=0, compiler_options=_options())


@functools.cache
def _options() -> dict[str, Any]:
    """The options above on a CPU, as far as this jaxlib knows them and XLA_FLAGS is silent."""
    known, said = {}, os.environ.get("XLA_FLAGS", "")
    wanted = {name: value for name, value in _CPU.items() if name not in said}
    for name, value in wanted.items() if jax.default_backend() == "cpu" else ():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(lambda: 0).lower().compile(compiler_options={name: value})
            known[name] = value
    return known


def compile_together(jobs: Iterable[Job], X: Any, Y: Any, outputs: int, functions: Any) -> None:
    """Compile what the jobs need at the same time: on two cores that takes half as long."""
    with precision_of(X):
        X, Y = jnp.asarray(X), jnp.asarray(Y)
        key = jax.eval_shape(lambda: jax.random.key(0))
        tasks: dict[tuple, tuple] = {}
        needed = [described(job, X, outputs, functions) for job in jobs]
        for (draw, plan), numbers in {(draw, plan): n for draw, plan, n in needed}.items():
            drawn = jax.eval_shape(functools.partial(draw_layers, draw), key)
            out = jax.eval_shape(functools.partial(draw_output, draw), key, 1)
            hidden = jax.eval_shape(functools.partial(forward, plan), drawn, numbers, X, 1)
            own = draw._replace(unit=draw_layers, biases=False)  # they do not see how it is drawn
            tasks[backward, plan, own] = plan, drawn, out, numbers, hidden, Y, 1
            tasks[forward, plan, own] = plan, drawn, numbers, X, 1
            tasks[draw_layers, None, draw] = draw, key
            tasks[draw_output, None, draw] = draw, key, 1

    def compile_one(task: tuple) -> None:
        with precision_of(X):
            compiled(task[0]).lower(*tasks[task]).compile()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, tasks))


_LOCK = threading.Lock()


def _drawn(draw: Draw, seed: int) -> Drawn:
    """Return the last draw again: jobs that share one stand together."""
    with _LOCK:  # else two threads draw the same
        return _draw_once(draw, seed, jax.config.jax_enable_x64)  # pyright: ignore


@functools.lru_cache(maxsize=1)
def _draw_once(draw: Draw, seed: int, x64: bool) -> Drawn:
    return compiled(draw_layers)(draw, jax.random.key(seed))
