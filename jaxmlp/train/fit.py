"""Epochs of training: the host's side of the loop."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxmlp import checks
from jaxmlp.objective import Objective, check
from jaxmlp.train.loop import Data, Epoch, Run, State, run_steps, start, steps_per_epoch
from jaxmlp.train.step import as_optimizer, check_gradient

CAPACITY = 4096  # epochs that a chunk may finish, so also its most steps


class History(NamedTuple):
    """Report a `fit`, NumPy arrays with one entry for each epoch done.

    loss, accuracy: mean over the epoch's samples, each as its batch was met, before its update.
    validation_loss, validation_accuracy: after the epoch; None without validation data.
    relative_difference: `(epochs, L)`, the largest of the epoch; None unless compared.
    record: what `record` returned, stacked; entry k was taken after epoch `(k + 1) * every`.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    validation_loss: np.ndarray | None = None
    validation_accuracy: np.ndarray | None = None
    relative_difference: np.ndarray | None = None
    record: Any = None


def fit(
    J: Objective,
    params,
    X,
    Y,
    *,
    optimizer: optax.GradientTransformation | float,
    epochs: int,
    batch_size: int | None = None,
    key: Array | None = None,
    eps: float | None = None,
    gradient: str = "hand",
    validation: tuple | None = None,
    record: Callable | None = None,
    every: int = 1,
    progress: Callable | None = None,
) -> tuple[Any, History]:
    """Train for some epochs, each one pass over all samples (G3); return `(params, History)`.

    Args:
      J, params, X, Y: as `Objective` takes them.
      optimizer: an optax optimiser, or the learning rate of plain gradient descent.
      epochs: how many passes.
      batch_size: samples per update: None for all (gradient descent), 1 for one at a time, else
        mini-batches. A last smaller batch is used, as the mean over its own samples; more than
        there are samples means all.
      key: shuffles the samples anew in every epoch; None keeps their order.
      eps: stop after the first epoch whose loss is at most eps (G2).
      gradient: "hand", "jax" or "compare".
      validation: `(X, Y)` to evaluate after every epoch.
      record: `record(params, X, Y)` -> pytree of arrays, called after every `every` epochs.
      progress: `progress(epochs_done, loss)`, called between chunks of steps of under a second.

    Raises:
      ValueError, TypeError: as `Objective` and `train_step`; for epochs < 0, batch_size or every
        < 1, eps that is no number.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmlp import MLP
      >>> J = Objective(MLP((1, 1), output="linear"), "half_squared_error")
      >>> X = jnp.linspace(-1, 1, 9)[:, None]
      >>> params, history = fit(J, J.mlp.init(jax.random.key(0)), X, 3 * X[:, 0] + 1,
      ...                       optimizer=0.5, epochs=100)
      >>> round(float(params[0].W[0, 0]), 3), round(float(params[0].b[0]), 3)
      (3.0, 1.0)
    """
    # Refuse what does not fit
    every = checks.integer("every", every, at_least=1)
    epochs = checks.integer("epochs", epochs, at_least=0)
    optimizer = as_optimizer(optimizer)
    run, params, data = prepare(
        J, params, X, Y, optimizer, gradient, batch_size, key, eps, validation
    )

    # Train in chunks; between them the host has its say
    state, steps = start(run, params, data), functools.partial(run_steps, run)
    reached, records = Reached(state, 0, []), []
    between = epochs if record is None else every
    for reached in advance(run, steps, state, data, epochs, between):
        epochs_done, within = divmod(reached.done, steps_per_epoch(run, data))
        if record is not None and within == 0 and epochs_done % every == 0:
            records.append(record(reached.state.params, data.X, data.Y))
        if progress is not None and len(reached.rows[-1].loss):
            progress(epochs_done, float(reached.rows[-1].loss[-1]))
    return reached.state.params, history_of(reached, records)


def prepare(
    J: Objective, params, X, Y, optimizer, gradient: str, batch_size, key, eps, validation
) -> tuple[Run, Any, Data]:
    """Return `(run, params, data)`; refuse what does not fit."""
    check_gradient(J, gradient)
    params, X, Y = check(J, params, X, Y)
    m = len(X)
    batch = m if batch_size is None else checks.integer("batch_size", batch_size, at_least=1)
    batch = min(batch, m)
    data = Data(
        X,
        Y,
        key=None if key is None or batch == m else checks.prng_key(key),
        validation=None if validation is None else _checked_validation(J, params, validation),
        eps=-jnp.inf if eps is None else _checked_eps(eps),
    )
    return Run(J, optimizer, gradient, batch, CAPACITY), params, data


def _checked_eps(eps: Any) -> float:
    if isinstance(eps, bool) or not isinstance(eps, int | float | np.number | jax.Array):
        raise TypeError(f"eps must be a number, got {eps!r}")
    if not float(eps) >= 0:
        raise ValueError(f"eps must be a number of at least 0, got {eps!r}")
    return float(eps)


def _checked_validation(J: Objective, params, validation: Any) -> tuple:
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise TypeError(f"validation must be a pair (X, Y), got {type(validation).__name__}")
    try:
        return check(J, params, *validation)[1:]
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from None


class Reached(NamedTuple):
    """How far the training has come: the state after `done` steps, each chunk's finished epochs."""

    state: State
    done: int
    rows: list[Epoch]


def advance(
    run: Run, steps: Callable, state: State, data: Data, epochs: int, between: int
) -> Iterator[Reached]:
    """Train until `epochs` are done or the state has stopped, in chunks of a tenth of a second.

    steps: `run_steps` of this run. No chunk goes on past a multiple of `between` epochs.
    """
    per_epoch, reached, size = steps_per_epoch(run, data), Reached(state, 0, []), 1
    while (left := epochs * per_epoch - reached.done) and not np.all(reached.state.stopped):
        # Take a chunk
        begun = time.perf_counter()
        until_between = between * per_epoch - reached.done % (between * per_epoch)
        n = min(size, until_between, left, run.rows)
        state, table = steps(reached.state, data, reached.done, n)

        # Read what it finished
        before, after = reached.done // per_epoch, int(np.max(state.epochs))
        rows = jax.tree.map(lambda column: np.asarray(column)[: after - before], table)  # noqa: B023
        done = after * per_epoch if np.all(state.stopped) else reached.done + n
        reached = Reached(state, done, [*reached.rows, rows])
        yield reached

        # from one step up to as many as fit in about a tenth of a second
        size = 4 * size if time.perf_counter() - begun < 0.1 else max(1, size // 2)


def history_of(reached: Reached, records: list) -> History:
    """Join the epochs of all chunks, and the records."""
    none = jax.tree.map(lambda x: np.zeros((0, *x.shape), x.dtype), reached.state.epoch)
    epochs = jax.tree.map(lambda *parts: np.concatenate(parts), none, *reached.rows)
    record = None
    if records:
        record = jax.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs]), *records)
    return History(**epochs._asdict(), record=record)
