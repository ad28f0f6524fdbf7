"""The cost of per-sample quantities over that of a plain gradient, in time and memory.

All rivals of a model are measured in turns. A PyTorch library is compared with PyTorch's plain
gradient, so the ratio is the price of the quantity and not the speed of matrix products.
"""

import functools
import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.any_model.models import Model, dense
from experiments.any_model.options import Config
from experiments.benchmark.options import Config as Benchmark
from experiments.benchmark.per_sample import PLAIN, backpack_rivals, label, opacus_rivals
from experiments.benchmark.shared import in_turns
from jaxmlp import per_sample

NORMS, CLIPPED = "gradient and norms", "clipped gradient"
# dense networks, of which every library can do one quantity at least
PEERS = (((784, 512, 512, 10), 128), ((64, *[128] * 10, 10), 256))
SMALL = (((8, 16, 4), 8),)


def of_model(config: Config, model: Model, params: Any, X, Y) -> list[dict]:
    """Return a row for each rival of one model: time and memory over a plain gradient."""
    rivals = {("", PLAIN): gradient, **jax_rivals(config.max_norm)}
    compiled = {
        who: jax.jit(functools.partial(rival, model.loss)).lower(params, X, Y).compile()
        for who, rival in rivals.items()
    }
    runs = {who: functools.partial(each, params, X, Y) for who, each in compiled.items()}
    told: dict[tuple, Any] = {who: each.memory_analysis() for who, each in compiled.items()}
    held = {who: m.temp_size_in_bytes + m.output_size_in_bytes for who, m in told.items()}
    plain = held["", PLAIN]
    allowed = 1.1 + bytes_of_dZ(model.loss, params, X, Y) / plain
    return [
        {"model": model.name, "batch": len(Y), **row, "memory": held[who] / plain,
         "1.1 and dZ": allowed}
        for who, row in prices(runs, config.rounds)
    ]  # fmt: skip


def of_peers(config: Config) -> Iterator[dict]:
    """Return the rows of dense networks, with BackPACK and Opacus if they are installed."""
    for sizes, m in SMALL if config.smoke else PEERS:
        model = dense(sizes, label(sizes))
        key_params, key_X, key_Y = jax.random.split(jax.random.key(config.seed), 3)
        X = jax.random.normal(key_X, (m, sizes[0]))
        Y = jax.random.randint(key_Y, (m,), 0, sizes[-1])
        yield from of_model(config, model, model.init(key_params), X, Y)
        nothing = {"memory": math.nan, "1.1 and dZ": math.nan}
        for library, rivals in (("BackPACK", backpack_rivals), ("Opacus", opacus_rivals)):
            kinds = {PLAIN: PLAIN, "+ norms": NORMS, "clipping": CLIPPED}
            torch = rivals(Benchmark(seed=config.seed), sizes, m)
            runs = {
                ("" if kind == PLAIN else library, kinds[kind]): rival.run
                for kind, rival in torch.items()
                if kind in kinds
            }
            for _, row in prices(runs, config.rounds) if runs else ():
                yield {"model": model.name, "batch": m, **row, **nothing}


def prices(runs: dict[tuple, Callable], rounds: int) -> Iterator[tuple[tuple, dict]]:
    """Return each rival's time over the plain gradient's of the same round, with quartiles."""
    times = dict(zip(runs, in_turns(list(runs.values()), rounds), strict=True))
    plain = np.array(times["", PLAIN])
    for who, of_rival in times.items():
        library, quantity = who
        if quantity != PLAIN:
            low, median, high = np.quantile(np.array(of_rival) / plain, (0.25, 0.5, 0.75))
            yield who, {
                "quantity": quantity, "library": library,
                "time": float(median), "low": float(low), "high": float(high),
            }  # fmt: skip


def bytes_of_dZ(loss: Callable, params: Any, X, Y) -> int:
    """Return the bytes of dZ of all products, for all samples."""

    def dZ(A, dZ):
        return dZ

    _, out = jax.eval_shape(per_sample.of(loss, (dZ,)), params, X, Y)
    return sum(each.size * each.dtype.itemsize for each in out["dZ"])


# --- the rivals: functions of (loss, params, X, Y) ------------------------------------------------


def jax_rivals(max_norm: float) -> dict[tuple[str, str], Callable]:
    """Return the functions to measure, by library and quantity."""
    rivals = {
        ("here", NORMS): ours,
        ("vmap(grad)", NORMS): naive,
        ("here", CLIPPED): functools.partial(clipped, max_norm=max_norm),
    }
    if importlib.util.find_spec("jax_privacy") is not None:
        rivals["jax_privacy", CLIPPED] = functools.partial(private, max_norm=max_norm)
    return rivals


def gradient(loss, params, X, Y):
    """Return the function for the batch's mean loss and its gradient."""
    return jax.value_and_grad(lambda p: jax.vmap(loss, (None, 0, 0))(p, X, Y).mean())(params)


def ours(loss, params, X, Y):
    return per_sample.of(loss, ("grad", "per_sample_norms"))(params, X, Y)


def naive(loss, params, X, Y):
    """Return the function for the same by forming each sample's gradient."""
    values, grads = jax.vmap(jax.value_and_grad(loss), (None, 0, 0))(params, X, Y)
    norms = [jnp.linalg.norm(g.reshape(len(g), -1), axis=1) for g in jax.tree.leaves(grads)]
    return values.mean(), jax.tree.map(lambda g: g.mean(0), grads), jnp.stack(norms, 1)


def clipped(loss, params, X, Y, *, max_norm):
    return per_sample.of(loss, ("clipped_grad",), max_norm=max_norm)(params, X, Y)[1]


def private(loss, params, X, Y, *, max_norm):
    """Return the function for the sum of clipped gradients by jax_privacy."""
    from jax_privacy import clipping  # pyright: ignore[reportMissingImports]

    return clipping.clipped_grad(
        loss, l2_clip_norm=max_norm, batch_argnums=(1, 2), keep_batch_dim=False
    )(params, X, Y)
