"""The options, and what they must be."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

from experiments import common


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the depth sweep."""

    activations: tuple[str, ...] = ("sigmoid", "tanh", "relu", "leaky_relu")
    """hidden activations; with arguments as leaky_relu:0.1"""
    inits: tuple[str, ...] = ("lecun", "he")
    """initialisations: lecun, glorot, he, orthogonal"""
    depths: tuple[int, ...] = (2, 10, 50, 200, 1000)
    """numbers of hidden layers"""
    num_seeds: int = 3
    """networks drawn for each cell, from seeds seed, seed + 1, ..."""
    width: int = 128
    """units in every hidden layer"""
    num_samples: int = 128
    """digits that the networks are shown"""
    residuals: tuple[str, ...] = ("none",)
    """residual connections: none, a number, 1/sqrt(depth), rezero"""
    norms: tuple[str, ...] = ("none",)
    """norms before the activations: none, layer, rms"""
    store: Path | None = None
    """file that keeps each result at once; the same command goes on from it"""
    workers: int = 0
    """processes, each on its share of the cores; 0 for threads of this one"""
    dask: str | None = None
    """address of a dask scheduler whose workers measure the networks"""
    html: bool = False
    """write a page to choose networks on and look at, too"""
    dry_run: bool = False
    """say what would be measured, and end"""
    only: tuple[Literal["sweep", "theory", "lecture", "histograms"], ...] = (
        "sweep", "theory", "lecture", "histograms",
    )  # fmt: skip
    """parts to measure: a small question takes a small part"""
    vanishing: float = 0.97
    """verdict: vanishing when a layer leaves less than this factor of the norm"""
    exploding: float = 1.03
    """verdict: exploding when a layer makes more than this factor of it"""
    theory_depth: int = 100
    """hidden layers of the networks that are compared with mean-field theory"""
    theory_nets: int = 20
    """networks drawn for each of these comparisons"""


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    grid(config)
    common.check_integers(config, "depths", "num_seeds", "width", "theory_depth")
    common.check_integers(config, "workers", at_least=0)
    common.check_integers(config, "theory_nets", at_least=2)  # for a standard deviation
    if not 0 < config.vanishing < config.exploding < math.inf:
        raise ValueError(
            f"expected 0 < vanishing < exploding, got {config.vanishing} and {config.exploding}"
        )
    common.digits(config.num_samples)
    if config.workers and config.dask:
        raise ValueError("give --workers or --dask, not both")


def grid(config: Config) -> dict[str, Any]:
    """Return the axes as `jaxmlp.depth_sweep` takes them; refuse bad ones."""
    from jaxmlp.sweep import grid

    axes: dict[str, Any] = {
        "activations": config.activations,
        "inits": config.inits,
        "depths": config.depths,
        "seeds": common.seeds(config, config.num_seeds),
        "width": config.width,
        "residuals": [_residual(text) for text in config.residuals],
        "norms": [None if text == "none" else text for text in config.norms],
    }
    grid.checked(**axes, num_seeds=None, loss="cross_entropy")
    return axes


def _residual(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return None if text == "none" else text
