"""Depth sweeps: the gradient flow of many networks, in one table."""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxmlp import checks, edge
from jaxmlp.layer import Layer
from jaxmlp.objective import check
from jaxmlp.sweep import engine, grid, together
from jaxmlp.sweep.grid import Network
from jaxmlp.sweep.run import collect, in_this_process
from jaxmlp.sweep.store import Store
from jaxmlp.sweep.table import SweepTable, table_columns
from jaxmlp.sweep.theory import check_matched, with_theory


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
    devices: Sequence[Any] | None = None,
    networks_at_once: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    theory: bool = False,
) -> SweepTable:
    """Measure the gradient flow of every network of a grid.

    The networks are `MLP((d_0,) + (width,) * depth + (K,), hidden=activation, residual=residual,
    norm=norm)`, drawn by `init(jax.random.key(seed), init)`.

    Args (one value may stand for a list of one):
      activations: names or Activations.
      inits: names, `gaussian(...)` or callables.
      depths: numbers of hidden layers, at least 1.
      width: that of every hidden layer.
      seeds: a sequence of seeds in 0..2^32-1; (0,) by default.
      num_seeds: instead of seeds, how many: 0, 1, ...
      residuals, norms: as `MLP` takes them.
      X, Y: the samples, as `Objective` takes them.
      num_classes: K, for labels; by default the largest label + 1.
      loss: the output is softmax for "cross_entropy", sigmoid for "binary_cross_entropy", and
        linear for the others.
      executor: any `concurrent.futures.Executor`; by default threads, one for each core.
        `jaxmlp.sweep.workers(n)` makes processes, and new ones if some die. If jobs leave this
        process, activations and inits must be those of this package.
      store: a file to which each result is written at once; it is made if it does not exist. What
        it holds is not measured again, unless the data, the dtype or the engine's version differ.
        So a sweep that was stopped goes on from there. The table reads its rows from the file when
        they are needed.
      devices: some of `jax.devices()`; the networks are spread over them.
      networks_at_once: how many networks of equal shapes go through one program side by side on
        each device. By default as many as fit on an accelerator, and 1 on a CPU, where several
        threads are faster. Batched products are rounded differently: numbers agree to about 1e-5
        decades.
      progress: `progress(networks_done, networks)`, called in this thread.
      theory: add three columns, what mean field predicts of each network: `predicted` and `sd` over
        networks of log10_stream relative to the output, and `z`, how many sd the network is off.
        For one sample and one output, of which the theory speaks, and activations of your own too;
        NaN for initialisations that it does not know (orthogonal). 1,000 layers take seconds.

    Raises:
      TypeError, ValueError: as `Objective`, for an empty list, for two entries of one name, and
        for labels of one class without num_classes.
    """
    # Check the grid and the data
    cells, X, Y, K = checked_data(
        X, Y, num_classes, activations=activations, inits=inits, depths=depths, seeds=seeds,
        num_seeds=num_seeds, width=width, residuals=residuals, norms=norms, loss=loss,
    )  # fmt: skip
    if theory:
        check_matched(X, K, loss)
    about, functions = _about(X, Y, K), tuple(cells.activations)
    if store is not None or not in_this_process(executor):
        grid.refuse_own(cells, "a store" if store is not None else "an executor of processes")
        X, Y = np.asarray(X), np.asarray(Y)
    # Choose how: jobs one by one, or batches of them side by side
    jobs: Any = cells.jobs
    prepare: Callable = lambda jobs: None  # noqa: E731
    measure = functools.partial(engine.measure, X=X, Y=Y, outputs=K, functions=functions)
    if networks_at_once is not None:
        checks.integer("networks_at_once", networks_at_once, at_least=1)
    here, at_once = in_this_process(executor), 1
    if not here and (networks_at_once or devices):
        raise ValueError("devices and networks_at_once belong to this process: leave executor out")
    if here:
        at_once = together.at_once(networks_at_once, devices, _bytes_at_once(cells, X))
    if at_once > 1 or devices is not None:
        jobs = together.batches(jobs, X, K, at_once)
        # Programs on several devices wait for each other, so one thread starts them in one order
        executor = executor or functools.partial(ThreadPoolExecutor, 1)
        measure = functools.partial(
            together.measure_together, X=X, Y=Y, outputs=K, functions=functions, at_once=at_once,
            devices=devices,
        )  # fmt: skip
    elif here:
        prepare = functools.partial(
            engine.compile_together, X=X, Y=Y, outputs=K, functions=functions
        )
    # Measure what is missing
    read = collect(
        measure, jobs, cells.networks, store=store, key=functools.partial(key, **about),
        about={"X": X.shape, "Y": Y.shape, "outputs": K, **about},
        executor=executor, prepare=prepare, progress=progress,
    )  # fmt: skip

    def read_columns():
        results = read()
        columns = table_columns(results, **about)
        return with_theory(columns, list(results), X, K) if theory else columns

    return SweepTable(read_columns() if store is None else read_columns)


