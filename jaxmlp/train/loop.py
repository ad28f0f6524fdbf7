"""The training loop as a pure, compiled function, state -> state.

A `Run` holds what is fixed, `Data` what every step reads, a `State` what one step passes to the
next, and an `Epoch` the results of an epoch. All but the Run are pytrees, so the loop can be mapped
over many networks.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxmlp.objective import Objective, divisor
from jaxmlp.train.optimizers import as_optimizer
from jaxmlp.train.step import Metrics, evaluate, update


class Epoch(NamedTuple):
    """Hold the results of one epoch, or columns of many; None for what was not asked for.

    loss, accuracy: means over the samples, each computed when its batch came, before the update.
    validation_loss, validation_accuracy: after the epoch. relative_difference: `(L,)`, the
    largest of the epoch's steps.
    """

    loss: Any
    accuracy: Any
    validation_loss: Any = None
    validation_accuracy: Any = None
    relative_difference: Any = None


class Run(NamedTuple):
    """Hold what is fixed when the steps are compiled.

    optimizer: optax's; if the learning rate is in the Data, a function of it that returns one.
    rows: how many epochs one call may finish. recompute: as in `walk`. until_diverged: whether to
    stop if the loss or a parameter is not finite.
    """

    J: Objective
    optimizer: Any
    gradient: str
    batch_size: int
    rows: int
    recompute: bool = False
    until_diverged: bool = False


class Data(NamedTuple):
    """Hold what every step reads.

    key: shuffles the samples; None keeps their order. eps: stop if an epoch's loss is at most eps.
    """

    X: Array
    Y: Array
    key: Any
    validation: tuple | None
    eps: Any
    learning_rate: Any = None


class State(NamedTuple):
    """Hold all that one step passes to the next.

    order: the shuffled samples of this epoch, None without a key. epoch: the sums over the batches
    of this epoch so far. epochs: how many are finished. diverged: whether the loss or a parameter
    is not finite, if the Run asks. stopped: whether it diverged or eps is reached.
    """

    params: Any
    opt_state: Any
    order: Array | None
    epoch: Epoch
    epochs: Array
    stopped: Array
    diverged: Array


def steps_per_epoch(run: Run, data: Data) -> int:
    """Return the number of batches of an epoch; the last may be smaller."""
    return -(-len(data.X) // run.batch_size)


@functools.partial(jax.jit, static_argnums=0)
def start(run: Run, params, data: Data) -> tuple[State, Array]:
    """Return the state before the first step, and whether all parameters are finite."""
    dtype = data.X.dtype
    loss = jnp.zeros((), jnp.promote_types(dtype, jnp.float32))
    share = jnp.zeros((), jnp.float32)
    validation = (None, None) if data.validation is None else (loss, share)
    # The sums of an epoch start at 0, in the dtypes that a step gives
    compared = run.gradient == "compare"
    difference = jnp.zeros(run.J.mlp.num_layers, dtype) if compared else None
    state = State(
        params=params,
        opt_state=_optimizer(run, data).init(params),
        order=None if data.key is None else jnp.arange(len(data.X)),
        epoch=Epoch(loss, share, *validation, difference),
        epochs=jnp.zeros((), jnp.int32),
        stopped=jnp.array(False),
        diverged=jnp.array(False),
    )
    return state, all_finite(params)


def _optimizer(run: Run, data: Data) -> optax.GradientTransformation:
    if data.learning_rate is None:
        return run.optimizer
    return as_optimizer(run.optimizer(data.learning_rate))


def all_finite(tree) -> Array:
    """Return whether every entry of every leaf is a finite number."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


@functools.partial(jax.jit, static_argnums=0)
def run_steps(run: Run, state: State, data: Data, done, num_steps) -> tuple[State, Epoch]:
    """Take `num_steps` steps, but none after a stop.

    Args:
      done: how many steps were taken before, as `(epochs, steps of the next epoch)`: two numbers
        that fit in 32 bits.

    Returns:
      The state, and a table of epochs: columns of `run.rows` entries, first those finished here.
    """

    def more(carry):
        i, state, _ = carry
        return (i < num_steps) & ~state.stopped

    def body(carry):
        i, state, table = carry
        return i + 1, *take_step(run, state, table, data, done, i)

    return jax.lax.while_loop(more, body, (0, state, no_epochs(run, state)))[1:]


