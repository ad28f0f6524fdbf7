"""Per-sample quantities: each against a plain gradient of its own library, and its memory.

Every library is measured in turns with its own plain gradient, so the ratio is the price of the
quantity and not the speed of matrix products.
"""

import copy
import importlib.util
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxmlp
from experiments import common
from experiments.benchmark.options import Config
from experiments.benchmark.shared import in_turns, ratio, spread

NETWORKS = (
    ((64, *[128] * 51, 10), (256,)),
    ((784, 512, 512, 10), (128,)),
    ((5120, 2560, 1280), (32, 512, 8192)),
)
SMALL = (((8, 16, 16, 4), (8, 16)),)
PLAIN, QUARTILES = "gradient", ("time_q25", "time_q75")


def cost_rows(config: Config) -> Iterator[dict]:
    """Yield one row for each network, batch size, library and quantity."""
    networks = SMALL if config.smoke else NETWORKS
    cells = [(sizes, m) for sizes, batches in networks for m in batches]
    libraries = {"jaxmlp": jax_rivals, "BackPACK": backpack_rivals, "Opacus": opacus_rivals}
    with common.progress("per-sample networks") as report:
        for done, (sizes, m) in enumerate(cells, start=1):
            for name, rivals in libraries.items():
                base = {"network": label(sizes), "batch": m, "library": name}
                yield from (base | row for row in prices(config, rivals, sizes, m))
            report(done, len(cells))


def prices(config: Config, rivals: Callable, sizes: tuple[int, ...], m: int) -> list[dict]:
    """Return time and memory of each quantity over the plain gradient of its library."""
    quantities: dict[str, Rival] = rivals(config, sizes, m)
    if not quantities:
        return []
    fits = {q: r.run for q, r in quantities.items() if r.needs <= machine_memory() / 2}
    matmuls = 6 * m * sum(a * b for a, b in itertools.pairwise(sizes))  # operations of a gradient
    rounds = min(config.rounds, 15) if matmuls < 2e11 else 3
    times = dict(zip(fits, in_turns(list(fits.values()), rounds), strict=True))
    plain = quantities[PLAIN].memory
    unknown = math.nan, math.nan
    return [
        {
            "quantity": q,
            "time": ratio(times[q], times[PLAIN]) if q in times else math.nan,
            **dict(
                zip(
                    QUARTILES,
                    spread(times[q], times[PLAIN]) if q in times else unknown,
                    strict=True,
                )
            ),
            "memory": r.memory / plain,
            "GB": r.memory / 1e9,
            "note": "" if q in times else f"needs {r.needs / 1e9:.0f} GB: not run",
        }
        for q, r in quantities.items()
    ]


class Rival(NamedTuple):
    """Hold a quantity: how to run it, its bytes by its shapes, and as the compiler reports."""

    run: Callable
    needs: float = 0.0
    memory: float = math.nan


def jax_rivals(config: Config, sizes: tuple[int, ...], m: int) -> dict[str, Rival]:
    """Return the instruments, and the norms by vmap(grad)."""
    mlp = jaxmlp.MLP(sizes, hidden=config.activation)
    J = jaxmlp.Objective(mlp, "cross_entropy")
    key_params, key_X, key_Y = jax.random.split(jax.random.key(config.seed), 3)
    params = mlp.init(key_params, "lecun")
    X = jax.random.normal(key_X, (m, sizes[0]))
    Y = jax.random.randint(key_Y, (m,), 0, sizes[-1])

    def vmap_norms(params, X, Y):
        grads = jax.vmap(jax.grad(lambda p, x, y: J(p, x[None], y[None])), (None, 0, 0))
        leaves = jax.tree.leaves(grads(params, X, Y))
        return jnp.stack([jnp.linalg.norm(g.reshape(m, -1), axis=1) for g in leaves])

    def rival(function, needs=0.0):
        compiled = jax.jit(function).lower(params, X, Y).compile()
        told: Any = compiled.memory_analysis()
        memory = told.temp_size_in_bytes + told.output_size_in_bytes
        return Rival(lambda: compiled(params, X, Y), needs, memory)

    return {
        PLAIN: rival(jaxmlp.value_and_grad(J)),
        "+ norms": rival(jaxmlp.instruments(J, ("grad", "per_sample_norms"))),
        # the mean among the moments is the gradient
        "+ norms + moments": rival(jaxmlp.instruments(J, ("per_sample_norms", "moments"))),
        "clipping": rival(jaxmlp.clipped_grad(J, max_norm=1.0)),
        "norms by vmap(grad)": rival(vmap_norms, needs=4.0 * m * mlp.num_parameters),
    }


