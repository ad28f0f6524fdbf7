"""The cost of a residual and a norm: gradients against the plain network and autodiff."""

import jax

import jaxmlp
from experiments import common
from experiments.benchmark.options import Config
from experiments.benchmark.shared import CLASSES, FEATURES, data, in_turns, ratio

REMEDIES = {
    "residual 0.5": {"residual": 0.5},
    "rezero": {"residual": "rezero"},
    "layer norm": {"norm": "layer"},
    "RMS norm": {"norm": "rms"},
    "layer norm, residual 0.5": {"residual": 0.5, "norm": "layer"},
}


def cost_rows(config: Config) -> common.Rows:
    """Yield one row for each remedy and size: the time by hand over that of the plain network by
    hand, and over `jax.value_and_grad` of the same objective."""
    rows = []
    sizes = ((3, 16),) if config.smoke else ((10, 128), (50, 128), (200, 128))
    X, Y = data(config)
    for depth, width in sizes:

        def run(transform, **remedy):
            layers = (FEATURES, *[width] * depth, CLASSES)  # noqa: B023
            mlp = jaxmlp.MLP(layers, hidden=config.activation, **remedy)
            params = mlp.init(jax.random.key(config.seed), "lecun")
            J = jaxmlp.Objective(mlp, "cross_entropy")
            compiled = jax.jit(transform(J)).lower(params, X, Y).compile()
            return lambda: compiled(params, X, Y)

        runs = [run(jaxmlp.value_and_grad)]
        for remedy in REMEDIES.values():
            runs += [run(jaxmlp.value_and_grad, **remedy), run(jax.value_and_grad, **remedy)]
        plain, *others = in_turns(runs, config.rounds)
        for name, hand, auto in zip(REMEDIES, others[::2], others[1::2], strict=True):
            rows.append(
                {
                    "remedy": name, "depth": depth, "width": width,
                    "plain, by hand": ratio(hand, plain), "same objective": ratio(hand, auto),
                }
            )  # fmt: skip
        jax.clear_caches()
    return rows


def summarize(rows: common.Rows) -> dict[str, float]:
    """Return the numbers that have a target."""
    return {
        "largest, a residual / plain": max(
            row["plain, by hand"] for row in rows if "norm" not in row["remedy"]
        ),
        "largest, a norm / same objective": max(
            row["same objective"] for row in rows if "norm" in row["remedy"]
        ),
    }
