"""A program for 8 simulated devices: samples and networks are spread, numbers are those of one.

It prints one line of JSON: by name what differs most, where results are, and what is gathered.
"""

import json
import re

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from support import drawn

import jaxmlp

M = 32
ROWS = NamedSharding(Mesh(np.array(jax.devices()), ("m",)), PartitionSpec("m"))
mlp = jaxmlp.MLP((3, *[5] * 4, 4), hidden="tanh", stack_from=2)
RNG = np.random.default_rng(0)
J, params = jaxmlp.Objective(mlp, "cross_entropy"), drawn(mlp, "he", np.float32, RNG)
X, Y = RNG.normal(size=(M, 3)).astype(np.float32), np.arange(M) % 4
OPTIMIZER = optax.sgd(0.1)
SPREAD = {  # by name, and whether its results lead with the samples
    "value_and_grad": (jaxmlp.value_and_grad(J), False),
    "per_sample_grads": (jaxmlp.per_sample_grads(J), True),
    "per_sample_norms": (jaxmlp.per_sample_norms(J), True),
    "gradient_moments": (jaxmlp.gradient_moments(J), False),
    "noise_scale": (jaxmlp.noise_scale(J), False),
    "clipped_grad": (jaxmlp.clipped_grad(J, max_norm=1.0), False),
    "gradient_gram": (jaxmlp.gradient_gram(J), False),
    "gradient_flow": (jaxmlp.gradient_flow(J), False),
    "train_step": (lambda p, X, Y: STEP(p, OPTIMIZER.init(p), X, Y)[0], False),
}
STEP = jaxmlp.train_step(J, OPTIMIZER)
OF_SAMPLES = list(SPREAD)[1:7]  # on one device they are read together, which compiles once


def largest(one, other):
    """Return the largest difference of a leaf, relative to its largest entry."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    pairs = [(np.asarray(a, float), np.asarray(b, float)) for a, b in pairs]
    return max(np.nanmax(abs(a - b)) / max(np.nanmax(abs(b)), 1e-30) for a, b in pairs)


def spread(found, f, leads, reference):
    """Call a transform with sharded samples, and check what is compiled."""
    shards = jax.device_put(X, ROWS), jax.device_put(Y, ROWS)
    compiled = jax.jit(f).lower(params, *shards).compile()
    result = compiled(params, *shards)
    found["difference"] = largest(result, reference)
    gathered = re.findall(r"= \(?(\w+\[[\d,]*\])\S* all-gather", compiled.as_text())
    found["gathered"] = gathered
    found["spread"] = leads and all(
        len(leaf.sharding.device_set) == 8 and leaf.addressable_shards[0].data.shape[0] == M // 8
        for leaf in jax.tree.leaves(result)
    )


def main():
    found = {}
    _, references = jaxmlp.instruments(J, OF_SAMPLES, max_norm=1.0)(params, X, Y)
    references["value_and_grad"] = jax.jit(jax.value_and_grad(J))(params, X, Y)
    for name, (f, leads) in SPREAD.items():
        reference = references[name] if name in references else f(params, X, Y)
        spread(found.setdefault(name, {}), f, leads, reference)
    shards = jax.device_put(X, ROWS), jax.device_put(Y, ROWS)
    alone = jaxmlp.grad(J)(params, *shards)  # without a jit around it
    found["grad"] = {"difference": largest(alone, references["value_and_grad"][1])}
    fits = [jaxmlp.fit(J, params, *d, optimizer=OPTIMIZER, epochs=3)[0] for d in (shards, (X, Y))]
    found["fit"] = {"difference": largest(*fits)}
    grid = {
        "activations": ("tanh", "relu"), "inits": "he", "depths": (1, 4), "seeds": range(5),
        "width": 6, "X": X, "Y": Y,
    }  # fmt: skip
    tables = [
        jaxmlp.depth_sweep(**grid, **how).columns()
        for how in (
            {},
            {"networks_at_once": 2},
            {"networks_at_once": 2, "devices": jax.devices()[:3]},  # 5 networks: the last is padded
        )
    ]
    floats = [name for name, column in tables[0].items() if column.dtype.kind == "f"]
    alone, together, devices = ([table[name] for name in floats] for table in tables)
    found["depth_sweep"] = {
        "decades": max(
            np.nanmax(abs(a - b), initial=0) for a, b in zip(alone, devices, strict=True)
        ),
        "bits": all(
            np.array_equal(a, b, equal_nan=True) for a, b in zip(together, devices, strict=True)
        ),
    }
    print(json.dumps({"devices": len(jax.devices()), **found}, default=float))


if __name__ == "__main__":
    main()
