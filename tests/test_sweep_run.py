"""Running and storing a sweep: if a part is killed, nothing is lost or done twice."""

import collections
import contextlib
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import sweep_jobs
from sweep_jobs import jobs, measure, rows, sweep

from jaxmlp.sweep import store as stores
from jaxmlp.sweep.run import WorkersDied, run, workers
from jaxmlp.sweep.store import Store

NUMBER = 60
KILLS = int(os.environ.get("KILLS", "2"))  # 20 in the measurement that the README tells of


def assert_whole(found, number=NUMBER):
    assert list(found) == list(range(number))
    with np.errstate(all="ignore"):
        for network, own in found.items():
            for name, column in rows(network).items():
                np.testing.assert_array_equal(own[name], column)
                assert own[name].dtype == column.dtype


def integrity(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


# --- what is killed -------------------------------------------------------------------------------


def test_a_worker_that_is_killed_is_replaced_and_what_is_finished_is_not_done_again():
    pools, kept = [], collections.Counter()
    number = 20 * KILLS
    deadly = set(random.sample(range(0, number - 8, 2), KILLS))

    def make():
        pools.append(workers(1 if KILLS == 2 else 2)())
        return pools[-1]

    def keep(results):
        kept.update(results.keys())
        if deadly & results.keys():
            time.sleep(random.uniform(0, 0.02))
            os.kill(random.choice(list(pools[-1]._processes)), signal.SIGKILL)

    with pytest.warns(RuntimeWarning, match="a worker process died; its pool is made anew") as told:
        run(measure, jobs(number, 0.02), keep=keep, executor=make)
    assert kept == dict.fromkeys(range(number), 1)
    assert len(told) == len(pools) - 1
    assert 1 <= len(told) <= KILLS  # two may die in one pool


class Dying(ThreadPoolExecutor):
    """A pool of processes in which the job of network 2 kills its worker."""

    dead = False

    def submit(self, function, /, *args, **kwargs):
        self.dead |= 2 in args[0].networks
        if not self.dead:
            finished = super().submit(function, *args, **kwargs)
            finished.result()
            return finished
        future = Future()
        future.set_exception(BrokenProcessPool("a process died"))
        return future


def test_a_job_that_kills_its_worker_is_named_after_the_third_time():
    kept = collections.Counter()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(WorkersDied, match=r"died 3 times .*networks=\[2, 3\]"):
            run(measure, jobs(4), keep=lambda results: kept.update(results.keys()),
                executor=lambda: Dying(1))  # fmt: skip
    assert kept == {0: 1, 1: 1}
    assert len(told) == 2
    with pytest.raises(WorkersDied, match="died once; what was finished is kept"), Dying(1) as own:
        run(measure, jobs(4), keep=lambda _: None, executor=own)


def test_a_sweep_that_is_killed_goes_on_from_its_store(tmp_path):
    store, log = tmp_path / "sweep.db", tmp_path / "log"
    command = [sys.executable, sweep_jobs.__file__, str(store), str(log), str(10 * NUMBER)]
    env = os.environ | {"PYTHONPATH": str(Path(stores.__file__).parents[2])}
    for _ in range(KILLS):
        before = held(store)
        lines = len(log.read_text().split()) if log.exists() else 0
        child = subprocess.Popen(command, env=env)
        while held(store) == before:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.05))
        child.kill()
        child.wait()
        measured = log.read_text().split()[lines:]
        assert not before & set(measured)  # what was stored is not measured again
        assert before < held(store)
    assert_whole(sweep(store, log, 10 * NUMBER), 10 * NUMBER)
    assert integrity(store) == "ok"


def held(path):
    if not path.exists():
        return set()
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
            return {key for (key,) in connection.execute("SELECT key FROM result")}
    except sqlite3.OperationalError:  # not made yet
        return set()


