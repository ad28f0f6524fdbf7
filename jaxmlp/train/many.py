"""Training many networks at once. They differ in numbers only, so one compiled loop serves all."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Generator
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxmlp import checks
from jaxmlp.objective import Objective
from jaxmlp.train.fit import counted, prepare, refuse_not_finite, refuse_tracers
from jaxmlp.train.host import History, Reached, advance, history_of, nothing_lost
from jaxmlp.train.loop import (
    Data,
    Epoch,
    Run,
    State,
    no_epochs,
    run_steps,
    start,
    steps_per_epoch,
    take_step,
)
from jaxmlp.train.optimizers import as_optimizer, check_factory

Stages = Generator[list[Reached], None, None]


def fit_many(
    J: Objective,
    params,
    X,
    Y,
    *,
    optimizer: optax.GradientTransformation | Callable | float,
    epochs: int | None = None,
    num_steps: int | None = None,
    batch_size: int | None = None,
    learning_rates: Any = None,
    key: Array | None = None,
    eps: float | None = None,
    gradient: str = "hand",
    validation: tuple | None = None,
    progress: Callable | None = None,
    _engine: Callable | None = None,
) -> tuple[Any, History]:
    """Train n networks of one shape on the same data, each as `fit` would train it alone.

    The networks differ only in their parameters and, if given, their learning rates. So one
    compiled program trains all: on a CPU in threads, one for each core, elsewhere under `jax.vmap`.

    Args:
      J, X, Y, epochs, num_steps, batch_size, key, eps, gradient, validation: as `fit` takes them,
        one for all networks. With a `key` all networks get the same batches.
      params: the networks stacked along a first axis, so W is `(n, d_in, d_out)` and, in a stacked
        Layer, `(n, layers, d, d)`: `jax.vmap(J.mlp.init)(jax.random.split(key, n))`, or
        `jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)`.
      optimizer: as `fit` takes it. With `learning_rates` it is a function of the learning rate that
        returns an optimiser: `optax.adam` (not called), or
        `lambda rate: optax.sgd(optax.cosine_decay_schedule(rate, 100))`. Network k is trained by
        `optimizer(learning_rates[k])`.
      learning_rates: `(n,)` positive numbers; None if all networks have the same optimiser.
      progress: `progress(done, total)`, in epochs or steps, both summed over the networks.

    A network stops if its loss reaches `eps`, as in `fit`. It also stops if it diverges: the loss
    of an epoch, or a parameter after it, is not finite. It keeps the parameters that it had after
    that epoch, and the others go on. Ctrl-C and exceptions lose nothing, as in `fit`.

    Returns:
      `(params, History)`. The parameters are stacked as they came. The arrays of the History are
      `(n, epochs)`, with NaN after a network's last epoch; `history.diverged` is `(n,)`.

    Raises:
      ValueError, TypeError: as `fit`; for parameters without a common first axis, learning rates
        that are not n positive numbers, and an optimiser that is not a function of them.

    Example:
      >>> import jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 8, 3)), "cross_entropy")
      >>> X, Y = jaxmlp.datasets.spiral()[:2]
      >>> networks = jax.vmap(J.mlp.init)(jax.random.split(jax.random.key(0), 3))
      >>> trained, history = fit_many(J, networks, X.astype("float32"), Y, epochs=5,
      ...                             optimizer=optax.adam, learning_rates=[1e-3, 1e-2, 1e-1])
      >>> trained[0].W.shape, history.loss.shape, history.diverged.tolist()
      ((3, 2, 8), (3, 5), [False, False, False])
    """
    # Refuse what does not fit
    given = (params, X, Y, optimizer, learning_rates, key, eps, validation)
    refuse_tracers("fit_many", *given)
    n = _count(params)
    one = jax.tree.map(lambda leaf: leaf[0], params)
    if learning_rates is None:
        optimizer = as_optimizer(optimizer)
    run, _, data = prepare(
        J, one, X, Y, optimizer, gradient, False, batch_size, key, eps, validation
    )
    total, unit = counted(epochs, num_steps, steps_per_epoch(run, data))
    if learning_rates is not None:
        rates = checked_rates(optimizer, learning_rates, n)
        data = data._replace(learning_rate=np.asarray(rates, data.X.dtype))

    # Train; an engine yields what it has reached, first before any step
    on_cpu = next(iter(data.X.devices())).platform == "cpu"
    engine = _engine or (in_threads if on_cpu else side_by_side)
    stages = engine(run._replace(until_diverged=True), params, data, total)
    reached, units = next(stages), total // unit

    def done() -> int:
        return sum(int(np.where(r.state.stopped, units, r.done // unit).sum()) for r in reached)

    def where() -> str:
        return f"after {done()} of {n} x {units} {'steps' if epochs is None else 'epochs'}"

    with nothing_lost(where, lambda: _read(reached)), contextlib.closing(stages):
        reported = 0
        for reached in stages:  # noqa: B007, read by `done`
            if progress is not None and done() > reported:
                reported = done()
                progress(reported, n * units)
    return _read(reached)


def _count(params) -> int:
    """Return n; refuse arrays that do not lead with one n."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
    first = sorted({shape[:1] for shape in shapes})
    if len(first) != 1 or first[0] in ((), (0,)):
        raise ValueError(
            "params must be networks stacked along a first axis, as by "
            "jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks), "
            f"but the first axes of its arrays are {first}"
        )
    return first[0][0]


