"""Is the gradient by hand equal to jax.grad, for every activation, loss and depth?

The difference is relative, max|hand - jax| / max|jax|, for each weight, bias and slope of each
layer. If float32 cannot decide, because no entry is above 1e-30 or J overflows, the comparison is
made in float64 and counted. If a network overflows in float64 too, it decides nothing and is
counted apart.
"""

import dataclasses
import math

from experiments import common

LOSSES = (
    ("cross_entropy", "softmax"),
    ("binary_cross_entropy", "sigmoid"),
    ("half_squared_error", "linear"),
    ("mse", "softmax"),
    ("sse", "tanh"),
    ("norm", "sigmoid"),
)
LIMITS = {"float64": 1e-11, "float32": 1e-4}
SMALLEST = 1e-30


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the proof."""

    full: bool = False
    """every activation x loss x depth; default: each activation with a few of the others"""
    depths: tuple[int, ...] = (1, 2, 5, 20, 100)
    """numbers of hidden layers"""
    width: int = 16
    """units in every hidden layer"""


def main(config: Config) -> bool:
    """Run the proof; return whether a difference is beyond its limit."""
    import jax

    common.check_integers(config, "depths", "width")
    chosen, rows = cells(config), []
    with common.Results("equivalence", config) as results:
        with common.progress("networks") as report:
            for done, cell in enumerate(chosen, start=1):
                rows.extend(compare(*cell, width=config.width, seed=config.seed))
                if done % 16 == 0:
                    results.csv(rows)
                    jax.clear_caches()  # hundreds of compiled networks exhaust the memory maps
                report(done, len(chosen))
        results.csv(rows)
        common.table("Hand against jax.grad: the worst leaf for each activation", worst(rows))
        decided = [row for row in rows if row["decided_in"] != "neither"]
        beyond = [row for row in decided if not row["difference"] <= LIMITS[row["dtype"]]]
        undecided = {(r["activation"], r["depth"]) for r in rows if r["decided_in"] == "neither"}
        print(
            f"\n{len(chosen)} networks, {len(rows)} leaves of layers compared; limits: "
            + ", ".join(f"{dtype} {limit:g}" for dtype, limit in LIMITS.items())
            + f"; beyond them: {len(beyond)}."
        )
        for activation, depth in sorted(undecided):
            print(f"Overflows in float64 too, and decides nothing: {activation}, depth {depth}.")
    return bool(beyond)


def cells(config: Config) -> list[tuple]:
    """Yield activation, loss, output and depth of every network."""
    from jaxmlp import activations

    names = [name for name in activations.names() if name not in ("softmax", "swish")]
    found = [
        (name, *loss, depth)
        for i, name in enumerate(names)
        for j, loss in enumerate(LOSSES)
        for k, depth in enumerate(config.depths)
        if config.full or (j, k) in _some(i, len(config.depths))
    ]
    return found[:: len(found) // 6] if config.smoke else found


def _some(i: int, num_depths: int) -> set[tuple[int, int]]:
    """Return loss and depth of the cells of activation i.

    They are the deepest network with the cross-entropy, and two others; over the activations these
    go through the other losses and depths.
    """
    return {(0, num_depths - 1)} | {
        (1 + (i + shift) % (len(LOSSES) - 1), (i + shift) % num_depths) for shift in (0, 2)
    }


def compare(activation: str, loss: str, output: str, depth: int, width: int, seed: int):
    """Yield one row for each leaf of each layer and dtype."""
    import jax

    differences = {}
    for dtype in LIMITS:
        with jax.enable_x64(dtype == "float64"):
            differences[dtype] = _leaves(activation, loss, output, depth, width, seed)
    rows = []
    for dtype, leaves in differences.items():
        for leaf, (difference, size) in leaves.items():
            decided, in_double = dtype, differences["float64"][leaf]
            if not size > SMALLEST:
                decided, difference = "float64", in_double[0]
            if math.isnan(in_double[1]):
                decided, difference = "neither", math.nan
            rows.append(
                {
                    "activation": activation, "loss": loss, "output": output, "depth": depth,
                    "dtype": dtype, "leaf": leaf, "decided_in": decided, "size": size,
                    "difference": difference,
                }
            )  # fmt: skip
    return rows


def _leaves(activation, loss, output, depth, width, seed) -> dict[str, tuple[float, float]]:
    """`{"W1": (relative difference, largest entry of jax.grad), ...}`.

    The size is NaN, which means undecided, if J itself overflows in this precision.
    """
    import jax
    import numpy as np

    import jaxmlp

    mlp = jaxmlp.MLP((8, *[width] * depth, 4), hidden=activation, output=output, stack_from=5)
    J = jaxmlp.Objective(mlp, loss)
    key_params, key_X, key_Y = jax.random.split(jax.random.key(seed), 3)
    params = mlp.init(key_params, "lecun")
    X = jax.random.normal(key_X, (32, 8))
    Y = jax.nn.softmax(3 * jax.random.normal(key_Y, (32, 4)))
    hand, auto = (
        jaxmlp.as_dict(jax.tree.map(np.asarray, jax.jit(transform(J))(params, X, Y)))
        for transform in (jaxmlp.grad, jax.grad)
    )
    leaves, overflow = {}, not np.isfinite(J(params, X, Y))
    for leaf, reference in auto.items():
        size = float(np.abs(reference).max())
        difference = float(jaxmlp.relative_difference(hand[leaf], reference))
        leaves[leaf] = (difference, math.nan if overflow else size)
    return leaves


def worst(rows: list[dict]) -> list[dict]:
    """Return the leaf with the largest difference, for each activation and dtype."""
    table = []
    for activation in dict.fromkeys(row["activation"] for row in rows):
        own = [row for row in rows if row["activation"] == activation]
        line = {"activation": activation}
        for dtype in LIMITS:
            found = [r for r in own if r["dtype"] == dtype and r["decided_in"] != "neither"]
            # NaN, in one of the two gradients alone, is worse than any number
            top = max(
                found, key=lambda r: (math.isnan(r["difference"]), r["difference"]), default=None
            )
            line[dtype] = f"{top['difference']:.1e}" if top else "overflows"
            line[f"{dtype} at"] = (
                f"{top['leaf']}, depth {top['depth']}, {top['loss']}" if top else ""
            )
        in_double = [r for r in own if (r["dtype"], r["decided_in"]) == ("float32", "float64")]
        line["decided in float64"] = len(in_double)
        table.append(line)
    return table


if __name__ == "__main__":
    common.run(main, common.parse(Config, __doc__))
