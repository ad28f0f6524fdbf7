"""D6, D7, D10, D13, H4: how fast activations train, how large they get, and to which depth."""

import math
from statistics import median

import jax
import numpy as np
import optax

import jaxmlp
from experiments import common
from experiments.vanishing.networks import INITS, digits, draw, network
from experiments.vanishing.options import Config

RACERS = ("sigmoid", "tanh", "relu", "elu")
TARGET, BATCH = 0.1, 25  # the loss to reach; samples in a batch
LEARNED = 0.9  # accuracy


def race(config: Config, report) -> tuple[list[dict], dict]:
    """Train two hidden layers from lecun weights until the loss is 0.1, or epochs run out.

    Returns rows, and `{activation: (epochs, loss)}` on digits, at the first rate and seed.
    """
    spiral = jaxmlp.datasets.spiral()
    mixed = np.random.default_rng(config.seed).permutation(len(spiral.Y))
    problems = {"digits": digits(config), "spiral": (spiral.X[mixed], spiral.Y[mixed])}
    limits = dict(zip(problems, config.race_epochs, strict=True))
    cells = [(p, rate, act) for p in problems for rate in config.race_rates for act in RACERS]
    rows, curves = [], {}
    for done, (problem, rate, act) in enumerate(cells, start=1):
        runs = one_race(config, *problems[problem], act, rate, limits[problem])
        epochs = [len(loss) if loss[-1] <= TARGET else math.inf for loss, _ in runs]
        row = {"problem": problem, "rate": rate, "activation": act}
        rows.append(row | {"epochs": median(epochs), "largest_A": max(A for _, A in runs)})
        curves.setdefault(act, (range(1, len(runs[0][0]) + 1), runs[0][0]))
        report(done, len(cells))
    return rows, curves


def one_race(config: Config, X, Y, act: str, rate: float, epochs: int) -> list[tuple]:
    """Return for each seed the losses, and the largest |A| of hidden layers while training."""
    J = network(X, 2, config.width, act, int(Y.max()) + 1)
    fn, runs = J.mlp.activations[0].fn, []

    def largest(params, X, Y):
        A1 = fn(X @ params[0].W + params[0].b)
        A2 = fn(A1 @ params[1].W + params[1].b)
        sizes = float(abs(A1).max()), float(abs(A2).max())
        return max(sizes) if all(map(math.isfinite, sizes)) else math.inf

    for seed in common.seeds(config, config.num_seeds):
        _, history = jaxmlp.fit(
            J, draw(J, "lecun", seed), X, Y, optimizer=rate, epochs=epochs, batch_size=BATCH,
            eps=TARGET, record=largest, every=max(1, epochs // 300),
        )  # fmt: skip
        runs.append((history.loss, float(history.record.max())))
    return runs


def train(config: Config, report) -> list[dict]:
    """Train networks of growing depth at several learning rates, so that none decides by itself.

    A row for each activation and depth: the accuracy of the last epoch, median over the seeds, at
    the rate where it is best; how many networks, of all rates, had a loss that is not finite.
    """
    (X, Y), rows = digits(config), []
    seeds, rates = common.seeds(config, config.num_seeds), config.train_rates
    cells = [(act, depth) for act in INITS for depth in config.train_depths]
    for done, (act, depth) in enumerate(cells, start=1):
        J = network(X, depth, config.width, act)
        drawn = [draw(J, INITS[act], seed) for seed in seeds]
        many = jax.tree.map(lambda *leaves: np.stack(leaves), *(drawn * len(rates)))
        _, history = jaxmlp.fit_many(
            J, many, X, Y, batch_size=BATCH, optimizer=optax.sgd, epochs=config.train_epochs,
            learning_rates=np.repeat(rates, len(seeds)),
        )  # fmt: skip
        diverged = np.asarray(history.diverged)
        accuracies = np.where(diverged, 0.0, history.accuracy[:, -1])
        medians = np.median(accuracies.reshape(len(rates), -1), axis=1)
        best = int(medians.argmax())
        row = {"activation": act, "init": INITS[act], "depth": depth, "rate": rates[best]}
        rows.append(row | {"accuracy": float(medians[best]), "overflows": int(diverged.sum())})
        report(done, len(cells))
    return rows


def deepest_learned(grid: list[dict]) -> dict[str, int]:
    """Return the deepest network of each activation that learned; 0 if none did."""
    deep = [(row["activation"], row["depth"]) for row in grid if row["accuracy"] >= LEARNED]
    return {act: max((depth for a, depth in deep if a == act), default=0) for act in INITS}
