"""Epochs of training: `fit`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxmlp import checks
from jaxmlp.objective import Objective, check
from jaxmlp.storage import layers
from jaxmlp.train.host import History, Reached, advance, history_of, nothing_lost
from jaxmlp.train.loop import Data, Run, run_steps, start, steps_per_epoch
from jaxmlp.train.optimizers import as_optimizer
from jaxmlp.train.step import check_gradient

CAPACITY = 4096  # epochs that a chunk may finish, so also its most steps


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

    Ctrl-C stops the training and nothing else: `fit` warns (UserWarning) and returns what it has,
    a shorter history with it; in the middle of an epoch the parameters are a few steps ahead. Any
    other exception, of `record` say, carries `(params, History)` so far as its `.trained`.

    Raises:
      ValueError, TypeError: as `Objective` and `train_step`; for epochs < 0, batch_size or every
        < 1, eps that is no number, parameters that are not finite; within `jax.jit`.

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
    refuse_tracers("fit", params, X, Y, optimizer, key, eps, validation)
    every = checks.integer("every", every, at_least=1)
    optimizer = as_optimizer(optimizer)
    run, params, data = prepare(
        J, params, X, Y, optimizer, gradient, batch_size, key, eps, validation
    )
    epochs = checked_epochs(epochs, run, data)
    state, finite = start(run, params, data)
    if not finite:
        refuse_not_finite(params)

    def where() -> str:
        done, steps = divmod(reached.done, per_epoch)
        part = f" and {steps} of the {per_epoch} steps of the next" if steps else ""
        return f"after epoch {done} of {epochs}{part}"

    def trained():
        return reached.state.params, history_of(reached, records)

    # Train in chunks; between them the host has its say
    reached, records, per_epoch = Reached(state, 0, []), [], steps_per_epoch(run, data)
    steps, between = functools.partial(run_steps, run), epochs if record is None else every
    with nothing_lost(where, trained):
        for reached in advance(run, steps, state, data, epochs, between):
            epochs_done, within = divmod(reached.done, per_epoch)
            if record is not None and within == 0 and epochs_done % every == 0:
                recorded = record(reached.state.params, data.X, data.Y)
                records.append(jax.tree.map(np.array, recorded))
            if progress is not None and len(reached.rows[-1].loss):
                progress(epochs_done, float(reached.rows[-1].loss[-1]))
    return trained()


def checked_epochs(epochs: Any, run: Run, data: Data) -> int:
    """Return a number of epochs whose steps can be counted in 32 bits."""
    epochs, most = checks.integer("epochs", epochs, at_least=0), 2**31 // steps_per_epoch(run, data)
    if epochs >= most:
        raise ValueError(
            f"epochs must be below {most}, 2^31 steps of this batch_size, got {epochs}"
        )
    return epochs


def refuse_tracers(name: str, *given) -> None:
    """Refuse to run under a transformation of JAX."""
    if not checks.is_concrete(*given, jnp.zeros(())):  # a tracer, within jax.jit, even so
        raise TypeError(
            f"{name} is a loop on the host and cannot be traced by jax.jit, jax.vmap or jax.grad: "
            "call it outside of them, or loop over train_step"
        )


def refuse_not_finite(params) -> None:
    """Name the first entry of the parameters that is not finite."""
    for number, layer in enumerate(layers(params), start=1):
        for name, leaf in layer._asdict().items():
            if leaf is not None:
                checks.finite(f"{name} of layer {number}", np.asarray(leaf))


def prepare(
    J: Objective, params, X, Y, optimizer, gradient: str, batch_size, key, eps, validation
) -> tuple[Run, Any, Data]:
    """Return `(run, params, data)`; refuse what does not fit."""
    check_gradient(J, gradient)
    params, X, Y = check(J, params, X, Y)
    m = len(X)
    batch = m if batch_size is None else checks.integer("batch_size", batch_size, at_least=1)
    batch = min(batch, m)
    total = jnp.promote_types(X.dtype, jnp.float32)  # the precision of the loss
    data = Data(
        X,
        Y,
        key=None if key is None or batch == m else checks.prng_key(key),
        validation=None if validation is None else _checked_validation(J, params, validation),
        eps=jnp.asarray(-np.inf if eps is None else _checked_eps(eps), total),
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
