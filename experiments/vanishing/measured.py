"""All that is measured."""

from typing import Any, NamedTuple

from experiments import common
from experiments.vanishing.chains import Chain, chain, gain_2
from experiments.vanishing.dead import UNITS, dead_units
from experiments.vanishing.options import Config
from experiments.vanishing.steps import one_step
from experiments.vanishing.training import race, train


class Measured(NamedTuple):
    """Hold all results; each field is what the function of that name returns."""

    chains: dict[str, Chain]
    gains: dict[str, Any]
    bits: list[dict]
    units: list[dict]
    paths: dict[str, tuple]
    races: list[dict]
    curves: dict[str, tuple]
    grid: list[dict]


def measure(config: Config, results: common.Results) -> Measured:
    """Measure part after part, and write each table as soon as it is finished."""
    chains = {init: chain(config, init) for init in ("lecun", "he")}
    results.csv(products(chains))
    bits = [row for act in ("sigmoid", "tanh", "relu") for row in one_step(config, act)]
    results.csv(bits, "_bits")
    dead = {act: dead_units(config, act) for act in UNITS}
    units = [row for row, _ in dead.values()]
    results.csv(units, "_dead")
    with common.progress("races") as report:
        races, curves = race(config, report)
    results.csv(races, "_race")
    with common.progress("networks of growing depth") as report:
        grid = train(config, report)
    results.csv(grid, "_training")
    gains = {act: gain_2(config, act) for act in ("linear", "tanh")}
    paths = {act: path for act, (_, path) in dead.items()}
    return Measured(chains, gains, bits, units, paths, races, curves, grid)


def products(chains: dict[str, Chain]) -> list[dict]:
    """Return a row for each network and number of layers below the output."""
    return [
        {"init": init, "layers_below": k, **dict(zip(c._fields, row, strict=True))}
        for init, c in chains.items()
        for k, row in enumerate(zip(*c, strict=True))
    ]
