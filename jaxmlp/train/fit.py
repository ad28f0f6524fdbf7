"""Training one network: `fit`."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxmlp import checks
from jaxmlp.objective import Objective, check
from jaxmlp.storage import layers
from jaxmlp.train import checkpoint as checkpoints
from jaxmlp.train.host import History, Reached, advance, history_of, nothing_lost
from jaxmlp.train.loop import Data, Run, run_steps, start, steps_per_epoch
from jaxmlp.train.optimizers import as_optimizer
from jaxmlp.train.step import check_gradient

CAPACITY = 4096  # chosen: the most epochs that a chunk finishes, and so also the most steps


def fit(
    J: Objective,
    params,
    X,
    Y,
    *,
    optimizer: optax.GradientTransformation | float,
    epochs: int | None = None,
    num_steps: int | None = None,
    batch_size: int | None = None,
    key: Array | None = None,
    eps: float | None = None,
    gradient: str = "hand",
    recompute: bool = False,
    validation: tuple | None = None,
    record: Callable | None = None,
    every: int = 1,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    resume: bool | str = False,
    progress: Callable | None = None,
) -> tuple[Any, History]:
    """Train for some epochs, each one pass over all samples (G3); return `(params, History)`.

    Args:
      J, params, X, Y: as `Objective` takes them.
      optimizer: an optax optimiser, or the learning rate of plain gradient descent.
      epochs: how many passes.
      num_steps: how many updates, instead of epochs. `every` and `checkpoint_every` then count
        updates too. The history has the epochs that were finished.
      batch_size: samples for each update: None for all (gradient descent), 1 for one at a time,
        else mini-batches. If the last batch is smaller, its loss is the mean over its samples. A
        number above m means all.
      key: shuffles the samples anew in every epoch; None keeps their order.
      eps: stop after the first epoch whose loss is at most eps (G2).
      gradient: "hand", "jax" or "compare".
      recompute: with the hand-written gradient, save about sqrt(n) of the activations of n stacked
        layers and compute the others again on the way back. The numbers are the same; memory is
        saved for one more forward pass.
      validation: `(X, Y)` to evaluate after every epoch.
      record: `record(params, X, Y)` -> pytree of arrays, called after every `every` epochs. If it
        has parameters named opt_state or step, it is also given the optimiser's state or the
        number of updates. `jaxmlp.panel` makes one.
      checkpoint: the path of a file, `run.npz`, that holds the whole state of the training. It is
        written after every `checkpoint_every` epochs and at the end. The one before it is kept as
        `run.previous.npz`.
      resume: True goes on from the checkpoint if there is one. On the same machine the training
        then ends as it would have without a break, bit for bit. "previous" takes the one before
        it, with a warning, if the newest is damaged.
      progress: `progress(epochs_done, loss)`, called between chunks of steps of under a second.

    Ctrl-C only stops the training: `fit` warns (UserWarning) and returns what it has, with a
    shorter history. In the middle of an epoch the parameters are a few steps ahead of the history.
    Any other exception, for example from `record`, has `(params, History)` so far as `.trained`.

    Raises:
      ValueError, TypeError: as `Objective` and `train_step`; for epochs < 0, batch_size or every
        < 1, an eps that is not a number, and parameters that are not finite; under `jax.jit`; for
        a checkpoint that is damaged or of another run, or that exists although resume is False.

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
    optimizer = as_optimizer(optimizer)
    run, params, data = prepare(
        J, params, X, Y, optimizer, gradient, recompute, batch_size, key, eps, validation
    )
    per_epoch = steps_per_epoch(run, data)
    total, unit = counted(epochs, num_steps, per_epoch)
    every = checks.integer("every", every, at_least=1) * unit
    save_every = checks.integer("checkpoint_every", checkpoint_every, at_least=1) * unit
    if resume and checkpoint is None:
        raise ValueError("resume needs checkpoint=PATH")
    state, finite = start(run, params, data)
    if not finite:
        refuse_not_finite(params)
    if record is not None:
        record = functools.partial(_recorded, record, _extra_arguments(record), data)

    def where() -> str:
        if num_steps is not None:
            return f"after step {reached.done} of {num_steps}"
        done, steps = divmod(reached.done, per_epoch)
        part = f" and {steps} of the {per_epoch} steps of the next" if steps else ""
        return f"after epoch {done} of {epochs}{part}"

    def trained():
        return reached.state.params, history_of(reached, records)

    # Begin, or go on
    reached, records, save = Reached(state, 0, []), [], None
    if checkpoint is not None:
        path = Path(checkpoint)
        about = checkpoints.identity(run, state, data, f"every {every} steps" if record else "none")
        recorded = record(reached) if record is not None and resume and path.exists() else None
        reached, records = checkpoints.resumed(path, resume, about, reached, recorded)
        save = functools.partial(checkpoints.save, path, about)
        if reached.done > total:
            raise ValueError(
                f"checkpoint {path} is beyond the end: {reached.done} of {total} steps are done"
            )

    # Train in chunks; record, save and report between them
    steps, saved = functools.partial(run_steps, run), reached.done
    between = [every] * (record is not None) + [save_every] * (save is not None)
    with nothing_lost(where, trained):
        for reached in advance(run, steps, reached, data, total, between):  # noqa: B020
            if record is not None and reached.done % every == 0:
                records.append(record(reached))
            if save is not None and reached.done % save_every == 0:
                save(reached, records)
                saved = reached.done
            if progress is not None and len(reached.rows[-1].loss):
                progress(reached.done // per_epoch, float(reached.rows[-1].loss[-1]))
        if save is not None and saved < reached.done:
            save(reached, records)
    return trained()


def counted(epochs: int | None, num_steps: int | None, per_epoch: int) -> tuple[int, int]:
    """Return how many steps to take, and the steps in one unit: an epoch, or one step."""
    if (epochs is None) == (num_steps is None):
        raise ValueError("give epochs, or num_steps instead")
    if epochs is None:
        return checks.integer("num_steps", num_steps, at_least=0), 1
    return checks.integer("epochs", epochs, at_least=0) * per_epoch, per_epoch


def _extra_arguments(record: Callable) -> list[str]:
    """Return which of opt_state and step a record has parameters for."""
    try:
        parameters = inspect.signature(record).parameters
    except ValueError:  # some functions written in C have no signature
        return []
    return [name for name in ("opt_state", "step") if name in parameters]


def _recorded(record: Callable, names: list[str], data: Data, reached: Reached) -> Any:
    """Return what `record` returns now, copied, so that nobody changes it."""
    known = {"opt_state": reached.state.opt_state, "step": reached.done}
    extra = {name: known[name] for name in names}
    return jax.tree.map(np.array, record(reached.state.params, data.X, data.Y, **extra))


def refuse_tracers(name: str, *given) -> None:
    """Refuse to run under a transformation of JAX."""
    if not checks.is_concrete(*given, jnp.zeros(())):  # under jax.jit even this is a tracer
        raise TypeError(
            f"{name} is a loop on the host and cannot be traced by jax.jit, jax.vmap or jax.grad: "
            "call it outside of them, or loop over train_step"
        )


def refuse_not_finite(params) -> None:
    """Refuse parameters that are not finite; the error names the first such entry."""
    for number, layer in enumerate(layers(params), start=1):
        for name, leaf in layer._asdict().items():
            if leaf is not None:
                checks.finite(f"{name} of layer {number}", np.asarray(leaf))


def prepare(
    J: Objective,
    params,
    X,
    Y,
    optimizer,
    gradient: str,
    recompute: bool,
    batch_size,
    key,
    eps,
    validation,
) -> tuple[Run, Any, Data]:
    """Return `(run, params, data)`; refuse arguments that do not fit."""
    check_gradient(J, gradient)
    params, X, Y = check(J, params, X, Y)
    m = len(X)
    batch = m if batch_size is None else checks.integer("batch_size", batch_size, at_least=1)
    batch = min(batch, m)
    total = jnp.promote_types(X.dtype, jnp.float32)  # the dtype of the loss
    data = Data(
        X,
        Y,
        key=None if key is None or batch == m else checks.prng_key(key),
        validation=None if validation is None else _checked_validation(J, params, validation),
        eps=jnp.asarray(-np.inf if eps is None else _checked_eps(eps), total),
    )
    return Run(J, optimizer, gradient, batch, CAPACITY, bool(recompute)), params, data


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
