"""Loss and gradient by hand against autodiff, and the time to compile."""

import statistics
import time
from collections.abc import Iterator

import jax

import jaxmlp
from experiments import common
from experiments.benchmark.options import Config
from experiments.benchmark.shared import CLASSES, FEATURES, SAMPLES, data, in_turns, ratio


def gradient_rows(config: Config) -> Iterator[dict]:
    """Yield one row for each depth and width."""
    grid = [(d, w) for w in config.widths for d in config.depths if not _takes_minutes(d, w)]
    with common.progress("networks") as report:
        for done, (depth, width) in enumerate(grid, start=1):
            yield compare_gradients(config, depth, width)
            report(done, len(grid))


def compare_gradients(config: Config, depth: int, width: int) -> dict:
    """Measure by hand against autodiff: same objective, over a scan, over a list of layers."""
    sizes = (FEATURES, *[width] * depth, CLASSES)
    X, Y = data(config)

    def rival(transform, **storage):
        mlp = jaxmlp.MLP(sizes, hidden=config.activation, **storage)
        params = mlp.init(jax.random.key(config.seed), "lecun")
        J = jaxmlp.Objective(mlp, "cross_entropy")
        begun = time.perf_counter()
        run = jax.jit(transform(J)).lower(params, X, Y).compile()
        return (lambda: run(params, X, Y)), time.perf_counter() - begun

    rivals = {
        "hand": rival(jaxmlp.value_and_grad),
        "same objective": rival(jax.value_and_grad),
        "scan": rival(jax.value_and_grad, stack_from=1),
    }
    if not _unrolled_takes_minutes(depth):
        rivals["unrolled"] = rival(jax.value_and_grad, stack_from=None)
    times = in_turns([run for run, _ in rivals.values()], config.rounds)
    hand, seconds = times[0], dict(zip(rivals, times, strict=True))
    row: dict = {"depth": depth, "width": width}
    for name in ("same objective", "scan", "unrolled"):
        row[name] = ratio(hand, seconds[name]) if name in rivals else "left out"
    row["compile time, same objective"] = rivals["hand"][1] / rivals["same objective"][1]
    return row


def summarize(rows: list[dict]) -> dict[str, float]:
    """Return the numbers that have a target."""
    deep = [row["scan"] for row in rows if row["depth"] >= 50]
    summary = {"largest, same objective": max(row["same objective"] for row in rows)}
    lists = [row for row in rows if row["unrolled"] != "left out"]
    groups = {
        "largest, unrolled, up to 32 layers": [r for r in lists if r["depth"] < 32],
        "largest, unrolled, more layers, width <= 128": [
            r for r in lists if r["depth"] >= 32 and r["width"] <= 128
        ],
        "largest, unrolled, more layers, wider": [
            r for r in lists if r["depth"] >= 32 and r["width"] > 128
        ],
    }
    summary |= {name: max(r["unrolled"] for r in group) for name, group in groups.items() if group}
    return summary | ({"geometric mean, scan": statistics.geometric_mean(deep)} if deep else {})


def left_out(config: Config) -> list[str]:
    cells = [f"{d} x {w}" for w in config.widths for d in config.depths if _takes_minutes(d, w)]
    lists = [f"unrolled at depth {d}" for d in config.depths if _unrolled_takes_minutes(d)]
    return cells + lists or ["nothing"]


def _takes_minutes(depth: int, width: int) -> bool:
    return depth * width**2 > 1e8


def _unrolled_takes_minutes(depth: int) -> bool:
    return depth > 500


def compile_ratio(config: Config) -> dict[str, float]:
    """Return the time to compile the gradient of 1,000 layers over that for 40."""
    seconds: dict[int, list[float]] = {40: [], 1000: []}
    for _ in range(2 if config.smoke else 5):
        for depth in seconds:
            mlp = jaxmlp.MLP((FEATURES, *[32] * depth, CLASSES), hidden=config.activation)
            params = jax.eval_shape(mlp.init, jax.random.key(0))
            X = jax.ShapeDtypeStruct((SAMPLES, FEATURES), "float32")
            Y = jax.ShapeDtypeStruct((SAMPLES,), "int32")
            hand = jaxmlp.value_and_grad(jaxmlp.Objective(mlp, "cross_entropy"))
            begun = time.perf_counter()
            jax.jit(hand).lower(params, X, Y).compile()
            seconds[depth].append(time.perf_counter() - begun)
            jax.clear_caches()
    return {"compile time of 1,000 layers / 40 layers": ratio(seconds[1000], seconds[40])}