class Planned(NamedTuple):
    """Say what a sweep would measure.

    held: how many networks the store already has. parameters: of all networks together.
    bytes_at_once: the memory of one job. As many jobs run at a time as the executor has workers.
    """

    networks: int
    jobs: int
    held: int
    parameters: int
    bytes_at_once: int


def plan(*, X, Y, loss="cross_entropy", num_classes=None, store=None, **axes: Any) -> Planned:
    """Return what `depth_sweep` would measure with these arguments; nothing is compiled.

    Example:
      >>> plan(activations="tanh", inits="he", depths=(2, 3), width=4, X=np.ones((5, 2)),
      ...      Y=np.eye(5), seeds=(0, 1))
      Planned(networks=4, jobs=2, held=0, parameters=268, bytes_at_once=896)
    """
    axes = {"num_seeds": None, "seeds": None, "residuals": None, "norms": None} | axes
    cells, X, Y, K = checked_data(X, Y, num_classes, loss=loss, **axes)
    networks, held = cells.networks, 0
    if store is not None and Path(store).exists():
        with Store(store) as kept:
            held = len(kept.held(key(network, **_about(X, Y, K)) for network in networks))
    parameters = sum(network.mlp(X.shape[1], K).num_parameters for network in networks)
    return Planned(len(networks), len(cells.jobs), held, parameters, _bytes_at_once(cells, X))


def _bytes_at_once(cells: grid.Grid, X: Any) -> int:
    """Return the memory of one job: its weights, and what the way forward keeps of each layer."""
    arrays = 2 + any(norm is not None for norm in cells.norms)  # A, act', and U with a norm
    width, layers = max(cells.widths), max(cells.depths) + 1
    return layers * width * (width + arrays * X.shape[0]) * X.dtype.itemsize


def key(network: Network, **about: Any) -> str:
    """Return the key of a network in a store: its names, and all else that decides its numbers."""
    return json.dumps({"sweep": "depth", **network._asdict(), **about})


def _about(X: Any, Y: Any, K: int) -> dict[str, Any]:
    """Return what decides the numbers besides a network's names."""
    return about_data(X, Y, K) | {"engine": engine.VERSION}


def about_data(X: Any, Y: Any, K: int) -> dict[str, str]:
    """Return the dtype and the fingerprint of the data, for a table and a store."""
    return {"dtype": str(X.dtype), "data": fingerprint(X, Y, K)}


def checked_data(X: Any, Y: Any, num_classes: int | None, *, loss: str, **axes: Any):
    """Return the grid, the data, and K. The data are checked with the output layer alone."""
    cells = grid.checked(**axes, loss=loss)
    K = grid.outputs(loss, Y, num_classes)
    d_0 = (*np.shape(edge.as_array("X", X)), 1)[1]
    J, dtype = grid.output_objective(loss, d_0, K), jnp.zeros(()).dtype
    params = (Layer(np.zeros((d_0, K), dtype), np.zeros(K, dtype)),)  # pyright: ignore
    return cells, *check(J, params, X, Y)[1:], K


def fingerprint(X: Any, Y: Any, K: int) -> str:
    """Return the first 16 digits of the SHA-256 of the data: values, shapes, dtypes and K."""
    digest = hashlib.sha256()
    for array in (np.asarray(X), np.asarray(Y)):
        digest.update(f"{array.dtype.str}{array.shape}{K}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
