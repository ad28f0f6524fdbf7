"""Jobs through an executor: what is missing is measured, and kept as it arrives.

It knows neither networks nor gradients. A job has `networks`, keys that are hashable, and
`only(missing)`, the job of some of them; `measure(job)` returns a dict by those keys.
"""

import concurrent.futures
import contextlib
import functools
import itertools
import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from jaxmlp.sweep.store import Rows, Store

_LOSSES = 3
"""So often in a row a pool may lose a process before any job is finished."""
_GATHER, _WINDOW = 0.002, 4
"""Seconds in which finished jobs come together, and jobs that wait for a worker meanwhile: jobs of
half a millisecond, the shortest there are, leave none idle."""


def run(
    measure: Callable[[Any], dict],
    jobs: Iterable[Any],
    *,
    keep: Callable[[dict], None],
    held: Callable[[list], set] = lambda networks: set(),
    executor: Executor | Callable[[], Executor] | None = None,
    prepare: Callable[[list], None] = lambda jobs: None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Measure the networks of the jobs that are not held yet; keep each job's results at once.

    Args:
      measure: `measure(job)` -> results by network. For other processes it must pickle.
      keep: takes the results of one job. held: returns which of some networks are there already;
        asked of each job before it is submitted. Both, and progress, are called in this thread.
      executor: where; or a function that makes one, called again when a process of it died. By
        default as many threads as this process has cores.
      prepare: is called once with the jobs that are missing, if there are any.
      progress: `progress(networks_done, networks)`.

    Raises:
      WorkersDied: if an executor loses a process and is no function that makes one, or loses three
        without a finished job in between; it names the jobs that were running.
    """
    jobs = list(jobs)
    networks = [network for job in jobs for network in job.networks]
    total, done = len(networks), 0

    def finish(results: Any) -> None:
        nonlocal done
        done += len(results)
        if progress is not None and results:
            progress(done, total)

    # What is missing now, and of it what no other process has kept in the meantime
    there = held(networks)
    finish(there)
    jobs = list(_without(jobs, there))
    if jobs:
        prepare(jobs)

    def missing() -> Iterator[Any]:
        for job in jobs:
            by_now = held(job.networks)
            finish(by_now)
            yield from _without([job], by_now)

    make: Any = executor
    if executor is None:
        make = functools.partial(ThreadPoolExecutor, len(cores()))
    todo, losses = missing(), 0
    while True:
        before = done
        with _pool(make) as pool:
            unfinished = _through(pool, measure, todo, keep, finish)
            if not unfinished:
                return
            losses = losses + 1 if done == before else 1
            if not callable(make) or losses == _LOSSES:
                raise _given_up(losses, unfinished[: _size(pool)])
        warnings.warn("a worker process died; its pool is made anew", RuntimeWarning, stacklevel=3)
        todo = itertools.chain(unfinished, todo)


def _without(jobs: Iterable[Any], there: set) -> Iterator[Any]:
    """Yield the jobs without the networks that are there, if any are left."""
    for job in jobs:
        missing = set(job.networks) - there
        if missing:
            yield job if len(missing) == len(job.networks) else job.only(missing)


def collect(
    measure: Callable[[Any], dict],
    jobs: Iterable[Any],
    networks: Sequence[Any],
    *,
    store: str | Path | None,
    key: Callable[[Any], str],
    about: Mapping[str, Any],
    **options: Any,
) -> Callable[[], dict[Any, Rows]]:
    """Run the jobs, into a store if there is one; return the function that reads the results.

    Args:
      networks: all of the jobs, in the order of the results.
      key: what a network's rows are known by in the store. about: what is written once for the run.
      options: of `run`.
    """
    if store is None:
        found: dict[Any, Rows] = {}
        run(measure, jobs, keep=found.update, **options)
        return lambda: {network: found[network] for network in networks}

    with Store(store, about) as kept:

        def keep(results: dict) -> None:
            kept.put({key(network): rows for network, rows in results.items()})

        def held(those: list) -> set:
            there = kept.held(map(key, those))
            return {network for network in those if key(network) in there}

        run(measure, jobs, keep=keep, held=held, **options)

    def read() -> dict[Any, Rows]:
        with Store(store) as kept:
            return dict(zip(networks, kept.get(map(key, networks)), strict=True))

    return read


@contextlib.contextmanager
def _pool(make: Any) -> Iterator[Executor]:
    """One's own pool is shut down, another's is left as it is."""
    pool: Any = make() if callable(make) else make
    check_executor(pool)
    try:
        yield pool
    finally:
        if callable(make):
            pool.shutdown(wait=True, cancel_futures=True)


def _through(
    pool: Executor, measure: Callable, todo: Iterable, keep: Callable, finish: Callable
) -> list:
    """Put jobs through a pool, a bounded number at a time; return those that a dead one lost."""
    futures: dict[Future, Any] = {}
    try:
        for job in todo:
            futures[_submitted(pool, measure, job)] = job
            while len(futures) >= _WINDOW * _size(pool):
                _take_next(futures, keep, finish)
        while futures:
            _take_next(futures, keep, finish)
    except BrokenProcessPool:
        return list(futures.values())
    except BaseException:  # an interrupt too: what is finished is not lost
        for future in futures:
            future.cancel()
        for future in concurrent.futures.wait(futures).done:
            if not future.cancelled() and future.exception() is None:
                with contextlib.suppress(Exception):  # the first error is the one that is told
                    keep(future.result())
        raise
    return []


def _submitted(pool: Executor, measure: Callable, job: Any) -> Future:
    try:
        return pool.submit(measure, job)
    except BrokenProcessPool as error:
        lost: Future = Future()
        lost.set_exception(error)
        return lost


def _take_next(futures: dict[Future, Any], keep: Callable, finish: Callable) -> None:
    """Take what has arrived, all of it at once; what is finished is kept before an error is told.

    To wake up, and to write, costs a good part of a small job: what ends together goes together.
    """
    concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
    time.sleep(_GATHER)
    done = [future for future in futures if future.done()]
    finished = [future for future in done if future.exception() is None]
    results = {key: rows for future in finished for key, rows in future.result().items()}
    if results:
        keep(results)
    for future in finished:
        del futures[future]
        finish(future.result())
    for future in set(done) - set(finished):
        future.result()


def _size(pool: Executor) -> int:
    """How many jobs it runs at a time; 16 of one that does not say."""
    return getattr(pool, "_max_workers", 16)


class WorkersDied(RuntimeError):
    """An executor lost its processes; what was finished is kept."""


def _given_up(losses: int, running: list) -> WorkersDied:
    times = f"{losses} times without a finished job in between" if losses > 1 else "once"
    names = "; ".join(map(str, running))
    return WorkersDied(
        f"worker processes died {times}; what was finished is kept. Running were: {names}"
    )


# --- executors ------------------------------------------------------------------------------------


def check_executor(executor: Any) -> None:
    """Refuse what is no Executor, and processes that are forked: JAX hangs in them."""
    if not isinstance(executor, Executor):
        raise TypeError(
            f"executor must be a concurrent.futures.Executor or a function that makes one, got "
            f"{executor!r}"
        )
    if not isinstance(executor, ProcessPoolExecutor):
        return
    context: Any = executor._mp_context  # pyright: ignore
    if context.get_start_method() == "fork":
        raise ValueError(
            "a process that is forked while JAX runs hangs: make the pool with "
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")), or give '
            "executor=jaxmlp.sweep.workers(2)"
        )


def in_this_process(executor: Any) -> bool:
    """Whether its jobs run here, so that they may name functions of this process."""
    return executor is None or isinstance(executor, ThreadPoolExecutor)


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def workers(number: int) -> Callable[[], ProcessPoolExecutor]:
    """Return the function that makes a pool of so many processes, each on its share of the cores.

    Example:
      >>> import jaxmlp
      >>> executor = jaxmlp.sweep.workers(2)  # jaxmlp.depth_sweep(..., executor=executor)
    """
    return functools.partial(_worker_pool, number)


def _worker_pool(number: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    count = context.Value("i", 0)
    return ProcessPoolExecutor(number, context, _begin_worker, (count, number))


def _begin_worker(count: Any, number: int) -> None:
    """Keep to a share of the cores, leave interrupts to the parent, and end when it does."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with count.get_lock():
        rank, count.value = count.value, count.value + 1
    if hasattr(os, "sched_setaffinity"):  # before the backend starts: XLA counts them then
        mine = cores()[rank::number] or [cores()[rank % len(cores())]]
        os.sched_setaffinity(0, mine)


def _end_with_parent() -> None:
    """A worker whose parent was killed waits for jobs for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
