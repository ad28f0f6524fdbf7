"""Training networks, and the scores of every sample on the way."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import jaxmlp
from experiments.per_sample import data
from experiments.per_sample.options import Config
from jaxmlp import datasets, numerics


class Watched(NamedTuple):
    """Hold what is measured of n networks in training, at epochs t = 0, 1, ...

    layer_norms (t, m, L), grand, el2n, loss (t, m): means over the networks. noise (n, t).
    """

    layer_norms: Any
    grand: Any
    el2n: Any
    loss: Any
    noise: Any


class Run(NamedTuple):
    """Hold a repetition. pixels: of train, not standardised. Y: the labels given, some flipped."""

    train: Any
    test: Any
    pixels: Any
    Y: Any
    flipped: Any
    watched: Watched
    scores: dict
    key: Any


def objective(config: Config, train):
    sizes = (train.X.shape[1], config.width, config.width, train.num_classes)
    return jaxmlp.Objective(jaxmlp.MLP(sizes, hidden="relu"), "cross_entropy")


@functools.cache  # one object, so that nothing is compiled twice
def optimizer(learning_rate: float):
    return optax.sgd(learning_rate, momentum=0.9)


@functools.cache
def observer(J):
    """Return the compiled `observe(params, X, Y) -> Watched` of one network, by one walk."""

    def error(A, dZ, layer):
        return numerics.norm(dZ, axis=1)  # at the output dZ is the softmax error a - y

    read = jaxmlp.instruments(J, ("per_sample_norms", "noise_scale", error))

    def observe(params, X, Y):
        _, seen = read(params, X, Y)
        norms, noise = seen["per_sample_norms"], seen["noise_scale"].simple
        loss = jax.vmap(J, (None, 0, 0))(params, X[:, None], Y[:, None])
        return Watched(norms, numerics.norm(norms, axis=1), seen["error"][-1], loss, noise)

    return jax.jit(observe)


def start(J, key):
    """Return a network's parameters, and the key that shuffles its samples."""
    for_params, for_order = jax.random.split(key)
    return J.mlp.init(for_params, "he"), for_order


def watch(config: Config, J, X, Y, key) -> Watched:
    """Train networks; score every sample before the first epoch and after each."""
    networks = []
    for i in range(config.num_networks):
        params, for_order = start(J, jax.random.fold_in(key, i))
        first = observer(J)(params, X, Y)
        _, history = jaxmlp.fit(
            J, params, X, Y, optimizer=optimizer(config.learning_rate), record=observer(J),
            epochs=config.epochs, batch_size=config.batch_size, key=for_order,
        )  # fmt: skip
        networks.append(jax.tree.map(lambda a, b: np.stack([a, *b]), first, history.record))
    seen = jax.tree.map(lambda *xs: np.stack(xs), *networks)
    return jax.tree.map(lambda x: x.mean(axis=0), seen)._replace(noise=seen.noise)


def repetition(config: Config, number: int) -> Run:
    """Draw the data, flip labels, train and score."""
    rng = np.random.default_rng([config.seed, number])
    key = jax.random.fold_in(jax.random.key(config.seed), number)
    for_split, for_networks, for_pruned = jax.random.split(key, 3)
    raw, test = data.split(config, for_split, rng)
    train, test = datasets.standardize(raw, test)
    Y, flipped = data.flip(train.Y, config.flipped, train.num_classes, rng)
    for share in config.shares:
        data.part(share, len(Y), "keeps", "samples")  # refused before anything is trained
    J, epoch = objective(config, train), config.score_epoch
    watched = watch(config, J, train.X, Y, for_networks)
    scores = {
        "GraNd, epoch 0": watched.grand[0],
        f"GraNd, epoch {epoch}": watched.grand[epoch],
        f"EL2N, epoch {epoch}": watched.el2n[epoch],
        f"loss, epoch {epoch}": watched.loss[epoch],
        "random": rng.random(len(Y)),
    }
    return Run(train, test, raw.X, Y, flipped, watched, scores, for_pruned)