def checked_rates(optimizer: Any, learning_rates: Any, n: int) -> list[float]:
    """Return n learning rates; refuse bad ones, and an optimizer that is not a function of them."""
    if np.shape(learning_rates) != (n,):
        raise ValueError(
            f"learning_rates must be {n} numbers, one for each network, "
            f"got shape {np.shape(learning_rates)}"
        )
    names = [f"learning_rates[{k}]" for k in range(n)]
    rates = [checks.positive_number(*pair) for pair in zip(names, learning_rates, strict=True)]
    check_factory(optimizer, rates[0])
    return rates


def _read(reached: list[Reached]) -> tuple[Any, History]:
    """Return the stacked parameters, and one History with NaN after the end of each network."""
    state = reached[0].state
    if state.epochs.ndim == 0:  # one for each network; else one for all
        params, diverged = jax.tree.map(
            lambda *leaves: jnp.asarray(np.stack(leaves)),
            *((r.state.params, r.state.diverged) for r in reached),
        )
        histories = [history_of(r, []) for r in reached]
    else:
        params, diverged, table = state.params, state.diverged, history_of(reached[0], [])
        histories = [
            jax.tree.map(lambda column: column[:length, k], table)  # noqa: B023
            for k, length in enumerate(np.asarray(state.epochs))
        ]
    return params, jax.tree.map(_padded, *histories)._replace(diverged=np.asarray(diverged))


def _padded(*columns: np.ndarray) -> np.ndarray:
    """Return columns of different lengths as one table, with NaN at their ends."""
    shape = (len(columns), max(map(len, columns)), *columns[0].shape[1:])
    table = np.full(shape, np.nan, columns[0].dtype)
    for row, column in zip(table, columns, strict=True):
        row[: len(column)] = column
    return table


def _refuse_not_finite(params, finite: np.ndarray) -> None:
    """Refuse parameters that are not finite; the error names the first network and its entry."""
    if not finite.all():
        k = int(np.argmin(finite))
        try:
            refuse_not_finite(jax.tree.map(lambda leaf: leaf[k], params))
        except ValueError as error:
            raise ValueError(f"network {k}: {error}") from None


# --- in threads: each core trains one network after the other -------------------------------------


