"""All that is measured."""

from typing import Any, NamedTuple

from experiments import common
from experiments.vanishing.chains import Chain, chain, gain_2
from experiments.vanishing.dead import UNITS, dead_units
from experiments.vanishing.networks import Config
from experiments.vanishing.steps import one_step
from experiments.vanishing.training import race, train


class Measured(NamedTuple):
    """All that is told and drawn; each part is what its function returns."""

    chains: dict[str, Chain]
    gains: dict[str, Any]
    bits: list[dict]
    units: list[dict]
    paths: dict[str, tuple]
    races: list[dict]
    curves: dict[str, tuple]
    grid: list[dict]


def measure(config: Config) -> Measured:
    dead = {act: dead_units(config, act) for act in UNITS}
    with common.progress("races") as report:
        races, curves = race(config, report)
    with common.progress("networks of growing depth") as report:
        grid = train(config, report)
    return Measured(
        chains={init: chain(config, init) for init in ("lecun", "he")},
        gains={act: gain_2(config, act) for act in ("linear", "tanh")},
        bits=[row for act in ("sigmoid", "tanh", "relu") for row in one_step(config, act)],
        units=[row for row, _ in dead.values()],
        paths={act: path for act, (_, path) in dead.items()},
        races=races, curves=curves, grid=grid,
    )  # fmt: skip