def torch_network(config: Config, sizes: tuple[int, ...], m: int):
    """Return the same network in PyTorch, with its data; None if PyTorch is not installed."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return None
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    torch.manual_seed(config.seed)
    act = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}
    parts = []
    for d_in, d_out in itertools.pairwise(sizes):
        parts += [torch.nn.Linear(d_in, d_out), act[config.activation]()]
    model = torch.nn.Sequential(*parts[:-1])
    return model, torch.randn(m, sizes[0]), torch.randint(0, sizes[-1], (m,))


def torch_gradient(model, X, Y) -> Callable:
    """Return the plain gradient of a PyTorch model."""
    import torch  # pyright: ignore[reportMissingImports]

    loss = torch.nn.CrossEntropyLoss()

    def run():
        model.zero_grad()
        loss(model(X), Y).backward()

    return run


def backpack_rivals(config: Config, sizes: tuple[int, ...], m: int) -> dict[str, Rival]:
    """Return BackPACK's norms and variance; nothing if it is not installed."""
    network = torch_network(config, sizes, m)
    if network is None or importlib.util.find_spec("backpack") is None:
        return {}
    import torch  # pyright: ignore[reportMissingImports]
    from backpack import backpack, extend  # pyright: ignore[reportMissingImports]
    from backpack.extensions import (  # pyright: ignore[reportMissingImports]
        BatchL2Grad,
        Variance,
    )

    model, X, Y = network
    extended, loss = extend(copy.deepcopy(model)), extend(torch.nn.CrossEntropyLoss())

    def with_extensions(*kinds):
        def run():
            extended.zero_grad()
            with backpack(*(kind() for kind in kinds)):
                loss(extended(X), Y).backward()

        return run

    return {
        PLAIN: Rival(torch_gradient(model, X, Y)),
        "+ norms": Rival(with_extensions(BatchL2Grad)),
        "+ norms + moments": Rival(with_extensions(BatchL2Grad, Variance)),
    }


def opacus_rivals(config: Config, sizes: tuple[int, ...], m: int) -> dict[str, Rival]:
    """Return Opacus's ghost clipping; nothing if it is not installed."""
    network = torch_network(config, sizes, m)
    if network is None or importlib.util.find_spec("opacus") is None:
        return {}
    import torch  # pyright: ignore[reportMissingImports]
    from opacus.grad_sample import (  # pyright: ignore[reportMissingImports]
        GradSampleModuleFastGradientClipping,
    )
    from opacus.optimizers import (  # pyright: ignore[reportMissingImports]
        DPOptimizerFastGradientClipping,
    )
    from opacus.utils.fast_gradient_clipping_utils import (  # pyright: ignore[reportMissingImports]
        DPLossFastGradientClipping,
    )

    model, X, Y = network
    ghost = GradSampleModuleFastGradientClipping(
        copy.deepcopy(model), max_grad_norm=1, use_ghost_clipping=True
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(ghost.parameters(), lr=0.1),
        noise_multiplier=0.0, max_grad_norm=1.0, expected_batch_size=m,
    )  # fmt: skip
    loss = DPLossFastGradientClipping(ghost, optimizer, torch.nn.CrossEntropyLoss())

    def clip():
        optimizer.zero_grad()
        loss(ghost(X), Y).backward()

    return {PLAIN: Rival(torch_gradient(model, X, Y)), "clipping": Rival(clip)}


def machine_memory() -> int:
    """Return the memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def label(sizes: tuple[int, ...]) -> str:
    """`64-128x51-10` for `(64, 128, ..., 128, 10)`."""
    runs = [(width, len(list(group))) for width, group in itertools.groupby(sizes)]
    return "-".join(f"{width}x{n}" if n > 2 else "-".join([str(width)] * n) for width, n in runs)