def no_epochs(run: Run, state: State) -> Epoch:
    """Return an empty table of epochs."""
    return jax.tree.map(lambda x: jnp.zeros((run.rows, *x.shape), x.dtype), state.epoch)


def take_step(run: Run, state: State, table: Epoch, data: Data, done, i):
    """Take step i after `done`. If it is the last of an epoch, write the epoch into the table."""
    per_epoch, m = steps_per_epoch(run, data), len(data.X)
    row, k = (done[1] + i) // per_epoch, (done[1] + i) % per_epoch  # epoch of this call; batch
    # Shuffle at the first batch
    if state.order is not None:
        shuffle = lambda epoch: jax.random.permutation(jax.random.fold_in(data.key, epoch), m)  # noqa: E731
        keep = lambda _: state.order  # noqa: E731
        state = state._replace(order=jax.lax.cond(k == 0, shuffle, keep, done[0] + row))
    # Update; the last batch may be smaller, and has a compiled step for its size
    full = functools.partial(_step_on, run, run.batch_size)
    rest = m - (per_epoch - 1) * run.batch_size
    if rest == run.batch_size:
        state = full(state, data, k)
    else:
        short = functools.partial(_step_on, run, rest)
        state = jax.lax.cond(k == per_epoch - 1, short, full, state, data, k)
    # Finish at the last batch
    finish = functools.partial(_finish_epoch, run)
    go_on = lambda state, table, *_: (state, table)  # noqa: E731
    return jax.lax.cond(k == per_epoch - 1, finish, go_on, state, table, row, data)


def _step_on(run: Run, size: int, state: State, data: Data, k) -> State:
    """Take the step on batch k, which has `size` samples."""
    # Take the samples of the batch
    rows = functools.partial(
        jax.lax.dynamic_slice_in_dim, start_index=k * run.batch_size, slice_size=size
    )
    if state.order is None:
        X, Y = rows(data.X), rows(data.Y)
    else:
        X, Y = data.X[rows(state.order)], data.Y[rows(state.order)]

    # Update, and add to the epoch
    params, opt_state, metrics = update(
        run.J,
        _optimizer(run, data),
        run.gradient,
        state.params,
        state.opt_state,
        X,
        Y,
        recompute=run.recompute,
    )
    epoch = _add(run.J, state.epoch, metrics, size, len(data.X))
    return state._replace(params=params, opt_state=opt_state, epoch=epoch)


def _add(J: Objective, epoch: Epoch, metrics: Metrics, size: int, m: int) -> Epoch:
    """Add a batch of `size` samples to the epoch's means over m samples."""
    return epoch._replace(
        loss=epoch.loss + metrics.loss * (divisor(J, size) / divisor(J, m)),
        accuracy=epoch.accuracy + metrics.accuracy * (size / m),
        relative_difference=jax.tree.map(
            jnp.maximum, epoch.relative_difference, metrics.relative_difference
        ),
    )


def _finish_epoch(run: Run, state: State, table: Epoch, row, data: Data):
    """Write the epoch into its row, begin the next epoch, and decide whether to stop."""
    epoch = state.epoch
    if data.validation is not None:
        loss, accuracy = evaluate(run.J, state.params, *data.validation)
        epoch = epoch._replace(validation_loss=loss, validation_accuracy=accuracy)
    table = jax.tree.map(lambda column, x: column.at[row].set(x), table, epoch)
    # The next epoch begins with sums of 0, unless this one was the last
    diverged = state.diverged
    if run.until_diverged:
        diverged = ~all_finite((epoch.loss, state.params))
    state = state._replace(
        epoch=jax.tree.map(jnp.zeros_like, epoch),
        epochs=state.epochs + 1,
        stopped=(epoch.loss <= data.eps) | diverged,
        diverged=diverged,
    )
    return state, table
