"""The depth sweep against loops of jax and PyTorch, each run in a process of its own.

`python -m experiments.benchmark.sweep RIVAL GRID` prints the seconds of two sweeps.
"""

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from experiments.benchmark.options import Config
from experiments.benchmark.shared import CLASSES, FEATURES
from experiments.benchmark.shared import data as shared_data

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu")
WIDTH, MORE = 128, 20  # units; how many times 280 is 5,600
WHAT = (
    "sweep of 280 networks, compilation included", "second sweep of the process",
    "5,600 networks, extrapolated from the two",
)  # fmt: skip


def sweep_ratio(config: Config) -> dict[str, float]:
    """Measure 280 networks twice in a fresh process; estimate 5,600 networks from the two times.

    The rivals take turns. Importing is not counted; compiling is part of the first time.
    """
    grid = {"activations": ACTIVATIONS, "inits": ["lecun", "he"],
            "depths": [2, 5, 10, 20, 50, 100, 200], "seeds": list(range(5))}  # fmt: skip
    if config.smoke:
        grid |= {"activations": ACTIVATIONS[:1], "depths": [2], "seeds": [0]}
    times: dict[str, list[list[float]]] = {name: [] for name in RIVALS}
    for turn in range(1 if config.smoke else 3):
        for name in np.roll(list(RIVALS), turn).tolist():
            if name == "jax" and turn:  # it takes a minute
                continue
            if (seconds := in_a_fresh_process(name, grid, config.seed)) is not None:
                times[name].append(seconds)
    found, medians = {}, {}
    for name, runs in times.items():
        if runs:
            first, second = (statistics.median(each) for each in zip(*runs, strict=True))
            medians[name] = first, second, first + (MORE - 1) * second
            print(f"{name}: {first:.2f} s, second sweep {second:.2f} s")
    for name, label in (("torch", "PyTorch"), ("jax", "a jit for each depth")):
        for what, ours, theirs in zip(WHAT, medians["jaxmlp"], medians.get(name, ()), strict=False):
            found[f"{what} / {label}"] = ours / theirs
    return found


def in_a_fresh_process(rival: str, grid: dict, seed: int) -> list[float] | None:
    """Return the seconds of two sweeps; None if the library is not installed."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, rival, json.dumps(grid), str(seed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the sweep of {rival} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def jaxmlp_sweep(X, Y) -> Callable:
    import jaxmlp

    return lambda grid: jaxmlp.depth_sweep(**grid, width=WIDTH, X=X, Y=Y)


def jax_sweep(X, Y) -> Callable:
    """Sweep with jax.grad over a scan, jitted for each activation and depth; norms of dW."""
    import jax
    import jax.numpy as jnp

    import jaxmlp

    @jax.jit
    def log10_norms(grads):
        each = [jnp.atleast_1d(jnp.linalg.norm(g.W, axis=(-2, -1))) for g in grads]
        return jnp.log10(jnp.concatenate(each))

    compiled = {}

    def run(grid: dict) -> None:
        for activation, depth in itertools.product(grid["activations"], grid["depths"]):
            mlp = jaxmlp.MLP((FEATURES, *[WIDTH] * depth, CLASSES), hidden=activation, stack_from=1)
            J = jaxmlp.Objective(mlp, "cross_entropy")
            gradient = compiled.setdefault((activation, depth), jax.jit(jax.grad(J)))
            for init, seed in itertools.product(grid["inits"], grid["seeds"]):
                params = mlp.init(jax.random.key(seed), init)
                log10_norms(gradient(params, X, Y)).block_until_ready()

    return run


def torch_sweep(X, Y) -> Callable:
    """Sweep with PyTorch, eager, with denormals flushed."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_flush_denormal(True)
    functions = {"leaky_relu": torch.nn.functional.leaky_relu}
    inputs, targets = torch.tensor(np.asarray(X)), torch.tensor(np.asarray(Y)).long()

    def run(grid: dict) -> None:
        for activation, depth in itertools.product(grid["activations"], grid["depths"]):
            act = functions.get(activation) or getattr(torch, activation)
            for init, seed in itertools.product(grid["inits"], grid["seeds"]):
                torch.manual_seed(seed)
                gain, widths = (
                    {"lecun": 1.0, "he": 2.0}[init],
                    [FEATURES, *[WIDTH] * depth, CLASSES],
                )
                Ws = [
                    (torch.randn(d_in, d_out) * (gain / d_in) ** 0.5).requires_grad_()
                    for d_in, d_out in itertools.pairwise(widths)
                ]
                bs = [torch.zeros(W.shape[1], requires_grad=True) for W in Ws]
                A = inputs
                for W, b in zip(Ws[:-1], bs[:-1], strict=True):
                    A = act(A @ W + b)
                torch.nn.functional.cross_entropy(A @ Ws[-1] + bs[-1], targets).backward()
                torch.stack([torch.log10(W.grad.norm()) for W in Ws]).tolist()

    return run


RIVALS = {"jaxmlp": jaxmlp_sweep, "torch": torch_sweep, "jax": jax_sweep}


def main(rival: str, grid: str, seed: str) -> None:
    X, Y = shared_data(Config(seed=int(seed)))
    seconds: list[float] | None = []
    try:
        run = RIVALS[rival](X, Y)
        (X @ X.T).block_until_ready()  # the backend is warm
        for _ in range(2):
            begun = time.perf_counter()
            run(json.loads(grid))
            seconds.append(time.perf_counter() - begun)
    except ModuleNotFoundError:
        seconds = None
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
