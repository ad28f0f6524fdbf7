"""Training: one jitted step on any optax optimiser, and `fit`, epochs of such steps."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxmlp import checks, targets
from jaxmlp.backprop import check_hand, value_and_gradient
from jaxmlp.compare import relative_difference
from jaxmlp.numerics import tree_norm
from jaxmlp.objective import Objective, check, divisor, require_objective, value_and_output

GRADIENTS = ("hand", "jax", "compare")


class Metrics(NamedTuple):
    """Report one step, all of it at the parameters before the update.

    loss: J. accuracy: share classified right, NaN for a regression. gradient_norm: over all
    parameters. relative_difference: `(L,)`, hand against `jax.grad`, None unless compared.
    """

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    relative_difference: Float[Array, " L"] | None = None


def train_step(
    J: Objective, optimizer: optax.GradientTransformation | float, gradient: str = "hand"
) -> Callable:
    """Return the jitted `step(params, opt_state, X, Y) -> (params, opt_state, Metrics)`.

    `W <- W - lr * dJ/dW` (G1) for `optax.sgd(lr)`; any optax optimiser will do.

    Args:
      J: the objective.
      optimizer: an optax optimiser, or a positive number, the learning rate of `optax.sgd`. The
        caller makes the state: `optimizer.init(params)`.
      gradient: "hand", "jax", or "compare": both, updating by hand, with the largest relative
        difference of each layer in the metrics.

    Raises:
      ValueError: for another `gradient`, a learning rate that is not positive and finite; the
        step raises as `Objective` does.

    Example:
      >>> from jaxmlp import MLP
      >>> J = Objective(MLP((2, 4, 3)), "cross_entropy")
      >>> params, optimizer = J.mlp.init(jax.random.key(0)), optax.adam(1e-2)
      >>> step = train_step(J, optimizer, gradient="compare")
      >>> X, Y = jax.random.normal(jax.random.key(1), (9, 2)), jnp.arange(9) % 3
      >>> params, opt_state, metrics = step(params, optimizer.init(params), X, Y)
      >>> bool((metrics.relative_difference < 1e-5).all())
      True
    """
    optimizer = as_optimizer(optimizer)
    _check_gradient(J, gradient)

    def step(params, opt_state, X, Y):
        params, X, Y = check(J, params, X, Y)
        return _step(J, optimizer, gradient, params, opt_state, X, Y)

    return step


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(J: Objective, optimizer, gradient: str, params, opt_state, X, Y):
    value, A, grads, difference = _gradient(J, gradient, params, X, Y)
    update = optax.with_extra_args_support(optimizer).update
    extra = {"value": value, "grad": grads, "value_fn": lambda p: value_and_output(J, p, X, Y)[0]}
    updates, opt_state = update(grads, opt_state, params, **extra)
    metrics = Metrics(value, _accuracy(J, A, Y), tree_norm(grads), difference)
    return optax.apply_updates(params, updates), opt_state, metrics


def _gradient(J: Objective, gradient: str, params, X, Y):
    """J, A[L], the gradient, and the difference between the two routes when both are taken."""
    if gradient != "hand":
        auto = jax.value_and_grad(lambda p: value_and_output(J, p, X, Y), has_aux=True)
        (value, A), reference = auto(params)
        if gradient == "jax":
            return value, A, reference, None
    value, A, grads, _ = value_and_gradient(J, params, X, Y)
    difference = relative_difference(grads, reference) if gradient == "compare" else None
    return value, A, grads, difference


def as_optimizer(optimizer: Any) -> optax.GradientTransformation:
    """Return an optax optimiser as it is, a number as gradient descent with that learning rate."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    if isinstance(optimizer, int | float | np.number | np.ndarray | jax.Array):
        return _sgd(checks.positive_number("the learning rate", optimizer))
    raise TypeError(f"optimizer must be an optax optimiser or a learning rate, got {optimizer!r}")


# equal numbers give the same object, so that jit finds what it has compiled
_sgd = functools.cache(optax.sgd)


def _check_gradient(J: Any, gradient: str) -> None:
    if gradient not in GRADIENTS:
        raise checks.unknown_name("gradient", str(gradient), GRADIENTS)
    if gradient == "jax":
        require_objective(J)
    else:
        check_hand(J)


