"""H1: the weights that one step of gradient descent leaves as they are, to the last bit."""

from statistics import fmean
from typing import Any

import jax
import numpy as np
import optax

import jaxmlp
from experiments.vanishing.networks import INITS, digits, draw, network
from experiments.vanishing.options import Config


def one_step(config: Config, hidden: str) -> list[dict]:
    """Take one step of gradient descent; return the share of each layer's unchanged weights.

    Also return the share whose gradient is exactly zero. Biases are not counted: they start at 0,
    to which even the smallest step makes a difference.
    """
    (X, Y), optimizer, rows = digits(config), optax.sgd(config.learning_rate), []
    for depth in config.step_depths:
        J = network(X, depth, config.width, hidden)
        params = draw(J, INITS[hidden], config.seed)
        grads = jaxmlp.grad(J)(params, X, Y)
        moved = optax.apply_updates(params, optimizer.update(grads, optimizer.init(params))[0])
        host = jax.tree.map(np.asarray, (params, moved, grads))
        walk = zip(*map(jaxmlp.layers, host), strict=True)
        rows += [
            {
                "activation": hidden, "init": INITS[hidden], "depth": depth, "layer": number,
                "unchanged": float(same_bits(old.W, new.W).mean()),
                "zero_gradient": float((g.W == 0).mean()),
            }
            for number, (old, new, g) in enumerate(walk, start=1)
        ]  # fmt: skip
    return rows


def same_bits(old, new):
    """Return which float32 numbers are the same to the last bit."""
    return np.asarray(old).view(np.uint32) == np.asarray(new).view(np.uint32)


def deepest(rows: list[dict]) -> dict[str, list[dict]]:
    """Return the rows of each activation's deepest network."""
    depth = max(row["depth"] for row in rows)
    acts = dict.fromkeys(row["activation"] for row in rows)
    return {a: [r for r in rows if (r["activation"], r["depth"]) == (a, depth)] for a in acts}


def unmoved(rows: list[dict]) -> dict[str, Any]:
    """Return for one network the layers without a changed bit, and means over its layers."""
    return {
        "layers": len(rows),
        "frozen": sum(row["unchanged"] == 1 for row in rows),
        "unchanged": fmean(row["unchanged"] for row in rows),
        "zero gradient": fmean(row["zero_gradient"] for row in rows),
    }
