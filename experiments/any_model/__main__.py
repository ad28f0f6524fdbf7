"""Flip labels, train, score; measure the cost; print the table, draw the figure."""

import dataclasses
import math

import experiments.any_model
from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the models that know nothing of jaxmlp."""

    flipped: float = 0.05
    """share of the training labels that are flipped to another class"""
    epochs: int = 10
    """epochs of training before samples are scored"""
    num_networks: int = 5
    """repetitions, each with its own flipped labels and networks"""
    width: int = 128
    """units in each hidden layer, and of a token"""
    batch_size: int = 256
    """samples of the batch whose cost is measured"""
    rounds: int = 31
    """rounds in which the rivals take turns"""


def main(config: Config) -> None:
    import jax
    import jax.numpy as jnp
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from experiments.any_model import figures, measure, models
    from experiments.per_sample import flip
    from jaxmlp import datasets, per_sample

    check(config)
    (data,) = datasets.standardize(datasets.digits())
    X, key = jnp.asarray(data.X, jnp.float32), jax.random.key(config.seed)
    every = models.all_models(config.width)
    found = {model.name: [] for model in every}
    with common.progress("networks") as report:
        for number in range(config.num_networks):
            rng = np.random.default_rng([config.seed, number])
            Y, flipped = flip(data.Y, config.flipped, data.num_classes, rng)
            for model in every:
                one = jax.random.fold_in(key, number)
                found[model.name].append(
                    measure.repetition(model, X, jnp.asarray(Y), flipped, config.epochs, one)
                )
            report(number + 1, config.num_networks)
    rows = []
    for model in every:
        batch = X[: config.batch_size], jnp.asarray(data.Y[: config.batch_size])
        params = model.init(key)
        told = per_sample.explain(model.loss, params, X[0], data.Y[0], num_samples=len(batch[0]))
        sizes = dict.fromkeys((True, False), 0)
        for leaf in told.leaves:
            sizes[leaf.factored] += math.prod(leaf.shape)
        rows.append({
            "model": model.name,
            "parameters": sum(sizes.values()),
            "factored": sizes[True] / sum(sizes.values()),
            "precision in top": measure.precision_at_top(found[model.name]),
            **measure.cost(model, params, *batch, config.rounds),
        })  # fmt: skip
    common.table(f"Finding {config.flipped:.0%} flipped labels; a gradient and all norms / a plain "
                 f"gradient, batch {config.batch_size}", rows)  # fmt: skip
    print(f"\nThe {model.name}:\n{told}")

    results = common.Results("any_model", config)
    results.csv(rows)
    results.figure(figures.found_and_cost(found, rows))
    results.close()


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    from jaxmlp import checks

    for name in ("epochs", "num_networks", "rounds", "batch_size"):
        checks.integer(name, getattr(config, name), at_least=1)
    if config.width % 4:
        raise ValueError(f"width must be a multiple of 4, the heads of attention: {config.width}")
    if not 0 < config.flipped < 1:
        raise ValueError(f"flipped must lie between 0 and 1, got {config.flipped}")


if __name__ == "__main__":
    config = common.parse(Config, experiments.any_model.__doc__)
    if config.smoke:
        config = dataclasses.replace(config, epochs=2, num_networks=1, width=8, rounds=3)
    common.run(main, config)
