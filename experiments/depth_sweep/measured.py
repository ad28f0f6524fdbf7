"""The sweep, and the lecture's statements about deep networks (H1-H3), measured."""

import contextlib
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import jaxmlp
from experiments import common
from experiments.depth_sweep.options import Config, grid


def measure(config: Config):
    """Run the sweep on threads, processes or dask's workers."""
    X, Y = common.digits(config.num_samples)
    with executor(config) as where, common.progress("networks") as report:
        try:
            return jaxmlp.depth_sweep(
                **grid(config), X=X, Y=Y, executor=where, store=config.store, progress=report
            )
        except jaxmlp.sweep.WorkersDied as error:
            raise ValueError(f"{error}; {go_on(config)}") from error


@contextlib.contextmanager
def executor(config: Config) -> Iterator[Any]:
    """Return the executor; None for threads of this process."""
    if config.dask is None:
        yield jaxmlp.sweep.workers(config.workers) if config.workers else None
        return
    try:
        from distributed import Client  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise ValueError("--dask needs more: pip install -e '.[dask]'") from None
    try:
        client = Client(config.dask, timeout="10s")
    except OSError as error:
        raise ValueError(f"no dask scheduler answers at {config.dask}: {error}") from None
    with client:
        # not pure: what finished is dropped, and is not run again when its worker dies
        yield client.get_executor(pure=False)


def go_on(config: Config) -> str:
    """Return how an interrupted sweep goes on."""
    if config.store is None:
        return "with --store FILE what is finished would be kept"
    command = shlex.join(["python", "-m", common.module_name(), *sys.argv[1:]])
    return f"what is finished is in {config.store}; go on with: {command}"


def plan(config: Config) -> str:
    """Return what would be measured: networks, parameters, memory, and those in the store."""
    X, Y = common.digits(config.num_samples)
    found = jaxmlp.sweep.plan(**grid(config), X=X, Y=Y, store=config.store)
    lines = [
        f"{found.networks:,} networks in {found.jobs:,} forward passes, "
        f"{found.parameters:,} parameters in all",
        f"memory: about {found.bytes_at_once / 1e9:.2g} GB for each network at work",
    ]
    if config.store is not None:
        lines.append(f"{config.store} holds {found.held:,} of them")
    return "\n".join(lines)


def statements(config: Config) -> list[str]:
    """Return H1-H3 of the lecture, measured with 50 hidden layers."""
    X, Y = common.digits(config.num_samples)

    table = jaxmlp.depth_sweep(
        activations=("sigmoid", "linear", "tanh", "relu", "leaky_relu"),
        inits=("lecun", "he", "gaussian:4"), depths=(50,), seeds=(config.seed,),
        width=config.width, X=X, Y=Y,
    )  # fmt: skip

    def factor(activation: str, init: str) -> tuple[float, float]:
        (row,) = table.select(activation=activation, init=init).summary()
        return row["factor_per_layer"], row["log10_first"]

    lecun, he = factor("sigmoid", "lecun"), factor("sigmoid", "he")
    gain_2 = factor("linear", "gaussian:4")
    tanh, tanh_2 = factor("tanh", "lecun"), factor("tanh", "gaussian:4")
    relu, leaky = factor("relu", "lecun"), factor("leaky_relu", "lecun")
    return [
        "H1  sigmoid: the product of 50 derivatives is at most 0.25^50 = 8e-31. The weights come\n"
        f"    in as well: the first layer's dZ is 10^{lecun[1]:.1f} with lecun weights, but "
        f"10^{he[1]:.1f} with he.",
        f"H2  tanh: a factor {tanh[0]:.3f} a layer with lecun weights; {tanh_2[0]:.3f} with twice "
        "the weights.\n"
        f"    A linear layer of gain 2: {gain_2[0]:.3f} a layer, 10^{gain_2[1]:.1f} at the first.",
        f"H3  ReLU closes half its gates: {relu[0]:.3f} a layer with lecun weights, "
        f"near sqrt(1/2); leaky ReLU {leaky[0]:.3f}.",
    ]
