"""`gradient_flow` against the plain gradient."""

import jax

import jaxmlp
from experiments.benchmark.options import Config
from experiments.benchmark.shared import CLASSES, FEATURES, data, in_turns, ratio


def flow_ratio(config: Config) -> dict[str, float]:
    """Return the time of gradient_flow (norms only) over the plain gradient, at width 128."""
    depth = 5 if config.smoke else 50
    mlp = jaxmlp.MLP((FEATURES, *[128] * depth, CLASSES), hidden=config.activation, stack_from=1)
    J, params = jaxmlp.Objective(mlp, "cross_entropy"), mlp.init(jax.random.key(config.seed))
    X, Y = data(config)
    flow = jax.jit(jaxmlp.gradient_flow(J, statistics=False))
    grad = jax.jit(jaxmlp.value_and_grad(J))
    times = in_turns([lambda: flow(params, X, Y), lambda: grad(params, X, Y)], config.rounds)
    return {f"gradient_flow of {depth} x 128 / gradient": ratio(*times)}
