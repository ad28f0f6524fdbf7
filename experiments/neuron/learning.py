"""Learning vehicles and digits: how often to update, what to skip, raw or standardised."""

import functools
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import jaxmlp
from experiments.common import Rows
from experiments.neuron.options import Config
from experiments.neuron.shared import digits, one_neuron, pass_until, vehicles
from jaxmlp import MLP, Objective, datasets

Key = tuple[str, str]  # what is learnt, and after how many samples it is updated
SLIP = "W + lr dJ/dW (slip)"


class Run(NamedTuple):
    """Hold a training: the losses by epoch, and the updates and seconds of an epoch."""

    params: Any
    loss: Any
    updates: int
    seconds: float


def networks() -> dict[str, Any]:
    """Return the objectives of one neuron and of E4's bias-free network, squared error."""
    two = MLP((3, 4, 2), hidden="sigmoid", output="sigmoid", use_bias=False)
    return {
        "one neuron": Objective(MLP((3, 1), output="sigmoid"), "mse"),
        "3-4-2": Objective(two, "mse"),
    }


def vehicle_tasks(inputs: str, seed: int) -> dict[str, tuple]:
    """Return what `fit` takes: one neuron starting at 0, and the network, drawn."""
    (data, _), (one, two) = vehicles(inputs), networks().values()
    drawn = two.mlp.init(jax.random.key(seed), "lecun")
    return {
        "one neuron": (one, one_neuron("logistic", 3)[1], data.X, data.Y),
        "3-4-2": (two, drawn, data.X, datasets.one_hot(data.Y, 2)),
    }


# --- how often to update --------------------------------------------------------------------------


def plans(config: Config) -> dict[Key, tuple]:
    """Return task, batch size and optimiser of each training; the last is the slip (I)."""
    data, _ = digits(config.seed)
    tasks, lr, found = vehicle_tasks("standardised", config.seed), config.learning_rate, {}
    tasks["3 or 8"] = (*one_neuron("logistic", 64), data.X, data.Y)
    for name, task in tasks.items():
        m = len(task[2])
        mini = max(2, m // 10)
        sizes = {"per sample": 1}
        if not config.smoke:  # each size compiles anew
            sizes |= {f"batches of {mini}": mini, "full batch": m}
        found |= {(name, updates): (task, size, lr) for updates, size in sizes.items()}
    return found | {("3-4-2", SLIP): (tasks["3-4-2"], 4, optax.sgd(-lr))}


def train_all(trainings: dict[Key, tuple], epochs: int, rounds: int) -> dict[Key, Run]:
    """Train in turns, first to compile and then timed. The samples keep their order."""
    runs = {}
    for turn in range(1 + rounds):
        for key, (task, size, optimizer) in trainings.items():
            begun = time.perf_counter()
            params, history = jaxmlp.fit(*task, optimizer=optimizer, epochs=epochs, batch_size=size)
            seconds = (time.perf_counter() - begun) / epochs
            if turn > 1:
                seconds = min(seconds, runs[key].seconds)
            runs[key] = Run(params, history.loss, -(-len(task[2]) // size), seconds)
    return runs


def costs(runs: dict[Key, Run], target: float) -> Rows:
    """Return epochs, updates and milliseconds until the loss reaches `target`."""
    rows = []
    for (task, updates), run in runs.items():
        reached = np.flatnonzero(run.loss <= target)
        epochs = int(reached[0]) + 1 if len(reached) else 0
        rows.append(
            {"learns": task, "updates": updates, "first loss": float(run.loss[0]),
             "last loss": float(run.loss[-1]), "epochs": epochs or "never",
             "number of updates": epochs * run.updates or "",
             "ms": 1e3 * epochs * run.seconds or "", "us an epoch": 1e6 * run.seconds}
        )  # fmt: skip
    return rows


def held_out(runs: dict[Key, Run]) -> Rows:
    """Return the outputs of the networks updated per sample for two vehicles they never saw."""
    (_, raw), (_, test) = vehicles("raw"), vehicles("standardised")
    one, two = (
        np.asarray(J.mlp.apply(runs[name, "per sample"].params, test.X))
        for name, J in networks().items()
    )
    return [
        {"vehicle": x, "is": test.class_names[y], "one neuron": a,
         "says": test.class_names[int(a[0] > 0.5)], "3-4-2": b,
         "says too": test.class_names[b.argmax()]}
        for x, y, a, b in zip(raw.X, test.Y, one, two, strict=True)
    ]  # fmt: skip


# --- what to skip, and what to feed ---------------------------------------------------------------


def skipping(config: Config) -> Rows:
    """Return G2 on the 3-4-2 network: all samples, or only those whose error exceeds eps."""
    J, params, X, Y = task = vehicle_tasks("standardised", config.seed)["3-4-2"]
    lr, eps, epochs = config.learning_rate, config.eps, config.epochs

    def meet(params, x, y):
        def update(params):
            grads = jaxmlp.grad(J)(params, x[None], y[None])
            return jax.tree.map(lambda W, dW: W - lr * dW, params, grads)

        wrong = J(params, x[None], y[None]) > eps
        return jax.lax.cond(wrong, update, lambda params: params, params), wrong

    def errors(params, X, _):
        return np.sum((np.asarray(J.mlp.apply(params, X)) - Y) ** 2, axis=1)

    _, history = jaxmlp.fit(*task, optimizer=lr, epochs=epochs, batch_size=1, record=errors)
    good = history.record.max(axis=1) <= eps
    first = int(good.argmax()) if good.any() else epochs - 1
    params, passes, count = pass_until(meet, params, X, Y, epochs)
    columns = ("backpropagated", "epochs", "backpropagations", "errors at the end")
    lines = (
        ("every sample", first + 1, (first + 1) * len(X), history.record[first]),
        (f"while its error > {eps:g}", passes, count, errors(params, X, Y)),
    )
    return [dict(zip(columns, line, strict=True)) for line in lines]


def raw_and_standardised(config: Config) -> tuple[Rows, dict[str, tuple]]:
    """Return G4: rows on saturation, and the losses as `{label: (epoch, loss)}`."""
    rows, curves = [], {}
    for inputs in ("raw", "standardised"):
        tasks = vehicle_tasks(inputs, config.seed)
        entropy, (_, *rest) = one_neuron("logistic", 3)[0], tasks["one neuron"]
        for name, task in {**tasks, "one neuron, cross-entropy": (entropy, *rest)}.items():
            fit = functools.partial(jaxmlp.fit, *task, optimizer=config.learning_rate)
            (after, _), (_, history) = fit(epochs=1), fit(epochs=config.epochs)
            A = np.asarray(jaxmlp.trace(task[0])(after, *task[2:])[0].A)
            rows.append(
                {"inputs": inputs, "learns": name, "smallest a": float(A.min()),
                 "largest a": float(A.max()), "largest a (1 - a)": float((A * (1 - A)).max()),
                 "first loss": float(history.loss[0]), "last loss": float(history.loss[-1])}
            )  # fmt: skip
            if name in tasks:
                curves[f"{name}, {inputs}"] = np.arange(1, config.epochs + 1), history.loss
    return rows, curves
