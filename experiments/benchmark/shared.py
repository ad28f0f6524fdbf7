"""What the parts of the benchmark share: data, and measuring rivals in turns."""

import statistics
import time
from collections.abc import Callable, Sequence

import jax

from experiments.benchmark.options import Config

SAMPLES = 256
FEATURES, CLASSES = 64, 10


def in_turns(runs: Sequence[Callable], rounds: int) -> list[list[float]]:
    """Return the seconds of each run in each round; short runs are repeated for 5 ms."""
    repeats = []
    for run in runs:
        jax.block_until_ready(run())
        begun = time.perf_counter()
        jax.block_until_ready(run())
        repeats.append(max(1, int(5e-3 / (time.perf_counter() - begun))))
    repeat = max(repeats)
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds):
        for i in range(len(runs)):
            i = (i + turn) % len(runs)
            begun = time.perf_counter()
            for _ in range(repeat):
                result = runs[i]()
            jax.block_until_ready(result)
            times[i].append((time.perf_counter() - begun) / repeat)
            del result
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over the rounds of our time divided by theirs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def spread(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The quartiles of what `ratio` is the median of; both are the one round of one."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return low, high


def data(config: Config):
    """Return normal inputs and random labels."""
    key_X, key_Y = jax.random.split(jax.random.key(config.seed))
    X = jax.random.normal(key_X, (SAMPLES, FEATURES))
    return X, jax.random.randint(key_Y, (SAMPLES,), 0, CLASSES)
