"""How fast is the gradient by hand? Ratios against jax.value_and_grad, measured in turns.

Every rival computes loss and gradient of the same network on the same data. In each round every
rival runs once, in changing order; a ratio is the median over the rounds of time by hand divided
by the rival's time. Below 1 the hand-written pass is faster.
"""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Sequence

from experiments import common

SAMPLES = 256
FEATURES, CLASSES = 64, 10


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the benchmark."""

    depths: tuple[int, ...] = (2, 10, 50, 200, 1000)
    """numbers of hidden layers"""
    widths: tuple[int, ...] = (32, 128, 512)
    """units in every hidden layer"""
    rounds: int = 21
    """rounds of measurement, at least 15 for a table"""
    activation: str = "tanh"
    """hidden activation"""


def main(config: Config) -> None:
    rows = gradient_rows(config)
    common.table("Loss and gradient: time by hand / time of", rows)
    summary = summarize(rows) | compile_ratio(config) | fit_ratio(config)
    summary |= flow_ratio(config) | sweep_ratio(config)
    print("\nLeft out, because they would take minutes: " + "; ".join(left_out(config)) + ".")
    common.table("In one number", [{"what": k, "ratio": v} for k, v in summary.items()])
    results = common.Results("benchmark", config)
    results.csv(rows)
    results.close()


def gradient_rows(config: Config) -> list[dict]:
    """One row for each depth and width."""
    grid = [(d, w) for w in config.widths for d in config.depths if not _takes_minutes(d, w)]
    rows = []
    with common.progress("networks") as report:
        for done, (depth, width) in enumerate(grid, start=1):
            rows.append(compare_gradients(config, depth, width))
            report(done, len(grid))
    return rows


def compare_gradients(config: Config, depth: int, width: int) -> dict:
    """Hand against autodiff of the same objective, over a scan, and over a list of layers."""
    import jax

    import jaxmlp

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


def in_turns(runs: Sequence[Callable], rounds: int) -> list[list[float]]:
    """Seconds of each run in each round; short ones are repeated until a round takes 5 ms."""
    import jax

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
    """The median over the rounds of our time over theirs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def summarize(rows: list[dict]) -> dict[str, float]:
    """The numbers that have a target."""
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


def compile_ratio(config: Config) -> dict[str, float]:
    """Compile time of the gradient of 1,000 layers over that of 40."""
    import jax

    import jaxmlp

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


def fit_ratio(config: Config) -> dict[str, float]:
    """`fit` of (2, 4, 3) on the spiral, full batch, 10,000 steps, over a NumPy loop of the same."""
    import jax
    import numpy as np

    import jaxmlp

    steps = 200 if config.smoke else 10_000
    data = jaxmlp.datasets.spiral()
    J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3)), "cross_entropy")
    params = J.mlp.init(jax.random.key(config.seed))
    arrays = {name: np.array(leaf) for name, leaf in jaxmlp.as_dict(params).items()}
    X, Y = data.X.astype(np.float32), np.eye(3, dtype=np.float32)[data.Y]
    loop = lambda: numpy_loop(arrays, X, Y, 0.1, steps)  # noqa: E731
    ours = lambda: jaxmlp.fit(J, params, data.X, data.Y, optimizer=0.1, epochs=steps)  # noqa: E731
    ours_seconds, numpy_seconds = in_turns([ours, loop], 5)
    return {"fit of (2, 4, 3), 10,000 steps / NumPy": ratio(ours_seconds, numpy_seconds)}


def numpy_loop(arrays: dict, X, Y, learning_rate: float, steps: int):
    """Gradient descent of E2 and E3 in NumPy, with the loss of every step."""
    import numpy as np

    W1, b1, W2, b2 = (arrays[name].copy() for name in ("W1", "b1", "W2", "b2"))
    m, history = len(X), np.empty(steps)
    for step in range(steps):
        A1 = np.maximum(X @ W1 + b1, 0)
        E = np.exp(A1 @ W2 + b2)
        A2 = E / E.sum(axis=1, keepdims=True)
        history[step] = -(Y * np.log(A2)).sum() / m
        dZ2 = (A2 - Y) / m
        dZ1 = (dZ2 @ W2.T) * (A1 > 0)
        W2 -= learning_rate * (A1.T @ dZ2)
        b2 -= learning_rate * dZ2.sum(axis=0)
        W1 -= learning_rate * (X.T @ dZ1)
        b1 -= learning_rate * dZ1.sum(axis=0)
    return history


def flow_ratio(config: Config) -> dict[str, float]:
    """gradient_flow, norms only, over the plain gradient by hand, at width 128."""
    import jax

    import jaxmlp

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
    import jax

    import jaxmlp

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
    import jax
    import jax.numpy as jnp

    import jaxmlp

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
    import numpy as np

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


def data(config: Config):
    """Normal inputs and random labels."""
    import jax

    key_X, key_Y = jax.random.split(jax.random.key(config.seed))
    X = jax.random.normal(key_X, (SAMPLES, FEATURES))
    return X, jax.random.randint(key_Y, (SAMPLES,), 0, CLASSES)


def left_out(config: Config) -> list[str]:
    cells = [f"{d} x {w}" for w in config.widths for d in config.depths if _takes_minutes(d, w)]
    lists = [f"unrolled at depth {d}" for d in config.depths if _unrolled_takes_minutes(d)]
    return cells + lists or ["nothing"]


def _takes_minutes(depth: int, width: int) -> bool:
    return depth * width**2 > 1e8


def _unrolled_takes_minutes(depth: int) -> bool:
    return depth > 500


if __name__ == "__main__":
    config = common.parse(Config, __doc__)
    if config.smoke:
        config = dataclasses.replace(config, depths=(2, 40), widths=(16,), rounds=3)
    common.run(main, config)
