"""Depth sweeps: the gradient flow of many networks, as one table."""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmlp import edge
from jaxmlp.layer import Layer
from jaxmlp.objective import check
from jaxmlp.sweep import engine, grid
from jaxmlp.sweep.grid import Network
from jaxmlp.sweep.run import collect, in_this_process
from jaxmlp.sweep.table import SweepTable, table_columns


def depth_sweep(
    *,
    activations: Any = ("sigmoid", "tanh", "relu", "leaky_relu"),
    inits: Any = ("lecun", "he"),
    depths: int | Sequence[int] = (2, 5, 10, 20, 50),
    seeds: Sequence[int] | None = None,
    num_seeds: int | None = None,
    width: int | Sequence[int] = 128,
    residuals: Any = (None,),
    norms: Any = (None,),
    X,
    Y,
    loss: str = "cross_entropy",
    num_classes: int | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SweepTable:
    """Measure the gradient flow of every network of a grid.

    The networks are `MLP((d_0,) + (width,) * depth + (K,), hidden=activation, residual=residual,
    norm=norm)`, drawn by `init(jax.random.key(seed), init)`.

    Args (one value may stand for a list of one):
      activations: names or Activations. inits: names, `gaussian(...)` or callables.
      depths: numbers of hidden layers, at least 1. width: of every layer.
      seeds: a sequence of seeds in 0..2^32-1, (0,) by default; or num_seeds: the seeds 0, 1, ...
      residuals, norms: as `MLP` takes them.
      X, Y: the samples, as `Objective` takes them.
      num_classes: K, for labels; by default one more than the largest of them.
      loss: with "cross_entropy" the output is softmax, with "binary_cross_entropy" sigmoid, else
        linear.
      executor: any `concurrent.futures.Executor`; by default threads, one for each core.
        `jaxmlp.sweep.workers(n)`: processes, and others in the place of those that die. Where jobs
        leave this process, activations and inits must be the library's.
      store: a file, made if it is not there, that each result goes to at once. What it holds is not
        measured again, unless the data, the dtype or the engine's version are others: a sweep that
        was ended goes on from there. The table is read from it when it is asked for its rows.
      progress: `progress(networks_done, networks)`, called in this thread.

    Raises:
      TypeError, ValueError: as `Objective`; for an empty list, for two entries of one name, for
        labels of one class without num_classes.
    """
    cells = grid.checked(
        activations=activations, inits=inits, depths=depths, seeds=seeds, num_seeds=num_seeds,
        width=width, residuals=residuals, norms=norms, loss=loss,
    )  # fmt: skip
    K = grid.outputs(loss, Y, num_classes)
    X, Y = _checked_data(loss, X, Y, K)
    if store is not None or not in_this_process(executor):
        grid.refuse_own(cells, "a store" if store is not None else "an executor of processes")
        X, Y = np.asarray(X), np.asarray(Y)
    about = {"dtype": str(X.dtype), "data": fingerprint(X, Y, K)[:16], "engine": engine.VERSION}
    measure = functools.partial(
        engine.measure, X=X, Y=Y, outputs=K, functions=tuple(cells.activations)
    )
    if in_this_process(executor):
        engine.compile_together(cells.jobs, X, Y, K, tuple(cells.activations))
    read = collect(
        measure, cells.jobs, cells.networks, store=store,
        about={"X": X.shape, "Y": Y.shape, "outputs": K} | about,
        key=functools.partial(key, **about), executor=executor, progress=progress,
    )  # fmt: skip
    read_columns = lambda: table_columns(read(), **about)  # noqa: E731
    return SweepTable(read_columns() if store is None else read_columns)


def key(network: Network, **about: Any) -> str:
    """Return what a store knows a network by: its names, and what else decides its numbers."""
    return json.dumps({"sweep": "depth", **network._asdict(), **about})


def _checked_data(loss: str, X: Any, Y: Any, K: int):
    """Return X and Y as the output layer by itself takes them."""
    d_0 = np.shape(edge.as_array("X", X))[-1:] or (1,)
    J, dtype = grid.output_objective(loss, *d_0, K), jnp.zeros(()).dtype
    params = (Layer(np.zeros((*d_0, K), dtype), np.zeros(K, dtype)),)
    return check(J, params, X, Y)[1:]


def fingerprint(X: Any, Y: Any, K: int) -> str:
    """Return the SHA-256 of the data as they are measured: values, shapes, dtypes and K."""
    digest = hashlib.sha256()
    for array in (np.asarray(X), np.asarray(Y)):
        digest.update(f"{array.dtype.str}{array.shape}{K}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