# --- epochs ---------------------------------------------------------------------------------------


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


class _Totals(NamedTuple):
    """Sums over the batches of the epoch so far."""

    loss: Array
    accuracy: Array
    relative_difference: Array | None


class _State(NamedTuple):
    """All that a step hands to the next."""

    params: Any
    opt_state: Any
    order: Any  # the shuffled samples, None without a key
    totals: _Totals


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
):
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
      >>> from jaxmlp import MLP
      >>> J = Objective(MLP((1, 1), output="linear"), "half_squared_error")
      >>> X = jnp.linspace(-1, 1, 9)[:, None]
      >>> params, history = fit(J, J.mlp.init(jax.random.key(0)), X, 3 * X[:, 0] + 1,
      ...                       optimizer=0.5, epochs=100)
      >>> round(float(params[0].W[0, 0]), 3), round(float(params[0].b[0]), 3)
      (3.0, 1.0)
    """
    optimizer = as_optimizer(optimizer)
    _check_gradient(J, gradient)
    params, X, Y = check(J, params, X, Y)
    epochs = checks.integer("epochs", epochs, at_least=0)
    every = checks.integer("every", every, at_least=1)
    m = X.shape[0]
    batch = m if batch_size is None else checks.integer("batch_size", batch_size, at_least=1)
    batch = min(batch, m)
    key = None if key is None or batch == m else checks.prng_key(key)
    eps = -jnp.inf if eps is None else _checked_eps(eps)
    if validation is not None:
        validation = _checked_validation(J, params, validation)

    data = _Data(X, Y, key, validation, eps)
    state = _start(J, optimizer, gradient, params, data)
    run = _Run(J, optimizer, gradient, batch)
    per_epoch = -(-m // batch)
    num_steps, between = epochs * per_epoch, every * per_epoch if record else epochs * per_epoch
    tables, records = [], []
    done, chunk, stop = 0, 1, False
    while done < num_steps and not stop:
        begun = time.perf_counter()
        n = min(chunk, between - done % between, num_steps - done, _CAPACITY)
        state, table, taken, stop = _steps(run, state, data, done, n)
        epochs_before, done = done // per_epoch, done + int(taken)
        finished = done // per_epoch - epochs_before
        tables.append([np.asarray(column)[:finished] for column in table])
        if record is not None and done % between == 0:
            records.append(record(state.params, X, Y))
        if progress is not None and finished:
            progress(done // per_epoch, float(tables[-1][0][-1]))
        # from one step up to as many as fit in about a tenth of a second
        chunk = 4 * chunk if time.perf_counter() - begun < 0.1 else max(1, chunk // 2)
    return state.params, _history(J, gradient, validation is not None, tables, records)


_CAPACITY = 4096  # steps in a chunk at most; the rows of its table


class _Data(NamedTuple):
    """What all steps read."""

    X: Array
    Y: Array
    key: Any
    validation: tuple | None
    eps: Array | float


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _start(J: Objective, optimizer, gradient: str, params, data: _Data) -> _State:
    order = None if data.key is None else jnp.arange(len(data.X))
    return _State(params, optimizer.init(params), order, _no_totals(J, gradient, data.X.dtype))


def _no_totals(J: Objective, gradient: str, dtype) -> _Totals:
    zero = jnp.zeros((), jnp.promote_types(dtype, jnp.float32))
    difference = jnp.zeros(J.mlp.num_layers, dtype) if gradient == "compare" else None
    return _Totals(zero, jnp.zeros((), jnp.float32), difference)


class _Run(NamedTuple):
    """What is fixed while compiled steps run."""

    J: Objective
    optimizer: optax.GradientTransformation
    gradient: str
    batch: int


@functools.partial(jax.jit, static_argnums=0)
def _steps(run: _Run, state: _State, data: _Data, done, n):
    """Take n steps from step `done` on, fewer if eps is reached; one table row for each epoch."""
    m = len(data.X)
    per_epoch = -(-m // run.batch)
    rest = m - (per_epoch - 1) * run.batch  # samples of an epoch's last batch
    shapes = jax.eval_shape(functools.partial(_columns, run.J), state.params, state.totals, data)
    table = jax.tree.map(lambda x: jnp.zeros((_CAPACITY, *x.shape), x.dtype), shapes)

    def body(carry):
        i, state, table, _ = carry
        epoch, k = (done + i) // per_epoch, (done + i) % per_epoch
        last, at = k == per_epoch - 1, k * run.batch
        if state.order is not None:
            state = jax.lax.cond(k == 0, _shuffled, lambda state, *_: state, state, data, epoch)
        full = functools.partial(_one_batch, run, run.batch)
        short = functools.partial(_one_batch, run, rest)
        if rest == run.batch:
            state = full(state, data, at)
        else:
            state = jax.lax.cond(last, short, full, state, data, at)
        close = functools.partial(_close_epoch, run)
        state, table, stop = jax.lax.cond(
            last, close, _stay, state, table, epoch - done // per_epoch, data
        )
        return i + 1, state, table, stop

    def more(carry):
        i, _, _, stop = carry
        return (i < n) & ~stop

    i, state, table, stop = jax.lax.while_loop(more, body, (0, state, table, jnp.array(False)))
    return state, table, i, stop


def _shuffled(state: _State, data: _Data, epoch) -> _State:
    order = jax.random.permutation(jax.random.fold_in(data.key, epoch), len(data.X))
    return state._replace(order=order)


def _one_batch(run: _Run, size: int, state: _State, data: _Data, at) -> _State:
    """Take the step of the samples at..at+size-1 in the epoch's order."""
    rows = jax.lax.dynamic_slice_in_dim
    if state.order is None:
        X, Y = rows(data.X, at, size), rows(data.Y, at, size)
    else:
        taken = rows(state.order, at, size)
        X, Y = data.X[taken], data.Y[taken]
    J, m = run.J, len(data.X)
    params, opt_state, metrics = _step(
        J, run.optimizer, run.gradient, state.params, state.opt_state, X, Y
    )
    loss, accuracy, worst = state.totals
    totals = _Totals(
        loss + metrics.loss * (divisor(J, size) / divisor(J, m)),
        accuracy + metrics.accuracy * (size / m),
        jax.tree.map(jnp.maximum, worst, metrics.relative_difference),
    )
    return _State(params, opt_state, state.order, totals)


