"""He et al. 2015, figures 2 and 3: with 22 layers both initialisations train, with 30 one stalls.

The paper: convolutional networks on ImageNet. Here: dense ones on digits, of as many weight layers,
with one learning rate for all, at which those of 22 layers train from both initialisations, as in
the paper. Gradients longer than 1 are cut to 1: without that He's networks of 30 layers diverge at
this rate, for dense layers of 64 units vary more than the paper's.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxmlp
from experiments import common
from experiments.papers.claims import Claim, Reproduced, mean_and_error
from experiments.papers.options import Config
from jaxmlp.initializers import gaussian
from jaxmlp.plotting.style import BLUE, VERMILION, bare

PAPER = "He et al. 2015, fig. 2-3"
XAVIER, HE = "Xavier", "He"
SIGMA_W2 = {XAVIER: 1.0, HE: 2.0}
LAYERS = (22, 30)
GUESSING = np.log(10)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.03, 0.9))


def reproduce(config: Config) -> Reproduced:
    width, epochs, num_nets = (16, 2, 2) if config.smoke else (64, 60, 4)
    X, Y = common.digits(1280)
    X = jnp.asarray(X, jnp.float32)
    losses, claims = {}, []
    for layers in LAYERS[-1:] if config.smoke else LAYERS:
        mlp = jaxmlp.MLP((64, *[width] * (layers - 1), 10), hidden="relu", stack_from=2)
        J = jaxmlp.Objective(mlp, "cross_entropy")
        for name, sigma_w2 in SIGMA_W2.items():
            init = gaussian(sigma_w2)
            keys = jax.random.split(jax.random.key(config.seed), num_nets)
            networks = jax.vmap(lambda key, init=init, mlp=mlp: mlp.init(key, init))(keys)
            _, history = jaxmlp.fit_many(
                J, networks, X, Y, optimizer=OPTIMIZER, epochs=epochs, batch_size=64,
                key=jax.random.key(config.seed),
            )  # fmt: skip
            losses[layers, name] = np.asarray(history.loss) / GUESSING
            ours, error = mean_and_error(losses[layers, name][:, -1])
            stalls = (layers, name) == (30, XAVIER)
            claims.append(Claim(
                f"loss / that of guessing, {layers} layers, {name}", ours, 0.2, error,
                published=float(stalls),
                where=f"fig. {2 if layers == 22 else 3}: {'stalls' if stalls else 'converges'}",
            ))  # fmt: skip
        claims.append(Claim(
            f"log10 of the output's std, Xavier / He, {layers} layers",
            output_ratio(mlp, X, config.seed), 1e-3, 0.0, derived_ratio(layers),
            -layers / 2 * np.log10(2), "section 2.2: 1/sqrt(2)^L",
        ))  # fmt: skip
    return Reproduced(claims, figure(losses, width))


def derived_ratio(layers: int) -> float:
    """Return the ratio by mean-field theory: a layer multiplies the length by sigma_w2 / 2."""
    ratio = np.prod([length(SIGMA_W2[XAVIER]) / length(SIGMA_W2[HE]) for _ in range(layers)])
    return float(np.log10(ratio) / 2)


def length(sigma_w2: float) -> float:
    return float(jaxmlp.meanfield.length_map("relu", sigma_w2, 0.0, 1.0))


def output_ratio(mlp, X, seed: int) -> float:
    """Return log10 of the size of the last Z for the same normal numbers, scaled in two ways."""
    J = jaxmlp.Objective(mlp, "cross_entropy")
    sizes = []
    for sigma_w2 in SIGMA_W2.values():
        params = mlp.init(jax.random.key(seed), gaussian(sigma_w2))
        Z = jaxmlp.trace(J)(params, X[:64], np.zeros(64, int))[-1].Z
        sizes.append(float(jnp.std(Z)))
    return float(np.log10(sizes[0] / sizes[1]))


def figure(losses, width):
    fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
    for ax, layers in zip(axes, sorted({layers for layers, _ in losses}), strict=False):
        for name, colour in ((XAVIER, VERMILION), (HE, BLUE)):
            for i, curve in enumerate(losses[layers, name]):
                ax.plot(np.arange(1, len(curve) + 1), curve, color=colour,
                        label=None if i else name)  # fmt: skip
        ends = [losses[layers, name][:, -1].mean() for name in SIGMA_W2]
        xavier, he = (f"{end:.2g}" if end > 0.01 else "under 0.01" for end in ends)
        ax.set_title(f"{layers} layers: loss at the end {xavier} (Xavier)\n"
                     f"and {he} (He) of that of guessing")  # fmt: skip
        ax.set(xlabel=f"epoch (width {width}, digits)", ylim=(0, 1.2))
        bare(ax)
    axes[0].set_ylabel("loss / that of guessing")
    axes[0].legend()
    return fig
