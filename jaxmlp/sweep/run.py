"""Running jobs on an executor. What is missing is measured, and results are kept as they arrive.

This file knows neither networks nor gradients. A job has `networks`, hashable keys, and
`only(missing)`, which returns the job for some of them. `measure(job)` returns a dict by them.
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

_LOSSES = 3  # chosen: how often in a row a pool may lose a process without finishing a job
_GATHER = 0.002  # chosen: seconds for which finished jobs are collected before they are taken
_WINDOW = 4  # jobs submitted for each worker: 4 of the shortest (0.5 ms) last for _GATHER


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
    """Measure the networks of the jobs that are not held yet; keep results as they arrive.

    Args:
      measure: `measure(job)` -> results by network. It must pickle if jobs go to other processes.
      keep: `keep(results)` stores results.
      held: `held(networks)` returns which of them are already stored. It is called for each job
        before that is submitted. keep, held and progress are called in this thread.
      executor: an executor, or a function that makes one and is called again if a process of it
        dies. By default as many threads as this process has cores.
      prepare: is called once with the missing jobs, if there are any.
      progress: `progress(networks_done, networks)`.

    Raises:
      WorkersDied: if an executor loses a process and was not given as a function, or if it loses
        three without a finished job in between. It names the jobs that were running.
    """
    jobs = list(jobs)
    networks = [network for job in jobs for network in job.networks]
    total, done = len(networks), 0

    def finish(results: Any) -> None:
        nonlocal done
        done += len(results)
        if progress is not None and results:
            progress(done, total)

    # What is missing now; before each job is submitted, what other processes have stored since
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
    # Run them; if a process dies, run the unfinished ones again in a new pool
    todo, losses = missing(), 0
    while True:
        before = done
        with _pool(make) as pool:
            unfinished = _through(pool, measure, todo, keep, finish)
            if not unfinished:
                return
            losses = losses + 1 if done == before else 1
            if not callable(make) or losses == _LOSSES:
                times = f"{losses} times without a finished job in between"
                names = "; ".join(map(str, unfinished[: _size(pool)]))
                raise WorkersDied(
                    f"worker processes died {times if losses > 1 else 'once'}; what was finished "
                    f"is kept. Running were: {names}"
                )
        warnings.warn("a worker process died; its pool is made anew", RuntimeWarning, stacklevel=3)
        todo = itertools.chain(unfinished, todo)


def _without(jobs: Iterable[Any], there: set) -> Iterator[Any]:
    """Yield the jobs without the networks that are there; jobs without any left are dropped."""
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
      networks: those of all jobs, in the order of the results.
      key: `key(network)`, its key in the store.
      about: what the store notes once about this run.
      options: those of `run`.
    """
    if store is None:
        found: dict[Any, Rows] = {}
        run(measure, jobs, keep=found.update, **options)
        return lambda: {network: found[network] for network in networks}

    # Into the store, and back from it when the rows are needed
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
    """Give a pool; if it was made here, shut it down at the end."""
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
    """Run jobs in a pool, a bounded number at a time; return those lost if a process died."""
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
    except BaseException:  # also an interrupt: keep what is finished
        for future in futures:
            future.cancel()
        for future in concurrent.futures.wait(futures).done:
            if not future.cancelled() and future.exception() is None:
                with contextlib.suppress(Exception):  # so that the first error is reported
                    keep(future.result())
        raise
    return []


def _submitted(pool: Executor, measure: Callable, job: Any) -> Future:
    """Return the job's future; if the pool is broken, one that fails, so that the job is noted."""
    try:
        return pool.submit(measure, job)
    except BrokenProcessPool as error:
        lost: Future = Future()
        lost.set_exception(error)
        return lost


def _take_next(futures: dict[Future, Any], keep: Callable, finish: Callable) -> None:
    """Wait for results, keep all that have arrived, then raise the error of a job that failed.

    Results are collected for _GATHER seconds, because waking up and writing cost a good part of a
    small job.
    """
    concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
    time.sleep(_GATHER)
    done = [future for future in futures if future.done()]
    finished = [future for future in done if future.exception() is None]
    # Keep first, so that no result is lost if another job failed
    results = {key: rows for future in finished for key, rows in future.result().items()}
    if results:
        keep(results)
    for future in finished:
        del futures[future]
        finish(future.result())
    for future in set(done) - set(finished):
        future.result()


def _size(pool: Executor) -> int:
    """Return how many jobs a pool runs at a time. Chosen: 16 if it does not say."""
    return getattr(pool, "_max_workers", 16)


class WorkersDied(RuntimeError):
    """Say that an executor lost its processes. What was finished is kept."""


# --- executors ------------------------------------------------------------------------------------


def check_executor(executor: Any) -> None:
    """Refuse anything but an Executor, and one that forks processes, because JAX hangs in them."""
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
    """Return whether jobs run in this process, so that they may hold functions of it."""
    return executor is None or isinstance(executor, ThreadPoolExecutor)


def cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def workers(number: int) -> Callable[[], ProcessPoolExecutor]:
    """Return the function that makes a pool of processes, each on its share of the cores.

    Example:
      >>> import jaxmlp
      >>> executor = jaxmlp.sweep.workers(2)  # jaxmlp.depth_sweep(..., executor=executor)
    """

    def pool() -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        count = context.Value("i", 0)  # how many workers have started, for their share of the cores
        return ProcessPoolExecutor(number, context, _begin_worker, (count, number))

    return pool


def _begin_worker(count: Any, number: int) -> None:
    """Start a worker: on a share of the cores, deaf to interrupts, and ended when its parent is."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with count.get_lock():
        rank, count.value = count.value, count.value + 1
    if hasattr(os, "sched_setaffinity"):  # now, because XLA counts the cores when it starts
        share = cores()[rank::number] or [cores()[rank % len(cores())]]
        os.sched_setaffinity(0, share)


def _end_with_parent() -> None:
    """End this process when its parent ends. Otherwise it would wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
