"""The figures: decision regions, and learning curves."""

import matplotlib.pyplot as plt

from experiments.spiral.networks import Trained, classes
from jaxmlp import plotting
from jaxmlp.plotting.style import written


def regions(networks: list[Trained], data):
    """Draw decision regions side by side."""
    figure, axes = plt.subplots(1, 3, figsize=(8, 3.2), sharey=True, layout="constrained")
    for ax, network in zip(axes, networks, strict=True):

        def classify(points, network=network):
            return classes(network.J.mlp, network.params, points)

        plotting.decision_regions(classify, data.X, data.Y, ax)
        share = f"{network.right} of {len(data.Y)} right, {network.right / len(data.Y):.1%}"
        ax.set_title(f"{called(network)}\n{share}")
        ax.label_outer()
    figure.suptitle("A hidden layer without a non-linearity leaves the boundaries straight")
    return figure


def called(network: Trained) -> str:
    """The name of a network, with that of its activation as figures write it."""
    first, *rest = network.name.split()
    return " ".join([written(first), *rest])


def curves(networks: list[Trained]):
    """Draw loss with L2, and accuracy, against the step."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for ax, ylabel in zip(axes, ("loss with L2", "accuracy"), strict=True):
        field = ylabel.split()[0]
        lines = {called(net): (net.steps[1:], getattr(net, field)[1:]) for net in networks}
        plotting.learning_curves(lines, ax, xlabel="step", ylabel=ylabel)
        ax.set(xscale="log", yscale="linear")
    axes[1].get_legend().remove()
    regression, linear, bent = (net.loss[-1] for net in networks)
    figure.suptitle(
        f"Without a non-linearity the loss ends at {regression:.3f} and {linear:.3f}, "
        f"with {written(networks[-1].J.mlp.hidden[0].name)} at {bent:.3f}"
    )
    return figure