def _close_epoch(run: _Run, state: _State, table, row, data: _Data):
    """Write the epoch's row, begin new totals, see whether eps is reached."""
    columns = _columns(run.J, state.params, state.totals, data)
    table = jax.tree.map(lambda all, one: all.at[row].set(one), table, columns)
    fresh = _no_totals(run.J, run.gradient, data.X.dtype)
    return state._replace(totals=fresh), table, state.totals.loss <= data.eps


def _stay(state: _State, table, row, data: _Data):
    """Within an epoch there is nothing to write."""
    return state, table, jnp.array(False)


def _columns(J: Objective, params, totals: _Totals, data: _Data) -> list[Array]:
    """One row of the table: loss, accuracy, then those on validation data, then differences."""
    columns = [totals.loss, totals.accuracy]
    if data.validation is not None:
        X, Y = data.validation
        value, A = value_and_output(J, params, X, Y)
        columns += [value, _accuracy(J, A, Y)]
    return columns if totals.relative_difference is None else [*columns, totals.relative_difference]


def _accuracy(J: Objective, A, Y):
    rows = targets.targets_as_rows(J.loss, Y, A.shape[1], A.dtype)
    return targets.accuracy(J.loss, J.mlp.output, A, rows)


def _history(J: Objective, gradient: str, validated: bool, tables, records) -> History:
    names = ["loss", "accuracy"]
    names += ["validation_loss", "validation_accuracy"] if validated else []
    names += ["relative_difference"] if gradient == "compare" else []
    shapes = {"relative_difference": (0, J.mlp.num_layers)}
    columns = [np.concatenate(column) for column in zip(*tables, strict=True)] or [
        np.zeros(shapes.get(name, 0), np.float32) for name in names
    ]
    record = (
        jax.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs]), *records)
        if records
        else None
    )
    return History(**dict(zip(names, columns, strict=True)), record=record)


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
