"""The host's side of training: chunks of compiled steps, and their results joined."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp import report
from jaxmlp.train.loop import Data, Epoch, Run, State, steps_per_epoch


class History(NamedTuple):
    """Report a training: NumPy arrays with one entry for each epoch, of `fit_many` `(n, epochs)`.

    loss, accuracy: means over the epoch's samples, each computed when its batch came, before the
    update.
    validation_loss, validation_accuracy: after the epoch; None without validation data.
    relative_difference: `(epochs, L)`, the largest of the epoch; None unless `gradient="compare"`.
    record: what `record` returned, stacked; a list if the shapes differ. Entry k was recorded after
    epoch `(k + 1) * every`.
    diverged: `(n,)`, whether a network of `fit_many` stopped because a number was not finite.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    validation_loss: np.ndarray | None = None
    validation_accuracy: np.ndarray | None = None
    relative_difference: np.ndarray | None = None
    record: Any = None
    diverged: np.ndarray | None = None

    def __repr__(self):
        return report.text_of(self, _shown)

    def _repr_html_(self):
        return report.html_of(self, _shown)


def _shown(history: History) -> report.Shown:
    """Return a row for each epoch; of several networks one for each network, after its end."""
    kept = "" if history.record is None else f"record: {_kind(history.record)}"
    curves = history._asdict() | {"record": None, "diverged": None}
    if np.ndim(history.loss) == 1:
        if history.relative_difference is not None:
            curves["relative_difference"] = np.max(history.relative_difference, axis=1)
        line = f"History of {len(history.loss):,} epochs"
        return report.Shown(line, report.every_few(curves, "epoch"), note=kept)
    n, epochs = history.loss.shape
    curves["relative_difference"] = None
    ends = {name: x[:, -1] for name, x in curves.items() if x is not None}
    rows = report.every_few({**ends, "diverged": history.diverged}, "network")
    line = f"History of {n:,} networks, where each is after {epochs:,} epochs"
    return report.Shown(line, rows, note=kept)


def _kind(record: Any) -> str:
    shape = getattr(record, "shape", None)
    return type(record).__name__ if shape is None else f"{record.dtype}{list(shape)}"


class Reached(NamedTuple):
    """Hold how far a training is: the state after `done` steps, and the epochs of each chunk."""

    state: State
    done: int
    rows: list[Epoch]


def advance(
    run: Run, steps: Callable, reached: Reached, data: Data, total: int, between: Sequence[int]
) -> Iterator[Reached]:
    """Train until `total` steps are done or the state says stop; yield every tenth of a second.

    steps: `run_steps` of this run. between: numbers of steps; a chunk ends at every multiple of
    each of them.
    """
    per_epoch, size = steps_per_epoch(run, data), 1
    while (left := total - reached.done) and not np.all(reached.state.stopped):
        # Take a chunk
        begun = time.perf_counter()
        until_between = [multiple - reached.done % multiple for multiple in between]
        n = min(size, left, run.rows, *until_between)
        before, within = divmod(reached.done, per_epoch)
        at = np.array([before, within], np.int32)
        state, table = steps(reached.state, data, at, np.int32(n))

        # Read what it finished
        after = int(np.max(state.epochs))
        rows = jax.tree.map(lambda column: np.asarray(column)[: after - before], table)  # noqa: B023
        done = after * per_epoch if np.all(state.stopped) else reached.done + n
        reached = Reached(state, done, [*reached.rows, rows])
        yield reached

        # The next chunk is 4 times as long, or half as long if this one took over 0.1 s (chosen, so
        # that Ctrl-C and progress answer at once)
        size = 4 * size if time.perf_counter() - begun < 0.1 else max(1, size // 2)


def epochs_of(reached: Reached) -> Epoch:
    """Join the finished epochs of all chunks."""
    none = jax.tree.map(lambda x: np.zeros((0, *x.shape), x.dtype), reached.state.epoch)
    return jax.tree.map(lambda *parts: np.concatenate(parts), none, *reached.rows)


def history_of(reached: Reached, records: list) -> History:
    """Join the epochs of all chunks, and the records; these are stacked if their shapes agree."""
    epochs = epochs_of(reached)._asdict()
    kinds = {(jax.tree.structure(r), *map(np.shape, jax.tree.leaves(r))) for r in records}
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *records) if len(kinds) == 1 else records
    return History(**epochs, record=stacked if records else None)


@contextlib.contextmanager
def nothing_lost(where: Callable[[], str], trained: Callable[[], tuple[Any, History]]):
    """End the block with a warning at Ctrl-C; attach what was trained to any other exception."""
    try:
        try:
            yield
        except KeyboardInterrupt:
            warnings.warn(f"stopped by Ctrl-C {where()}", UserWarning, stacklevel=4)
    except BaseException as error:  # the warning too, if Python is told to raise warnings
        error.trained = trained()  # pyright: ignore[reportAttributeAccessIssue]
        error.add_note(f"stopped {where()}: this exception's .trained is (params, history) so far")
        raise
