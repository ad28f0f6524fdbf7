"""Training sweeps: every network of a grid is trained, and measured at some steps."""

import contextlib
import dataclasses
import functools
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import checks
from jaxmlp.flow import gradient_flow
from jaxmlp.objective import Objective
from jaxmlp.sweep import engine, grid
from jaxmlp.sweep.depth import about_data, checked_data, fingerprint
from jaxmlp.sweep.grid import Network
from jaxmlp.sweep.run import collect, in_this_process
from jaxmlp.sweep.table import SweepTable, joined
from jaxmlp.train.fit import prepare
from jaxmlp.train.host import Reached, advance
from jaxmlp.train.loop import Data, Run, all_finite, run_steps, start
from jaxmlp.train.many import checked_rates
from jaxmlp.train.optimizers import as_optimizer, by_name, factory_by_name
from jaxmlp.train.step import evaluate

VERSION = 1
"""The version of the numbers. If it goes up, networks in a store are trained again."""


class Trained(NamedTuple):
    """Name a network to train. learning_rate: None if the optimiser holds its learning rate."""

    network: Network
    learning_rate: float | None


@dataclasses.dataclass(frozen=True)
class Job:
    """Name a job of one network. Networks of one shape share their compiled programs."""

    trained: Trained

    @property
    def networks(self) -> list[Trained]:
        return [self.trained]

    def only(self, missing: Any) -> "Job":
        return self


class Plan(NamedTuple):
    """Say how every network is trained. record_at: the steps at which it is measured."""

    optimizer: Any
    num_steps: int
    batch_size: int | None
    record_at: tuple[int, ...]


