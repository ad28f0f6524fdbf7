"""The measurement of a job: its networks are drawn, passed forward and back, and read.

Networks are told apart by numbers only, so that all jobs share the compiled `programs`.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, flow, initializers, magnitudes, norms
from jaxmlp.activations import Activation
from jaxmlp.layer import REZERO
from jaxmlp.magnitudes import BackwardReading, ForwardReading
from jaxmlp.mlp import INVERSE_ROOT
from jaxmlp.sweep.grid import Job, Network, output_objective
from jaxmlp.sweep.programs import (
    Draw,
    Drawn,
    Numbers,
    Plan,
    Readings,
    backward,
    compiled,
    draw_layers,
    draw_output,
    forward,
)
from jaxmlp.sweep.store import Rows

VERSION = 2
"""The version of the numbers. If it goes up, networks in a store are measured again."""


def measure(
    job: Job, X: Any, Y: Any, outputs: int, functions: Sequence[Activation] | None = None
) -> dict[Network, Rows]:
    """Return the columns of the table for each network of the job. It is a pure function.

    Args:
      X, Y: as `Objective` takes them. If they are float64, the measurement is too.
      outputs: K, the number of outputs of the networks.
      functions: the activations of the grid, so that they share compiled programs. They do not
        change the result, not by a bit.
    """
    with precision_of(X):
        X, Y = jnp.asarray(X), jnp.asarray(Y)
        draw, plan, numbers = described(job, X, outputs, functions)
        key = jax.random.key(job.network.seed)
        drawn = _drawn(draw, job.network.seed)
        ways = functools.partial(_ways, draw, drawn, numbers, key, X, Y)
        found = {}
        for network, read in zip(job.networks, ways(plan, job.depths), strict=True):
            found[network] = rows_of(read, len(X), network.depth)
            if np.any(found[network]["status"] == magnitudes.UNDECIDED):  # once more, with care
                (read,) = ways(plan._replace(quick=False), (network.depth,))
                found[network] = rows_of(read, len(X), network.depth)
        return found


def _ways(
    draw: Draw, drawn: Drawn, numbers: Numbers, key: Any, X: Any, Y: Any, plan: Plan,
    depths: tuple[int, ...],
) -> list[Readings]:  # fmt: skip
    """Go forward once, and back once for each depth; return the readings, on the host."""
    hidden = compiled(forward)(plan, drawn, numbers, X, max(depths))
    back = []
    for depth in depths:
        out = compiled(draw_output)(draw, key, depth)
        back.append(compiled(backward)(plan, drawn, out, numbers, hidden, Y, depth))
    return jax.device_get(back)


def rows_of(read: Readings, m: int, depth: int) -> Rows:
    """Return the columns of the table for a network, from its readings on the host."""
    layers = [*range(depth), -1]  # the rows between them belong to deeper networks
    numbers, integers = read.numbers[layers], read.integers[layers]
    ahead = ForwardReading(numbers[:, 0], integers[:, 0], numbers[:, 1:4], integers[:, 1] != 0)
    back = BackwardReading(numbers[:, 4:7], integers[:, 2:5], numbers[:, 7], integers[:, 5])
    with np.errstate(divide="ignore", invalid="ignore"):  # an exact zero is -inf
        return columns(flow.flow_of(m, ahead, back, np))


def columns(found: flow.GradientFlow) -> dict[str, np.ndarray]:
    """Return the columns of a network: layer, distance, and each field of its flow."""
    layer = np.arange(1, len(found.status) + 1, dtype=np.int32)
    return {"layer": layer, "distance": layer[::-1] - 1, **found._asdict()}


def precision_of(X: Any):
    """Switch x64 on or off to suit the dtype of X. A thread does not inherit JAX's setting."""
    wanted = np.dtype(X.dtype) == np.float64
    same = bool(jax.config.jax_enable_x64) == wanted  # pyright: ignore
    return contextlib.nullcontext() if same else jax.enable_x64(wanted)


def described(job: Job, X: Any, outputs: int, functions: Any) -> tuple[Draw, Plan, Numbers]:
    """Return what the programs need for a job."""
    network, dtype = job.network, X.dtype
    act, init = activations.get(network.activation), initializers.get(network.init)
    functions = tuple(functions or (act,))
    d_0, width = X.shape[1], network.width
    draw = Draw(init.unit or init.W, init.sigma_b2 > 0, d_0, width, outputs, job.deepest)
    J = output_objective(network.loss, width, outputs)
    plan = Plan(J, functions, norms.get(network.norm), network.residual is not None)
    std: Callable = init.std or (lambda shape, dtype: np.ones((), dtype))
    alpha: Any = network.residual
    starts = {None: 1.0, REZERO: 0.0, INVERSE_ROOT: max(job.depths) ** -0.5}  # such a job has one
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


def compile_together(jobs: Iterable[Job], X: Any, Y: Any, outputs: int, functions: Any) -> None:
    """Compile the programs that the jobs need, in two threads: on two cores in half the time."""
    with precision_of(X):
        X, Y = jnp.asarray(X), jnp.asarray(Y)
        key = jax.eval_shape(lambda: jax.random.key(0))
        tasks: dict[tuple, tuple] = {}
        needed = [described(job, X, outputs, functions) for job in jobs]
        for (draw, plan), numbers in {(draw, plan): n for draw, plan, n in needed}.items():
            drawn = jax.eval_shape(functools.partial(draw_layers, draw), key)
            out = jax.eval_shape(functools.partial(draw_output, draw), key, 1)
            hidden = jax.eval_shape(functools.partial(forward, plan), drawn, numbers, X, 1)
            # The passes do not depend on how it is drawn, so one task serves all draws of a shape
            shape = draw._replace(unit=draw_layers, biases=False)
            tasks[backward, plan, shape] = plan, drawn, out, numbers, hidden, Y, 1
            tasks[forward, plan, shape] = plan, drawn, numbers, X, 1
            tasks[draw_layers, None, draw] = draw, key
            tasks[draw_output, None, draw] = draw, key, 1

    def compile_one(task: tuple) -> None:
        with precision_of(X):
            compiled(task[0]).lower(*tasks[task]).compile()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, tasks))


_LOCK = threading.Lock()


def _drawn(draw: Draw, seed: int) -> Drawn:
    """Return the layers of a seed. The last draw is kept, because the next job may share it."""
    with _LOCK:  # so that no two threads draw the same
        return _draw_once(draw, seed, jax.config.jax_enable_x64)  # pyright: ignore


@functools.lru_cache(maxsize=1)
def _draw_once(draw: Draw, seed: int, x64: bool) -> Drawn:
    return compiled(draw_layers)(draw, jax.random.key(seed))
