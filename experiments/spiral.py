"""Why is one layer not enough, and a hidden layer without a non-linearity no better?

Three arms of a spiral in the plane, 100 points each, meet softmax regression, a network whose
hidden layer is linear, and one whose hidden layer is not; all in float64, by full-batch gradient
descent with L2 decay on the weights: loss + decay/2 sum W^2. The shapes of the lecture's
(2, 4, 3) network are printed beside its slips.

Seed 0 is the published data, and the weights that the notes' program draws after them with NumPy's
seed 0 (their page shows another draw). Any other seed draws another spiral and other weights.

Source: A. Karpathy, CS231n notes, "Minimal neural network case study".
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

from experiments import common

EVERY = 10  # steps between two points of a curve
NOTES_SHAPES = {
    "A0 = X": (300, 2), "W1": (2, 4), "b1": (1, 4), "Z1": (300, 4), "A1": (300, 4),
    "W2": (4, 3), "b2": (1, 3), "Z2": (300, 3), "A2": (300, 3),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the spiral."""

    activation: str = "relu"
    """of the third network's hidden layer; with arguments as leaky_relu:0.1"""
    width: int = 100
    """units in the hidden layers"""
    num_steps: int = 10_000
    """full-batch steps of each network"""
    learning_rate: float = 1.0
    """size of a step"""
    decay: float = 1e-3
    """L2 decay of the weights, not of the biases"""


class Trained(NamedTuple):
    """A network after training; loss (with L2) and accuracy at `steps`, number of points right."""

    name: str
    J: Any
    params: Any
    steps: Any
    loss: Any
    accuracy: Any
    right: int


def main(config: Config) -> None:
    import jax
    import matplotlib

    matplotlib.use("Agg")
    with jax.enable_x64(True):
        data = samples(config)
        shape_rows, shape_lines = shapes(data, config.seed)
        common.table("E1  Shapes in (2, 4, 3)", shape_rows)
        print(*shape_lines, "", sep="\n")
        networks = train(config, data)
        rows = [summary(network, data) for network in networks]
        common.table(f"C1-C3  After {config.num_steps:,} steps", rows)
        print(*statements(networks, data), sep="\n")

        results = common.Results("spiral", config)
        results.csv(rows)
        results.figure(regions(networks, data))
        results.figure(curves(networks), "_training")
        results.close()


# --- computing ------------------------------------------------------------------------------------


def samples(config: Config):
    """The published spiral for seed 0, else one drawn from the seed."""
    import jax

    from jaxmlp import datasets

    return datasets.spiral(None if config.seed == 0 else jax.random.key(config.seed))


def starts(config: Config) -> list[tuple[str, Any, Any]]:
    """Name, objective and first parameters of each network: 0.01 x standard normal, biases 0.

    The two networks with a hidden layer start from the same weights.
    """
    import jax
    import numpy as np

    import jaxmlp

    sizes, act = (2, config.width, 3), config.activation
    alone, linear, bent = (
        jaxmlp.MLP((2, 3)), jaxmlp.MLP(sizes, hidden="linear"), jaxmlp.MLP(sizes, hidden=act)
    )  # fmt: skip
    random = np.random.RandomState(config.seed)
    random.standard_normal(300)  # what the notes' program has drawn by now, for its data

    def draw(mlp):
        return [0.01 * random.standard_normal(shape) for shape in itertools.pairwise(mlp.sizes)]

    def start(name, mlp, weights):
        zero = mlp.init(jax.random.key(0), jax.nn.initializers.zeros)
        params = tuple(layer._replace(W=W) for layer, W in zip(zero, weights, strict=True))
        return name, jaxmlp.Objective(mlp, "cross_entropy"), params

    regression, shared = start("softmax regression", alone, draw(alone)), draw(bent)
    return [
        regression,
        start("linear hidden layer", linear, shared),
        start(f"{act} hidden layer", bent, shared),
    ]


