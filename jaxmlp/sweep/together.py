"""Many networks in one program, along a vmapped axis, for accelerators and several devices.

On a CPU one network at a time on each core is faster, because batched products are slower there.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmlp import magnitudes
from jaxmlp.activations import Activation
from jaxmlp.sweep import engine, programs
from jaxmlp.sweep.grid import Job, Network
from jaxmlp.sweep.programs import Numbers
from jaxmlp.sweep.store import Rows

_BYTES = 2**31  # chosen: the memory that a batch may take on a device, if no number is given


class Batch(NamedTuple):
    """Name jobs of the same shapes, depths and activation.

    The activation is one for all, because a switch with an index for each network would compute
    every branch.
    """

    jobs: tuple[Job, ...]

    @property
    def networks(self) -> list[Network]:
        return [network for job in self.jobs for network in job.networks]

    def only(self, missing: Iterable[Network]) -> "Batch":
        """Return the batch for those of its networks that are missing."""
        missing = set(missing)
        jobs = (job.only(missing) for job in self.jobs)
        return Batch(tuple(job for job in jobs if job.depths))


def batches(jobs: Iterable[Job], X: Any, outputs: int, at_once: int) -> list[Batch]:
    """Return batches of at most `at_once` jobs of equal shapes."""
    alike: dict[tuple, list[Job]] = {}
    for job in jobs:
        draw, plan, _ = engine.described(job, X, outputs, None)
        alike.setdefault((draw, plan, job.depths), []).append(job)
    return [
        Batch(tuple(group[start : start + at_once]))
        for group in alike.values()
        for start in range(0, len(group), at_once)
    ]


def at_once(wanted: int | None, devices: Sequence[Any] | None, bytes_of_one: int) -> int:
    """Return how many networks go together on all devices: `wanted` on each, or as many as fit."""
    if wanted is None:
        accelerated = (devices or jax.devices())[0].platform != "cpu"
        wanted = min(256, max(1, _BYTES // bytes_of_one)) if accelerated else 1  # chosen: 256
    return wanted * len(devices or (0,))


def measure_together(
    batch: Batch, X: Any, Y: Any, outputs: int, functions: Sequence[Activation], at_once: int,
    devices: Sequence[Any] | None = None,
) -> dict[Network, Rows]:  # fmt: skip
    """Measure the jobs of a batch side by side, spread over the devices.

    Every batch is filled up to `at_once` with copies of its last job, so that all have one shape.
    If a square of a network leaves the range, the network is measured again, alone.
    """
    with engine.precision_of(X):
        X, Y = jnp.asarray(X), jnp.asarray(Y)
        jobs = batch.jobs + (batch.jobs[-1],) * (at_once - len(batch.jobs))
        described = [engine.described(job, X, outputs, functions) for job in jobs]
        draw, plan, numbers = described[0]
        each = jax.tree.map(lambda *leaves: np.stack(leaves), *(one[2] for one in described))
        keys = jnp.stack([jax.random.key(job.network.seed) for job in jobs])
        # Each device gets some of the networks, and all that they share
        if devices is not None:
            mesh = Mesh(np.array(devices), ("network",))
            spread = NamedSharding(mesh, PartitionSpec("network"))
            everywhere = NamedSharding(mesh, PartitionSpec())
            each, keys = jax.device_put((each, keys), spread)
            X, Y = jax.device_put((X, Y), everywhere)
        which = numbers.which
        numbers, axes = each._replace(which=which), Numbers(None, 0, 0, 0, 0, 0)
        depths = sorted({depth for job in jobs for depth in job.depths})
        # One way forward, and one back for each depth
        drawn = _program(programs.draw_layers, (0,))(draw, keys)
        forward = _program(programs.forward, (0, axes, None, None))
        hidden = forward(plan, drawn, numbers, X, max(depths))
        back = {}
        for depth in depths:
            out = _program(programs.draw_output, (0, None))(draw, keys, depth)
            program = _program(programs.backward, (0, 0, axes, 0, None, None))
            back[depth] = program(plan, drawn, out, numbers, hidden, Y, depth)
        back = jax.device_get(back)
        found = {}
        for i, job in enumerate(batch.jobs):
            for network in job.networks:
                read = jax.tree.map(lambda x: x[i], back[network.depth])  # noqa: B023
                found[network] = engine.rows_of(read, len(X), network.depth)
                if np.any(found[network]["status"] == magnitudes.UNDECIDED):
                    found |= engine.measure(job.only({network}), X, Y, outputs, functions)
        return found


@functools.cache
def _program(function: Any, axes: tuple) -> Any:
    """Return a program of the engine, mapped over a leading axis of networks."""

    def batched(static: Any, *args: Any) -> Any:
        return jax.vmap(functools.partial(function, static), in_axes=axes)(*args)

    return programs.compiled(batched)
