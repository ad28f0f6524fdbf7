"""Training networks of a kind on digits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxmlp
from experiments import common
from experiments.remedies.kinds import Kind
from experiments.remedies.options import Config


def trained(config: Config, kind: Kind) -> common.Rows:
    """Train networks of a kind by gradient descent; return a row for each rate and seed.

    accuracy: of the last epoch, each batch before its update; that of chance if the network
    diverged.
    """
    X, Y = common.digits(config.num_samples)
    sizes = (X.shape[1], *[config.width] * config.depth, 10)
    seeds, rates = common.seeds(config, config.num_seeds), config.learning_rates
    networks = kind.draw(sizes, seeds)
    grid = [(k, rate) for k in range(len(seeds)) for rate in rates]
    _, history = jaxmlp.fit_many(
        jaxmlp.Objective(kind.mlp(sizes, "softmax"), "cross_entropy"),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *(networks[k] for k, _ in grid)),
        X, Y, optimizer=optax.sgd, learning_rates=[rate for _, rate in grid],
        epochs=config.epochs, batch_size=config.batch_size, key=jax.random.key(config.seed),
    )  # fmt: skip
    diverged, accuracy = np.asarray(history.diverged), np.asarray(history.accuracy)
    chance = float(np.bincount(Y).max() / len(Y))
    return [
        {
            "activation": kind.activation, "init": kind.init, "cure": kind.cure,
            "learning_rate": rate, "seed": seeds[k], "diverged": bool(diverged[i]),
            "accuracy": chance if diverged[i] else float(accuracy[i, -1]),
        }
        for i, (k, rate) in enumerate(grid)
    ]  # fmt: skip


def best(rows: common.Rows) -> tuple[float, list[float]]:
    """Return the learning rate of highest mean accuracy, and its networks' accuracies."""
    rates = dict.fromkeys(row["learning_rate"] for row in rows)
    own = {
        rate: [row["accuracy"] for row in rows if row["learning_rate"] == rate] for rate in rates
    }
    rate = max(own, key=lambda rate: np.mean(own[rate]))
    return rate, own[rate]


def summary(rows: common.Rows) -> dict[str, float]:
    """Return the best learning rate of one kind, and what its seeds reached with it."""
    rate, accuracies = best(rows)
    return {
        "best rate": rate,
        "accuracy": float(np.mean(accuracies)),
        "lowest": min(accuracies),
        "highest": max(accuracies),
    }
