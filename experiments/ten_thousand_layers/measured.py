"""The gradient flow at birth, and the training."""

import resource
import time

import jax
import numpy as np

import jaxmlp
from experiments import common
from experiments.ten_thousand_layers.options import Config
from jaxmlp.initializers import Initializer, gaussian

PANEL_SAMPLES = 64  # a batch


def objective(config: Config) -> jaxmlp.Objective:
    sizes = (64, *[config.width] * config.depth, 10)
    return jaxmlp.Objective(jaxmlp.MLP(sizes, hidden="tanh"), "cross_entropy")


def orthogonal(config: Config) -> Initializer:
    """Return orthogonal weights times sqrt(sigma_w2)."""
    draw = jax.nn.initializers.orthogonal(config.sigma_w2**0.5)
    return Initializer("orthogonal", draw, config.sigma_b2)


def at_birth(config: Config, J, X, Y) -> tuple[dict[str, np.ndarray], common.Rows, tuple]:
    """Return log10 of dZ for both weights, the decades lost, and the orthogonal parameters."""
    flows, rows = {}, []
    flow = jaxmlp.gradient_flow(J, statistics=False, recompute=not config.save_all)
    for init in (gaussian(config.sigma_w2, config.sigma_b2), orthogonal(config)):
        params = J.mlp.init(jax.random.key(config.seed), init)
        log10 = np.asarray(flow(params, X, Y).log10_delta)
        hidden, name = log10[:-1], init.name.split(":")[0]
        flows[name] = log10
        rows.append({"weights": name, "decades lost, last to first hidden layer":
                     float(hidden[-1] - hidden[0]), "largest less smallest":
                     float(np.ptp(hidden))})  # fmt: skip
    return flows, rows, params


def trained(config: Config, J, params, X, Y, report):
    """Return the history of `fit`, and its seconds, compilation included."""
    begun = time.perf_counter()
    steps = config.epochs * -(-len(X) // config.batch_size)
    panel = jaxmlp.panel(
        J, config.learning_rate, num_samples=PANEL_SAMPLES, recompute=not config.save_all
    )
    _, history = jaxmlp.fit(
        J, params, X, Y, optimizer=config.learning_rate, epochs=config.epochs,
        batch_size=config.batch_size, key=jax.random.key(config.seed), record=panel,
        recompute=not config.save_all,
        progress=lambda done, _: report(done, config.epochs),
    )  # fmt: skip
    return history, steps, time.perf_counter() - begun


def summary(config: Config, J, history, steps: int, seconds: float) -> common.Rows:
    """Return accuracy, loss, seconds and memory."""
    per_epoch = steps // config.epochs
    last = min(config.epochs, max(1, 30 // per_epoch))  # epochs that hold the last 30 updates
    parameters = sum(a * b + b for a, b in zip(J.mlp.sizes, J.mlp.sizes[1:], strict=False))
    kept = config.depth if config.save_all else 2 * config.depth**0.5
    late = f"over the last {last * per_epoch} of {steps} steps"
    numbers = {
        f"accuracy {late}": history.accuracy[-last:].mean(),
        f"loss {late}": history.loss[-last:].mean(),
        "seconds of training, compilation included": seconds,
        "MB of parameters": parameters * 4 / 1e6,
        "MB of activations kept": kept * config.batch_size * config.width * 4 / 1e6,
        "MB of the process at its largest": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        / 1e3,
    }
    return [{"what": what, "measured": float(number)} for what, number in numbers.items()]
