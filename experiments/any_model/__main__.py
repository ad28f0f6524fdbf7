"""Flip labels, train, score; measure the cost; print the tables, draw the figures."""

import math

import experiments.any_model
from experiments import common
from experiments.any_model.options import Config, check


def main(config: Config) -> None:
    check(config)
    import jax
    import jax.numpy as jnp
    import numpy as np

    from experiments.any_model import cost, figures, finding, models
    from experiments.per_sample.data import flip
    from jaxmlp import datasets, per_sample

    (data,) = datasets.standardize(datasets.digits())
    X, key = jnp.asarray(data.X, jnp.float32), jax.random.key(config.seed)
    every = models.all_models(config.width)[:: 3 if config.smoke else 1]  # compiling takes long
    found = {model.name: [] for model in every}
    with common.Results("any_model", config) as results:
        with common.progress("networks") as report:
            for number in range(config.num_networks):
                rng = np.random.default_rng([config.seed, number])
                Y, flipped = flip(data.Y, config.flipped, data.num_classes, rng)
                one = jax.random.fold_in(key, number)
                for model in every:
                    found[model.name].append(
                        finding.repetition(model, X, jnp.asarray(Y), flipped, config.epochs, one)
                    )
                report(number + 1, config.num_networks)
        batch = X[: config.batch_size], jnp.asarray(data.Y[: config.batch_size])
        told, costs = [], []
        for model in every:
            params = model.init(key)
            explained = per_sample.explain(
                model.loss, params, X[0], data.Y[0], num_samples=len(batch[0])
            )
            sizes = {leaf.name: (math.prod(leaf.shape), leaf.factored) for leaf in explained.leaves}
            total = sum(size for size, _ in sizes.values())
            told.append({
                "model": model.name,
                "parameters": total,
                "factored": sum(size for size, factored in sizes.values() if factored) / total,
                "precision in top": finding.precision_at_top(found[model.name]),
            })  # fmt: skip
            costs += cost.of_model(config, model, params, *batch)
            results.csv(costs, "_cost")
        common.table(f"Finding {config.flipped:.0%} flipped labels", told)
        print(f"\nThe {model.name}:\n{explained}\n")
        peers = list(cost.of_peers(config))
        common.table("Time and memory over those of a plain gradient", [*costs, *peers])
        results.csv(told)
        results.csv(peers, "_peers")
        results.figure(figures.found_and_cost(found, told, costs))
        results.figure(figures.peers(peers), "_peers")


if __name__ == "__main__":
    smoke = {"epochs": 1, "num_networks": 1, "width": 8, "rounds": 3, "batch_size": 16}
    common.run(main, common.parse(Config, experiments.any_model.__doc__, **smoke))
