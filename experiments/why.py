"""My deep network does not learn: why, and what cures it?

The weights are yours (--weights FILE.npz with W1, b1, W2, b2, ..., and X, Y unless they are the
spiral's), or they are drawn for --hidden, --depth, --width and --init. For each layer it prints the
size of dZ and dW, the share of saturated and of dead units, and the share of weights that one step
does not change by a single bit. Then it prints the cause in one sentence, and measures each
remedy.
"""

import dataclasses
from pathlib import Path
from typing import Any

from experiments import common
from experiments.common import Rows


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the question."""

    weights: Path | None = None
    """a file of np.savez with W1, b1, W2, b2, ...; X and Y too, if they are not the spiral's"""
    hidden: str = "sigmoid"
    """activation of the hidden layers, a name of jaxmlp.activations"""
    init: str = "lecun"
    """how weights are drawn if none are given: he, glorot, orthogonal, normal:0.01, zeros, ..."""
    depth: int = 20
    """number of hidden layers if no weights are given"""
    width: int = 32
    """units of each of them"""
    learning_rate: float = 0.1
    """of the one step, and of gradient descent in the table of remedies"""
    num_steps: int = 300
    """of gradient descent, for each remedy"""


# name: hidden activation (None: yours), initialisation, options of the MLP
REMEDIES: dict[str, tuple[str | None, str, dict[str, Any]]] = {
    "ReLU, he": ("relu", "he", {}),
    "tanh, orthogonal": ("tanh", "orthogonal", {}),
    "layer norm": (None, "lecun", {"norm": "layer"}),
    "residual 1/sqrt(depth)": (None, "lecun", {"residual": "1/sqrt(depth)"}),
    "residual, layer norm": (None, "lecun", {"residual": "1/sqrt(depth)", "norm": "layer"}),
}


def main(config: Config) -> None:
    import jax

    import jaxmlp
    from jaxmlp.flow_report import cause

    common.check_integers(config, "depth", "width", "num_steps")
    common.check_positive(config, "learning_rate")
    params, X, Y = given(config) if config.weights else drawn(config)
    sizes = (X.shape[1], *(W.shape[1] for W, _ in params))
    J = jaxmlp.Objective(jaxmlp.MLP(sizes, hidden=config.hidden, stack_from=None), "cross_entropy")
    with common.Results("why", config) as results:
        flow = jaxmlp.gradient_flow(J)(params, X, Y)
        rows = layers(flow, params, jaxmlp.grad(J)(params, X, Y), config.learning_rate)
        results.csv(rows)
        common.table(f"{J.mlp.depth} hidden layers of {config.hidden}", rows)
        print(f"\n{cause(flow)}\n")
        key = jax.random.key(config.seed)
        remedies = [learned("as it is", J, params, X, Y, config)]
        some = list(REMEDIES.items())[: 1 if config.smoke else None]
        for name, (hidden, init, options) in some:
            mlp = jaxmlp.MLP(sizes, hidden=hidden or config.hidden, **options)
            other = jaxmlp.Objective(mlp, "cross_entropy")
            remedies.append(learned(name, other, mlp.init(key, init), X, Y, config))
        results.csv(remedies, "_remedies")
        common.table(f"Remedies, {config.num_steps} steps of {config.learning_rate:g}", remedies)


def drawn(config: Config) -> tuple[Any, Any, Any]:
    """Return parameters of such a network, and the spiral."""
    import jax

    import jaxmlp

    data = jaxmlp.datasets.spiral()
    sizes = (2, *[config.width] * config.depth, data.num_classes)
    params = jaxmlp.MLP(sizes, hidden=config.hidden, stack_from=None).init(
        jax.random.key(config.seed), config.init
    )
    return [(layer.W, layer.b) for layer in params], data.X, data.Y


def given(config: Config) -> tuple[Any, Any, Any]:
    """Return the parameters of the file as a list of (W, b), and its X and Y or the spiral's."""
    import numpy as np

    import jaxmlp

    assert config.weights is not None
    with np.load(config.weights, allow_pickle=False) as file:
        arrays = {name: np.asarray(file[name]) for name in file.files}
    data = jaxmlp.datasets.spiral()
    X, Y = arrays.pop("X", data.X), arrays.pop("Y", data.Y)
    pairs = [(layer.W, layer.b) for layer in jaxmlp.layers(jaxmlp.from_dict(arrays))]  # pyright: ignore
    single = np.float32  # a step is lost in float32, and so it is judged there
    return [(np.asarray(W, single), np.asarray(b, single)) for W, b in pairs], single(X), Y


def layers(flow: Any, params: Any, grads: Any, learning_rate: float) -> Rows:
    """Return one row for each layer."""
    import numpy as np

    rows = []
    for i, ((W, _), grad) in enumerate(zip(params, grads, strict=True)):
        W, dW = (np.asarray(x, np.float32) for x in (W, grad.W))
        rows.append(
            {
                "layer": i + 1,
                "log10 dZ": float(flow.log10_delta[i]),
                "log10 dW": float(flow.log10_grad_W[i]),
                "saturated": float(flow.saturated[i]),
                "dead": float(flow.dead[i]),
                "weights not moved": float(np.mean(W - np.float32(learning_rate) * dW == W)),
            }
        )
    return rows


def learned(name: str, J: Any, params: Any, X: Any, Y: Any, config: Config) -> dict[str, Any]:
    """Return how much of the gradient reaches layer 1, and the accuracy after training."""
    import jaxmlp

    stream = jaxmlp.gradient_flow(J)(params, X, Y).log10_stream
    _, history = jaxmlp.fit(
        J, params, X, Y, optimizer=config.learning_rate, epochs=config.num_steps
    )
    return {
        "remedy": name,
        "decades lost on the way to layer 1": float(stream[-1] - stream[0]),
        "loss": float(history.loss[-1]),
        "accuracy": float(history.accuracy[-1]),
    }


if __name__ == "__main__":
    common.run(main, common.parse(Config, __doc__, num_steps=20, depth=6))
