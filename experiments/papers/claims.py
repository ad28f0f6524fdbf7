"""A claim: what a paper says, what theory says, what was measured, and whether they agree."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

NOT_READ = "no number that could be read in a source"


class Claim(NamedTuple):
    """One row of the table.

    where: where the published value stands; NOT_READ if there is none. published, derived: NaN if
    there is none. error: the standard error of ours, 0 if nothing is drawn at random. tolerance:
    how far ours may be from each of the two, with the scale and rounding of both in mind.
    """

    what: str
    ours: float
    tolerance: float
    error: float = 0.0
    derived: float = math.nan
    published: float = math.nan
    where: str = NOT_READ


class Reproduced(NamedTuple):
    """What the module of a paper returns."""

    claims: list[Claim]
    figure: Any


def verdict(claim: Claim) -> str:
    """Say with which of the two the measurement agrees; nothing, if there is neither."""
    held = {
        name: abs(claim.ours - value) <= claim.tolerance
        for name, value in (("paper", claim.published), ("theory", claim.derived))
        if not math.isnan(value)
    }
    if not held:
        return "measured"
    if all(held.values()):
        return "agrees"
    if not any(held.values()):
        return "differs"
    return "agrees with theory, not the paper" if held["theory"] else "agrees with the paper only"


def mean_and_error(values: Any) -> tuple[float, float]:
    """The mean of draws, and its standard error."""
    values = jnp.asarray(values)
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def draw(mlp: Any, init: Any, num_nets: int, seed: int) -> Any:
    """The parameters of some networks, along a first axis."""
    keys = jax.random.split(jax.random.key(seed), num_nets)
    return jax.vmap(lambda key: mlp.init(key, init))(keys)
