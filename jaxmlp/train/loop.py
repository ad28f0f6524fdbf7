"""The training loop as a pure function, state -> state: compiled, with no clock and no host.

What is fixed while it runs is a `Run`, what every step reads is `Data`, what a step hands to the
next is a `State`, and what is known of an epoch is an `Epoch`. All but the first are pytrees, so
`run_steps` may be mapped over many networks: over the state, and over what differs in the data.
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
    """Hold what is known of an epoch: numbers for one, columns for many; None if not asked for.

    loss, accuracy: mean over the samples, each as its batch was met, before its update.
    validation_loss, validation_accuracy: after the epoch. relative_difference: `(L,)`, the
    largest of the epoch's steps.
    """

    loss: Any
    accuracy: Any
    validation_loss: Any = None
    validation_accuracy: Any = None
    relative_difference: Any = None


class Run(NamedTuple):
    """What is fixed while compiled steps run.

    optimizer: of optax, or, if the learning rate is data, a function of it that returns one.
    rows: how many epochs one call may finish. recompute: what of a stack is saved, as in `walk`.
    until_diverged: stop at numbers that are not finite.
    """

    J: Objective
    optimizer: Any
    gradient: str
    batch_size: int
    rows: int
    recompute: bool = False
    until_diverged: bool = False


class Data(NamedTuple):
    """What every step reads. key: None keeps the order. eps: stop at a loss of at most this."""

    X: Array
    Y: Array
    key: Any
    validation: tuple | None
    eps: Any
    learning_rate: Any = None


class State(NamedTuple):
    """All that a step hands to the next.

    order: the epoch's shuffled samples, None without a key. epoch: that of the epoch under way,
    summed over its batches so far. epochs: how many are done. stopped: whether eps is reached, or
    diverged: whether the loss or a parameter is not finite, and the run asks.
    """

    params: Any
    opt_state: Any
    order: Array | None
    epoch: Epoch
    epochs: Array
    stopped: Array
    diverged: Array


def steps_per_epoch(run: Run, data: Data) -> int:
    """Return the number of batches, the last and perhaps smaller one included."""
    return -(-len(data.X) // run.batch_size)


@functools.partial(jax.jit, static_argnums=0)
def start(run: Run, params, data: Data) -> tuple[State, Array]:
    """Return the state before the first step, and whether all parameters are finite."""
    dtype = data.X.dtype
    loss = jnp.zeros((), jnp.promote_types(dtype, jnp.float32))
    share = jnp.zeros((), jnp.float32)
    validation = (None, None) if data.validation is None else (loss, share)
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
    """Take `num_steps` steps, none after a stop.

    Args:
      done: `(epochs, steps of the next)`, so that no count outgrows 32 bits.

    Returns:
      The state, and the epochs: columns of `run.rows` entries, those finished here first.
    """

    def more(carry):
        i, state, _ = carry
        return (i < num_steps) & ~state.stopped

    def body(carry):
        i, state, table = carry
        return i + 1, *take_step(run, state, table, data, done, i)

    return jax.lax.while_loop(more, body, (0, state, no_epochs(run, state)))[1:]


def no_epochs(run: Run, state: State) -> Epoch:
    """Return the columns of a table in which nothing is written yet."""
    return jax.tree.map(lambda x: jnp.zeros((run.rows, *x.shape), x.dtype), state.epoch)


def take_step(run: Run, state: State, table: Epoch, data: Data, done, i):
    """Take step i after `done`; if it is an epoch's last, write the epoch into the table."""
    per_epoch = steps_per_epoch(run, data)
    row, k = (done[1] + i) // per_epoch, (done[1] + i) % per_epoch
    if state.order is not None:
        stay = lambda order, *_: order  # noqa: E731
        order = jax.lax.cond(k == 0, _shuffled, stay, state.order, data, done[0] + row)
        state = state._replace(order=order)
    state = _one_step(run, state, data, k)
    finish = functools.partial(_finish_epoch, run)
    return jax.lax.cond(k == per_epoch - 1, finish, _go_on, state, table, row, data)


def _shuffled(order, data: Data, epoch):
    return jax.random.permutation(jax.random.fold_in(data.key, epoch), len(order))


def _one_step(run: Run, state: State, data: Data, k) -> State:
    """Take the step on batch k of the epoch; the last batch may be smaller."""
    per_epoch, m = steps_per_epoch(run, data), len(data.X)
    full = functools.partial(_step_on, run, run.batch_size)
    rest = m - (per_epoch - 1) * run.batch_size
    if rest == run.batch_size:
        return full(state, data, k)
    short = functools.partial(_step_on, run, rest)
    return jax.lax.cond(k == per_epoch - 1, short, full, state, data, k)


def _step_on(run: Run, size: int, state: State, data: Data, k) -> State:
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
    """Add a batch of `size` samples to the epoch's means over m."""
    return epoch._replace(
        loss=epoch.loss + metrics.loss * (divisor(J, size) / divisor(J, m)),
        accuracy=epoch.accuracy + metrics.accuracy * (size / m),
        relative_difference=jax.tree.map(
            jnp.maximum, epoch.relative_difference, metrics.relative_difference
        ),
    )


def _finish_epoch(run: Run, state: State, table: Epoch, row, data: Data):
    """Write the epoch into its row, begin the next, see whether to stop."""
    epoch = state.epoch
    if data.validation is not None:
        loss, accuracy = evaluate(run.J, state.params, *data.validation)
        epoch = epoch._replace(validation_loss=loss, validation_accuracy=accuracy)
    table = jax.tree.map(lambda column, x: column.at[row].set(x), table, epoch)
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


def _go_on(state: State, table: Epoch, row, data: Data):
    """Within an epoch there is nothing to write."""
    return state, table