def train(config: Config, data) -> list[Trained]:
    """Every network, trained for as many steps."""
    from jaxmlp import checks

    checks.integer("num_steps", config.num_steps, at_least=EVERY)
    checks.positive_number("learning_rate", config.learning_rate)
    if not 0 <= config.decay < float("inf"):
        raise ValueError(f"decay must be finite and at least 0, got {config.decay}")
    networks, n = starts(config), config.num_steps
    with common.progress("steps") as report:
        return [
            train_one(config, data, *start, lambda done, i=i: report(i * n + done, 3 * n))
            for i, start in enumerate(networks)
        ]


def train_one(config: Config, data, name: str, J, params, report) -> Trained:
    """One network, by the notes' gradient descent."""
    import jax
    import numpy as np
    import optax

    import jaxmlp

    @jax.jit
    def total(params, X, Y):
        return J(params, X, Y) + config.decay / 2 * sum((W**2).sum() for W, *_ in params)

    optimizer = optax.chain(
        optax.add_decayed_weights(config.decay, mask=jaxmlp.weight_mask),
        optax.sgd(config.learning_rate),
    )
    first = total(params, data.X, data.Y)
    params, history = jaxmlp.fit(
        J, params, data.X, data.Y, optimizer=optimizer, epochs=config.num_steps,
        record=total, every=EVERY, progress=lambda done, _: report(done),
    )  # fmt: skip
    right = int((classes(J.mlp, params, data.X) == data.Y).sum())
    steps = np.arange(0, config.num_steps + 1, EVERY)
    accuracy = np.append(history.accuracy, right / len(data.Y))[steps]
    return Trained(name, J, params, steps, np.append(first, history.record), accuracy, right)


def classes(mlp, params, X):
    """The class of each point: the largest output."""
    import numpy as np

    return np.asarray(mlp.apply(params, X)).argmax(axis=1)


def one_regression(params):
    """C2: the layers of a network without non-linearity as one, W1 W2 and b1 W2 + b2."""
    import jaxmlp

    p = jaxmlp.as_dict(params)
    return (jaxmlp.Layer(p["W1"] @ p["W2"], p["b1"] @ p["W2"] + p["b2"]),)


def shapes(data, seed: int) -> tuple[list[dict], list[str]]:
    """E1: every shape beside the notes', and two slips beside the right thing."""
    import jax
    import numpy as np

    import jaxmlp

    mlp = jaxmlp.MLP((2, 4, 3), hidden="relu", output="softmax")
    J, params = jaxmlp.Objective(mlp, "cross_entropy"), mlp.init(jax.random.key(seed), "he")
    arrays = jaxmlp.as_dict(params) | {"A0 = X": data.X}
    for l, step in enumerate(jaxmlp.trace(J)(params, data.X, data.Y), start=1):
        arrays |= {f"Z{l}": step.Z, f"A{l}": step.A}
    rows = [
        {"array": name, "notes": str(notes), "here": str(arrays[name].shape)}
        for name, notes in NOTES_SHAPES.items()
    ]
    dZ2 = np.asarray(arrays["A2"]) - np.eye(3)[data.Y]  # of each sample; db2 is their mean
    over_samples, over_classes = dZ2.mean(axis=0), dZ2.mean(axis=1)
    error = np.abs(over_samples - jax.grad(J)(params, data.X, data.Y)[1].b).max()
    lines = [
        f"{mlp.num_parameters} parameters = (2x4 + 4) + (4x3 + 3). The notes keep b as a row, we "
        "as a vector: the same numbers.",
        f"slip (600, 4) for (300, 4): X W1 has the {len(data.X)} rows of X, "
        f"{arrays['Z1'].size} numbers and not 2400; 600 counts the numbers in X ({data.X.size}).",
        f"slip mean(axis=1) for db2: (A2 - Y).mean(axis=0) has shape {over_samples.shape} and is "
        f"jax.grad's db2 but for {error:.0e};\n  mean(axis=1) has shape {over_classes.shape} and "
        f"is 0 (at most {np.abs(over_classes).max():.0e}), as rows of A2 and of Y both sum to 1.",
    ]
    return rows, lines


