"""Training with the gradients of `of` on partly flipped labels, and scoring the samples."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.any_model.models import Model
from jaxmlp import per_sample

BATCH = 128
OPTIMIZER = optax.adam(3e-3)


class Found(NamedTuple):
    """Hold a repetition: which labels were flipped, and each sample's score after training."""

    flipped: Any
    score: Any


@functools.cache
def trainer(model: Model, epochs: int):
    """Return the compiled `train(params, X, Y, key)`, with the gradients of `of`."""
    read = per_sample.of(model.loss, ("grad",))

    @jax.jit
    def train(params, X, Y, key):
        def step(carry, rows):
            params, state = carry
            _, out = read(params, X[rows], Y[rows])
            updates, state = OPTIMIZER.update(out["grad"], state, params)
            return (optax.apply_updates(params, updates), state), None

        def epoch(carry, key):
            rows = jax.random.permutation(key, len(X))[: len(X) // BATCH * BATCH]
            return jax.lax.scan(step, carry, rows.reshape(-1, BATCH))

        carry = params, OPTIMIZER.init(params)
        return jax.lax.scan(epoch, carry, jax.random.split(key, epochs))[0][0]

    return train


@functools.cache
def scorer(model: Model):
    """Return the function for the norm of each sample's gradient over all parameters."""
    return per_sample.of(model.loss, ("per_sample_norms",), total=True, microbatch_size=256)


def repetition(model: Model, X, Y, flipped, epochs: int, key: Any) -> Found:
    """Flip some labels, train, and score every sample."""
    for_params, for_order = jax.random.split(key)
    params = trainer(model, epochs)(model.init(for_params), X, Y, for_order)
    return Found(flipped, np.asarray(scorer(model)(params, X, Y)[1]["per_sample_norms"]))


def precision_at_top(found: list[Found]) -> float:
    """Return the share of flipped labels among the same number of highest scores; median."""
    hits = []
    for each in found:
        top = np.argsort(-each.score, kind="stable")[: each.flipped.sum()]
        hits.append(each.flipped[top].mean())
    return float(np.median(hits))