def test_an_interrupt_keeps_what_is_finished(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    store, log = tmp_path / "sweep.db", tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        sweep(store, log, NUMBER, progress=interrupt, executor=ThreadPoolExecutor(2))
    measured = log.read_text().split()
    assert len(measured) < NUMBER
    assert held(store) == set(measured)  # those that were running too
    assert_whole(sweep(store, log, NUMBER))
    assert sorted(map(int, log.read_text().split())) == list(range(NUMBER))


def test_two_sweeps_share_a_store(tmp_path):
    store, log = tmp_path / "sweep.db", tmp_path / "log"
    with ThreadPoolExecutor(2) as both:
        for found in both.map(lambda n: sweep(store, log, n), (NUMBER, 2 * NUMBER)):
            assert_whole(found, len(found))
    assert integrity(store) == "ok"
    assert len(held(store)) == 2 * NUMBER


# --- executors ------------------------------------------------------------------------------------


def test_processes_that_are_forked_are_refused_at_once():
    begun = time.perf_counter()
    forked = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    with forked as pool, pytest.raises(ValueError, match=r"forked while JAX runs hangs.*spawn"):
        run(measure, jobs(2), keep=print, executor=pool)
    assert time.perf_counter() - begun < 1


def test_what_is_no_executor_is_refused():
    with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor"):
        run(measure, jobs(2), keep=print, executor=4)


def test_an_error_of_a_job_ends_the_sweep_and_what_is_finished_is_kept(tmp_path):
    def fail(job):
        if job.networks[0] == 8:
            raise FloatingPointError("eight")
        return measure(job)

    kept = []
    with ThreadPoolExecutor(1) as pool, pytest.raises(FloatingPointError, match="eight"):
        run(fail, jobs(NUMBER, 0), keep=kept.append, executor=pool)
    assert {0, 1, 2, 3, 4, 5, 6, 7} <= {network for results in kept for network in results}


def test_a_bounded_number_of_jobs_waits_and_progress_is_told_in_this_thread():
    waiting, seen = [], []

    class Counting(ThreadPoolExecutor):
        def submit(self, *args):
            waiting.append(self._work_queue.qsize())
            return super().submit(*args)

    def progress(done, total):
        seen.append((done, total, threading.current_thread()))

    with Counting(2) as pool:
        run(measure, jobs(NUMBER, 0.001), keep=lambda _: None, executor=pool, progress=progress)
    assert max(waiting) <= 8
    assert seen[-1] == (NUMBER, NUMBER, threading.main_thread())


# --- the file -------------------------------------------------------------------------------------


def made(tmp_path, number=NUMBER):
    path = tmp_path / "sweep.db"
    sweep(path, tmp_path / "log", number)
    return path


def test_a_store_of_a_newer_schema_is_refused(tmp_path):
    path = made(tmp_path, 2)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"newer jaxmlp \(schema 99, this one knows 1\)"):
        sweep(path, tmp_path / "log", NUMBER)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "text", "foreign"])
def test_a_damaged_or_foreign_file_is_refused_and_left_as_it_is(damage, tmp_path):
    path = made(tmp_path)
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "overwritten":
        path.write_bytes(data[:8192] + b"\xff" * 4096 + data[12288:])  # the page of the results
    elif damage == "text":
        path.write_text("no database, " * 100)
    else:
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"damaged or no store|something else than a sweep"):
        sweep(path, tmp_path / "log", NUMBER)
    assert path.read_bytes() == before


def test_a_full_disk_is_one_sentence_and_the_sweep_goes_on_when_there_is_room(
    tmp_path, monkeypatch
):
    path, log = made(tmp_path, 4), tmp_path / "log"
    one = Store._one

    def small(self, statement, *values):  # as on a disk of so many pages
        self._connection.execute("PRAGMA max_page_count = 8")
        return one(self, statement, *values)

    monkeypatch.setattr(Store, "_one", small)
    with pytest.raises(ValueError, match=r"database or disk is full; what it holds is kept"):
        sweep(path, log, 4 * NUMBER)
    monkeypatch.undo()
    kept = held(path)
    assert 4 <= len(kept) < 4 * NUMBER
    assert integrity(path) == "ok"
    log.unlink()
    assert_whole(sweep(path, log, 4 * NUMBER), 4 * NUMBER)
    assert not kept & set(log.read_text().split())


@pytest.mark.parametrize("name", ["nowhere/sweep.db", "folder"])
def test_a_path_that_cannot_be_a_store_is_refused(name, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"there is no folder|unable to open"):
        sweep(tmp_path / name, tmp_path / "log", 2)


def test_what_made_a_result_is_written_once_for_a_run(tmp_path):
    path = made(tmp_path, 4)
    sweep(path, tmp_path / "log", 8)
    sweep(path, tmp_path / "log", 8)  # measures nothing
    with contextlib.closing(sqlite3.connect(path)) as connection:
        runs = connection.execute("SELECT about FROM run").fetchall()
        strict = connection.execute("SELECT strict FROM pragma_table_list WHERE name='result'")
        assert strict.fetchone() == (1,)
    assert len(runs) == 2
    assert all('"jax": "' in about for (about,) in runs)
