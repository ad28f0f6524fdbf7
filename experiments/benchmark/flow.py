"""`gradient_flow` against the plain gradient; the depth sweep against loops of jax and PyTorch."""

import itertools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp
from experiments.benchmark.options import Config
from experiments.benchmark.shared import CLASSES, FEATURES, data, in_turns, ratio


def flow_ratio(config: Config) -> dict[str, float]:
    """gradient_flow, norms only, over the plain gradient by hand, at width 128."""
    depth = 5 if config.smoke else 50
    mlp = jaxmlp.MLP((FEATURES, *[128] * depth, CLASSES), hidden=config.activation, stack_from=1)
    J, params = jaxmlp.Objective(mlp, "cross_entropy"), mlp.init(jax.random.key(config.seed))
    X, Y = data(config)
    flow = jax.jit(jaxmlp.gradient_flow(J, statistics=False))
    grad = jax.jit(jaxmlp.value_and_grad(J))
    times = in_turns([lambda: flow(params, X, Y), lambda: grad(params, X, Y)], config.rounds)
    return {f"gradient_flow of {depth} x 128 / gradient": ratio(*times)}


def sweep_ratio(config: Config) -> dict[str, float]:
    """log10 gradient norms of 280 networks, compilation included: one run of each rival."""
    grid: dict = {
        "activations": ("sigmoid", "tanh", "relu", "leaky_relu"), "inits": ("lecun", "he"),
        "depths": (2, 5, 10, 20, 50, 100, 200), "seeds": tuple(range(5)),
    }  # fmt: skip
    if config.smoke:
        grid |= {"depths": (2, 3), "seeds": (0,)}
    X, Y = data(config)
    jax.block_until_ready(X @ X.T)  # the backend is warm
    rivals = {
        "sweep of 280 networks / jax.grad, a jit for each depth": jax_sweep,
        "sweep of 280 networks / PyTorch": torch_sweep,
    }

    def seconds(run: Callable) -> float | None:
        jax.clear_caches()
        begun = time.perf_counter()
        done = run()
        return None if done is False else time.perf_counter() - begun

    ours = seconds(lambda: jaxmlp.depth_sweep(**grid, width=128, X=X, Y=Y))
    assert ours is not None
    theirs = {name: seconds(lambda: rival(grid, X, Y)) for name, rival in rivals.items()}  # noqa: B023
    return {name: ours / other for name, other in theirs.items() if other is not None}


def jax_sweep(grid: dict, X, Y) -> None:
    """jax.grad over a scan, jitted once for each activation and depth; norms of the dW."""
    for activation, depth in itertools.product(grid["activations"], grid["depths"]):
        mlp = jaxmlp.MLP((FEATURES, *[128] * depth, CLASSES), hidden=activation, stack_from=1)
        J = jaxmlp.Objective(mlp, "cross_entropy")

        @jax.jit
        def norms(params, J=J):
            grads = jax.grad(J)(params, X, Y)
            each = [jnp.atleast_1d(jnp.linalg.norm(g.W, axis=(-2, -1))) for g in grads]
            return jnp.log10(jnp.concatenate(each))

        for init, seed in itertools.product(grid["inits"], grid["seeds"]):
            norms(mlp.init(jax.random.key(seed), init)).block_until_ready()


def torch_sweep(grid: dict, X, Y) -> bool:
    """PyTorch, eager, denormals flushed; False where it is not installed."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return False
    torch.set_flush_denormal(True)
    functions = {"leaky_relu": torch.nn.functional.leaky_relu}
    inputs, targets = torch.tensor(np.asarray(X)), torch.tensor(np.asarray(Y)).long()
    for activation, depth in itertools.product(grid["activations"], grid["depths"]):
        act = functions.get(activation) or getattr(torch, activation)
        for init, seed in itertools.product(grid["inits"], grid["seeds"]):
            torch.manual_seed(seed)
            gain, widths = {"lecun": 1.0, "he": 2.0}[init], [FEATURES, *[128] * depth, CLASSES]
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
    return True