def training_sweep(
    *,
    activations: Any = ("sigmoid", "tanh", "relu", "leaky_relu"),
    inits: Any = ("lecun", "he"),
    depths: int | Sequence[int] = (2, 5, 10, 20, 50),
    seeds: Sequence[int] | None = None,
    num_seeds: int | None = None,
    width: int | Sequence[int] = 128,
    residuals: Any = (None,),
    norms: Any = (None,),
    X,
    Y,
    loss: str = "cross_entropy",
    num_classes: int | None = None,
    optimizer: Any,
    num_steps: int,
    batch_size: int | None = None,
    learning_rates: Any = None,
    record_at: Sequence[int] | None = None,
    validation: tuple | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    store: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SweepTable:
    """Train every network of a grid, and measure it at some steps.

    The grid, the data, executor and store are those of `depth_sweep`. A network of seed s is
    trained on the batches of `fit(key=jax.random.fold_in(jax.random.key(s), 2**31))`.

    Args:
      optimizer: "sgd:0.01", "momentum:0.01:0.9", "adam:1e-3", a learning rate, or any optax
        optimiser. With `learning_rates` it is a name alone, "adam", or a function of the learning
        rate.
      num_steps: the number of updates of each network.
      batch_size: samples of an update; None for all.
      learning_rates: one more axis of the grid.
      record_at: the steps after which networks are measured; by default 0 and the last.
      validation: `(X, Y)` to evaluate at these steps too.

    Returns:
      The table of `depth_sweep`, for each of these steps, with further columns:
      `step`, the number of updates so far;
      `loss`, `accuracy`: on all of X, Y;
      `validation_loss`, `validation_accuracy`: NaN without validation data;
      `learning_rate`: NaN if the optimiser holds its own;
      `diverged`: whether the loss or a parameter is not finite. The network then stops, and its
      rows at later steps are those of the stopped network; the sweep goes on.
      `objective`, `optimizer`: the names of the loss and of the optimiser.

    Raises:
      TypeError, ValueError: as `depth_sweep` and `fit_many`.

    Example:
      >>> import jaxmlp
      >>> data = jaxmlp.datasets.spiral()
      >>> table = training_sweep(activations="tanh", inits="he", depths=(1, 2), width=8, X=data.X,
      ...                        Y=data.Y, optimizer="sgd:0.1", num_steps=20)
      >>> [(row["depth"], row["step"], row["diverged"]) for row in table.summary()]
      [(1, 0, 0.0), (1, 20, 0.0), (2, 0, 0.0), (2, 20, 0.0)]
    """
    # Refuse what does not fit
    cells, X, Y, K = checked_data(
        X, Y, num_classes, activations=activations, inits=inits, depths=depths, seeds=seeds,
        num_seeds=num_seeds, width=width, residuals=residuals, norms=norms, loss=loss,
    )  # fmt: skip
    if validation is not None:
        J = grid.output_objective(loss, X.shape[1], K)
        params = J.mlp.init(jax.random.key(0))
        validation = prepare(
            J, params, X, Y, None, "hand", False, None, None, None, validation
        )[2].validation  # fmt: skip
    num_steps = checks.integer("num_steps", num_steps, at_least=0)
    plan = Plan(optimizer, num_steps, batch_size, _moments(record_at, num_steps))
    rates = [None] if learning_rates is None else _rates(optimizer, learning_rates)
    _optimizer(plan, rates[0])
    if store is not None or not in_this_process(executor):
        where = "a store" if store is not None else "an executor of processes"
        grid.refuse_own(cells, where)
        if not isinstance(optimizer, str | int | float):
            raise ValueError(f"optimizer is one's own: {where} takes a name, such as 'adam:1e-3'")
        X, Y, validation = jax.tree.map(np.asarray, (X, Y, validation))

    # Train what is missing
    name = optimizer if isinstance(optimizer, str) else "one's own"
    name = f"sgd:{optimizer:g}" if isinstance(optimizer, int | float) else name
    about = {
        "objective": loss, "optimizer": name, **about_data(X, Y, K),
        "engine": VERSION,
    }  # fmt: skip
    held_out = validation and fingerprint(validation[0], validation[1], K)
    decides = {**about, "num_steps": num_steps, "batch_size": batch_size,
               "record_at": plan.record_at,
               "validation": held_out}  # fmt: skip
    networks = [Trained(network, rate) for network in cells.networks for rate in rates]
    read = collect(
        functools.partial(measure, plan=plan, X=X, Y=Y, outputs=K, validation=validation),
        [Job(network) for network in networks], networks, store=store,
        key=functools.partial(_key, **decides),
        about={"X": X.shape, "Y": Y.shape, "outputs": K, **decides},
        executor=executor, progress=progress,
    )  # fmt: skip
    read_columns = lambda: _columns(read(), about)  # noqa: E731
    return SweepTable(read_columns() if store is None else read_columns)


def _moments(record_at: Sequence[int] | None, num_steps: int) -> tuple[int, ...]:
    """Return the steps at which to measure, ascending; by default the first and the last."""
    given = (0, num_steps) if record_at is None else record_at
    steps = sorted({checks.integer("record_at", step, at_least=0) for step in given})
    if not steps or steps[-1] > num_steps:
        raise ValueError(f"record_at must be steps in 0..{num_steps}, got {list(given)}")
    return tuple(steps)


def _rates(optimizer: Any, learning_rates: Any) -> list[float]:
    """Return the learning rates; refuse equal ones, and an optimizer that does not take them."""
    rates = grid.several(learning_rates)
    if len(set(rates)) < len(rates):
        raise ValueError(f"learning_rates must be different numbers, got {rates}")
    factory = factory_by_name(optimizer) if isinstance(optimizer, str) else optimizer
    return checked_rates(factory, rates, len(rates))


def _optimizer(plan: Plan, rate: float | None) -> Any:
    """Return the optimiser; with a learning rate, the function that makes one of it."""
    name = plan.optimizer
    if rate is not None:
        return factory_by_name(name) if isinstance(name, str) else name
    return by_name(name) if isinstance(name, str) else as_optimizer(name)


def _rate_of(plan: Plan, rate: float | None) -> float:
    """Return the learning rate; NaN if only the optimiser knows it."""
    if rate is None and isinstance(plan.optimizer, str):
        return float(plan.optimizer.split(":")[1])
    if rate is None and isinstance(plan.optimizer, int | float):
        return float(plan.optimizer)
    return np.nan if rate is None else rate


def _key(trained: Trained, **about: Any) -> str:
    """Return the key of a trained network in a store."""
    names = trained.network._asdict() | {"learning_rate": trained.learning_rate}
    return json.dumps({"sweep": "training", **names, **about})


def _columns(results: dict[Trained, Any], about: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the table's columns for all results."""
    named = []
    for network, _ in results:
        names = network.names
        del names["loss"]  # it is a number here; about has its name
        named.append(names | about)
    return joined(named, list(results.values()))


# --- one network ----------------------------------------------------------------------------------


def measure(
    job: Job, plan: Plan, X: Any, Y: Any, outputs: int, validation: tuple | None
) -> dict[Trained, dict[str, np.ndarray]]:
    """Train a network; return the table's columns for it, at each step of `record_at`."""
    network, rate = job.trained
    with engine.precision_of(X):
        # Draw and begin
        J = Objective(network.mlp(X.shape[1], outputs), network.loss)
        params = J.mlp.init(jax.random.key(network.seed), network.init)
        key = jax.random.fold_in(jax.random.key(network.seed), 2**31)
        run, params, data = prepare(
            J, params, X, Y, _optimizer(plan, rate), "hand", False, plan.batch_size, key, None,
            validation,
        )  # fmt: skip
        run = run._replace(until_diverged=True)
        if rate is not None:
            data = data._replace(learning_rate=jnp.asarray(rate, data.X.dtype))
        reached = Reached(start(run, params, data)[0], 0, [])
        with _first_of(run):  # one thread compiles, and the others wait for it
            run_steps(run, reached.state, data, np.zeros(2, np.int32), np.int32(0))
            _measured(reached, run, data)

        # Train, and measure at each of the steps
        found = []
        steps = functools.partial(run_steps, run)
        for step in plan.record_at:
            for latest in advance(run, steps, reached, data, step, ()):
                reached = latest
            found.append(_rows(network, _rate_of(plan, rate), step, _measured(reached, run, data)))
    rows = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    return {job.trained: rows}


def _measured(reached: Reached, run: Run, data: Data) -> tuple:
    """Return scores, whether it has diverged, and the flow of the network as it is now."""
    params = reached.state.params
    return *_scores(run.J, params, data), gradient_flow(run.J)(params, data.X, data.Y)


@functools.partial(jax.jit, static_argnums=0)
def _scores(J: Objective, params, data: Data):
    nothing = (jnp.nan, jnp.nan)
    held_out = nothing if data.validation is None else evaluate(J, params, *data.validation)
    loss, accuracy = evaluate(J, params, data.X, data.Y)
    diverged = ~(all_finite(params) & jnp.isfinite(loss))
    return (loss, accuracy, *held_out), diverged


def _rows(network: Network, rate: float, step: int, numbers: tuple) -> dict[str, np.ndarray]:
    """Return the table's columns for one network at one step."""
    (loss, accuracy, *held_out), diverged, flow = jax.device_get(numbers)
    n = network.depth + 1
    scores = {
        "step": np.int64(step), "loss": np.float64(loss), "accuracy": np.float64(accuracy),
        "validation_loss": np.float64(held_out[0]), "validation_accuracy": np.float64(held_out[1]),
        "learning_rate": np.float64(rate), "diverged": np.bool_(diverged),
    }  # fmt: skip
    return engine.columns(flow) | {k: np.full(n, v) for k, v in scores.items()}


_LOCKS: dict[Any, threading.Lock] = {}
_COMPILED: set = set()
_GUARD = threading.Lock()


@contextlib.contextmanager
def _first_of(run: Run):
    """Let one thread at a time into the block until one has left it; then let all in."""
    with _GUARD:
        lock = _LOCKS.setdefault(run, threading.Lock())
    with lock if run not in _COMPILED else contextlib.nullcontext():
        yield
    _COMPILED.add(run)
