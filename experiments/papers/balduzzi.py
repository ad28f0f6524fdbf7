"""Balduzzi et al. 2017: the gradients at two inputs lose their correlation with depth.

The paper assumes that the gates of two inputs are independent. Then the correlation is 2^-L in a
plain ReLU network and (3/4)^L in a residual one. That holds at the first layer. But further up the
inputs become alike, so their gates agree more and more, and the correlation falls only as a power
of the depth.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp
from experiments.papers.claims import Claim, Reproduced, mean_and_error
from experiments.papers.options import Config
from jaxmlp import per_sample
from jaxmlp.plotting import style
from jaxmlp.plotting.style import COLOURS, bare

PAPER = "Balduzzi et al. 2017"
DEPTHS = (2, 4, 8, 16, 32)
KINDS = {"plain": None, "residual": 1.0, "1/sqrt(depth)": "1/sqrt(depth)"}
CLAIMED = {  # of the depth, and where
    "plain": (lambda depth: 2.0**-depth, "theorem 1: 2^-L"),
    "residual": (lambda depth: 0.75**depth, "theorem 2: (3/4)^L"),
}


def reproduce(config: Config) -> Reproduced:
    width, num_nets = (16, 4) if config.smoke else (128, 600)
    depths = DEPTHS[1:2] if config.smoke else DEPTHS
    claims, seen = [], {}
    for kind, residual in KINDS.items():
        for depth in depths:
            # layer 1 never adds to a stream
            cosines = correlations(residual, depth, width, num_nets, config.seed)
            seen[kind, depth] = ours, error = mean_and_error(cosines)
            if depth in (4, 8):  # deeper, 600 networks cannot tell the two apart
                claimed, where = CLAIMED.get(kind, (lambda depth: math.nan, "no such network"))
                claims.append(Claim(
                    f"correlation, {kind}, {depth} hidden layers", ours, 4 * error + 0.01, error,
                    derived(residual, depth), claimed(depth), where,
                ))  # fmt: skip
    if not config.smoke:
        claims.append(exponent(seen))
    return Reproduced(claims, figure(seen, depths, width))


def exponent(seen) -> Claim:
    """Return the power of the depth with which the correlation falls, from 4 to 16 layers."""
    depths = (4, 8, 16)
    x = np.log(depths)
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)  # of each log in the slope
    ours, errors = np.array([seen["plain", depth] for depth in depths]).T
    error = float(np.sqrt(np.sum((weights * errors / ours) ** 2)))
    theory = weights @ np.log([derived(None, depth) for depth in depths])
    return Claim(
        "exponent of the depth, plain, 4 to 16 layers", float(weights @ np.log(ours)), 4 * error,
        error, float(theory), where="the paper has an exponential instead",
    )  # fmt: skip


def correlations(residual, depth: int, width: int, num_nets: int, seed: int) -> jax.Array:
    """Return the cosine of the derivatives in Z[1] at two orthogonal inputs, for each network."""
    mlp = jaxmlp.MLP((width, *[width] * depth, 1), hidden="relu", output="linear",
                     use_bias=False, residual=residual, stack_from=1)  # fmt: skip
    J = jaxmlp.Objective(mlp, "half_squared_error")
    X = np.sqrt(width) * np.eye(2, width, dtype=np.float32)
    Y = np.full((2, 1), 1e4, np.float32)  # so far that the loss has the same derivative at both

    def cosine(A, dZ, layer):
        one, other = dZ / jnp.linalg.norm(dZ, axis=1, keepdims=True)
        return one @ other

    read = per_sample.instruments(J, (cosine,))

    def one(key):
        return read(mlp.init(key, "he"), X, Y)[1]["cosine"][0]

    keys = jax.random.split(jax.random.key(seed), num_nets)
    return jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=25))(keys)


def derived(residual, depth: int) -> float:
    """Return the ratio of the gradient's covariance to its variance, for wide networks.

    theta is the angle between the two inputs. A gate is open at both with probability
    (1 - theta/pi) / 2, and at one with 1/2; ReLU keeps `(sin theta + (pi - theta) cos theta) / pi`
    of the correlation.
    """
    alpha2 = 1 / depth if isinstance(residual, str) else (residual or 0) ** 2
    c, ratio = 0.0, 1.0
    for layer in range(1, depth + 1):
        theta = math.acos(min(max(c, -1.0), 1.0))
        gates = 1 - theta / math.pi
        passed = (math.sin(theta) + (math.pi - theta) * c) / math.pi
        if residual is None or layer == depth:  # the output layer adds to no stream
            ratio, c = ratio * gates, passed
        else:
            ratio *= (1 + alpha2 * gates) / (1 + alpha2)
            c = (c + alpha2 * passed) / (1 + alpha2)
    return ratio


def figure(seen, depths, width):
    ax = style.new_axes(figsize=(8, 4))
    x = np.arange(1, depths[-1] + 1)
    for kind, colour in zip(KINDS, COLOURS, strict=False):
        points = np.array([seen[kind, depth] for depth in depths])
        ax.errorbar(depths, points[:, 0], 2 * points[:, 1], fmt="o", color=colour, label=kind)
        ax.plot(x, [derived(KINDS[kind], int(d)) for d in x], color=colour)
    for kind, dashes in (("plain", ":"), ("residual", "--")):
        ax.plot(x, [CLAIMED[kind][0](d) for d in x], dashes, color="0.5",
                label=CLAIMED[kind][1])  # fmt: skip
    ax.set(xscale="log", yscale="log", ylim=(1e-4, 1.5), xlabel="hidden layers",
           ylabel="correlation of two gradients")  # fmt: skip
    ax.set_title(
        "Gradients at two inputs lose their correlation as a power of the depth, "
        f"not exponentially (he ReLU, width {width}; lines: theory)",
    )
    ax.legend(loc="lower left")
    return bare(ax).figure