def in_threads(run: Run, params, data: Data, total: int) -> Stages:
    """Train each network alone. Threads help, because a compiled program releases Python's GIL."""
    # Compile here, because contexts such as `with jax.enable_x64(True)` do not reach a thread
    params, rates = jax.tree.map(np.asarray, (params, data.learning_rate))
    networks = []
    for k in range(len(jax.tree.leaves(params)[0])):
        one, rate = jax.tree.map(lambda x: jnp.asarray(x[k]), (params, rates))  # noqa: B023
        networks.append((one, data._replace(learning_rate=rate)))
    begin = start.lower(run, *networks[0]).compile()
    states, finite = zip(*(begin(*network) for network in networks), strict=True)
    _refuse_not_finite(params, np.array(finite))
    done, num_steps = np.zeros(2, np.int32), np.int32(0)
    steps = run_steps.lower(run, states[0], networks[0][1], done, num_steps).compile()

    # The threads write what they have reached into a list, and the host yields it
    reached, enough = [Reached(state, 0, []) for state in states], threading.Event()
    yield reached

    def train(k: int) -> None:
        for latest in advance(run, steps, reached[k], networks[k][1], total, ()):
            reached[k] = latest
            if enough.is_set():
                return

    with futures.ThreadPoolExecutor(min(len(networks), os.cpu_count() or 1)) as pool:
        try:
            waiting = {pool.submit(train, k) for k in range(len(networks))}
            while waiting:
                ended, waiting = futures.wait(waiting, timeout=0.1)  # seconds between reports
                for future in ended:
                    future.result()
                yield reached
        finally:
            enough.set()
            pool.shutdown(cancel_futures=True)


# --- side by side: one program for arrays with a network axis -------------------------------------

# The network axis: 0, but None for the data and the order of the samples, which all share
STATES: Any = State(**dict.fromkeys(State._fields, 0) | {"order": None})  # pyright: ignore[reportArgumentType]
DATAS: Any = Data(**dict.fromkeys(Data._fields) | {"learning_rate": 0})  # pyright: ignore[reportArgumentType]


def side_by_side(run: Run, params, data: Data, total: int) -> Stages:
    """Train all networks by one program, mapped over them."""
    # Chosen: a table of at least 64 epochs a chunk, and in memory no larger than that of `fit`
    run = run._replace(rows=max(64, run.rows // len(jax.tree.leaves(params)[0])))
    state, finite = _start_all(run, params, data)
    _refuse_not_finite(params, np.asarray(finite))
    yield [Reached(state, 0, [])]
    steps = functools.partial(_run_steps_of_all, run)
    for reached in advance(run, steps, Reached(state, 0, []), data, total, ()):
        yield [reached]


@functools.partial(jax.jit, static_argnums=0)
def _start_all(run: Run, params, data: Data):
    one = functools.partial(start, run)
    return jax.vmap(one, in_axes=(0, DATAS), out_axes=(STATES, 0))(params, data)


@functools.partial(jax.jit, static_argnums=0)
def _run_steps_of_all(run: Run, state: State, data: Data, done, num_steps) -> tuple[State, Epoch]:
    """Take the steps of `run_steps` for all networks; the columns of the table are `(rows, n)`.

    This is not `jax.vmap(run_steps)`: in that each network would have its own step number, and
    every `cond` on it would compute both branches at every step.
    """
    one = functools.partial(take_step, run)
    axes = (STATES, 0)
    step = jax.vmap(one, in_axes=(*axes, DATAS, None, None), out_axes=axes)

    def body(i, carry):
        state, table = carry
        new, table = step(state, table, data, done, i)
        return _unless_stopped(state, new), table

    table = jax.vmap(functools.partial(no_epochs, run), in_axes=(STATES,))(state)
    state, table = jax.lax.fori_loop(0, num_steps, body, (state, table))
    return state, jax.tree.map(lambda column: jnp.swapaxes(column, 0, 1), table)


@functools.partial(jax.vmap, in_axes=(STATES, STATES), out_axes=STATES)
def _unless_stopped(old: State, new: State) -> State:
    kept = jax.tree.map(functools.partial(jnp.where, old.stopped), old, new)
    return kept._replace(order=new.order)