def summary(network: Trained, data) -> dict[str, Any]:
    """The network's line in the table."""
    return {
        "network": network.name,
        "parameters": network.J.mlp.num_parameters,
        "loss": float(network.J(network.params, data.X, data.Y)),
        "loss with L2": f"{network.loss[-1]:.6f}",
        "right": f"{network.right} of {len(data.Y)}",
        "accuracy": f"{network.right / len(data.Y):.1%}",
    }


def statements(networks: list[Trained], data) -> list[str]:
    """C1-C3 as numbers, beside what was published."""
    regression, linear, bent = networks
    X, mlp = data.X, regression.J.mlp
    one = one_regression(linear.params)
    error = abs(linear.J.mlp.apply(linear.params, X) - mlp.apply(one, X)).max()
    after_190 = f"{regression.loss[19]:.6f}" if len(regression.loss) > 19 else "not reached"
    return [
        f"\nC1  softmax regression: {regression.right} of {len(X)} right. The notes' 148 of 300 is "
        f"{148 / 300:.1%}, not the 52% they say.",
        f"    Loss with L2 after 190 steps: {after_190}; published for the set of seed 0: "
        "0.786302.",
        f"C2  the linear hidden layer's {linear.J.mlp.num_parameters} parameters are one softmax "
        f"regression of {mlp.num_parameters}:\n    W1 W2 = {_rounded(one[0].W)}, "
        f"b1 W2 + b2 = {_rounded(one[0].b)};\n    its outputs differ by {error:.0e}.",
        f"C3  {bent.name}: loss with L2 {bent.loss[-1]:.3f}, accuracy "
        f"{bent.right / len(X):.3f}; published for 100 ReLU units\n    on the set of seed 0: 0.245 "
        "and 0.98.",
    ]


def _rounded(values) -> str:
    return str(values.round(3).tolist())


# --- drawing --------------------------------------------------------------------------------------


def regions(networks: list[Trained], data):
    """Decision regions side by side."""
    import matplotlib.pyplot as plt

    from jaxmlp import plotting

    figure, axes = plt.subplots(1, 3, figsize=(8, 3.2), sharey=True, layout="constrained")
    for ax, network in zip(axes, networks, strict=True):

        def classify(points, network=network):
            return classes(network.J.mlp, network.params, points)

        plotting.decision_regions(classify, data.X, data.Y, ax)
        share = f"{network.right} of {len(data.Y)} right, {network.right / len(data.Y):.1%}"
        ax.set_title(f"{network.name}\n{share}", fontsize=10)
        ax.label_outer()
    figure.suptitle("A hidden layer without a non-linearity leaves the boundaries straight")
    return figure


def curves(networks: list[Trained]):
    """Loss with L2, and accuracy, against the step."""
    import matplotlib.pyplot as plt

    from jaxmlp import plotting

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for ax, ylabel in zip(axes, ("loss with L2", "accuracy"), strict=True):
        field = ylabel.split()[0]
        lines = {net.name: (net.steps[1:], getattr(net, field)[1:]) for net in networks}
        plotting.learning_curves(lines, ax, xlabel="step", ylabel=ylabel)
        ax.set(xscale="log", yscale="linear")
    axes[1].get_legend().remove()
    regression, linear, bent = (net.loss[-1] for net in networks)
    figure.suptitle(
        f"Without a non-linearity the loss ends at {regression:.3f} and {linear:.3f}, "
        f"with {networks[-1].J.mlp.hidden[0].name} at {bent:.3f}"
    )
    return figure


if __name__ == "__main__":
    config = common.parse(Config, __doc__)
    if config.smoke:
        config = dataclasses.replace(config, num_steps=200, width=20)
    common.run(main, config)
