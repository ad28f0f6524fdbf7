"""A claim: what a paper says, what theory says, what was measured, and whether they agree."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

NOT_READ = "no number that could be read in a source"


class Claim(NamedTuple):
    """One row of the table.

    where: the place of the published value; NOT_READ if there is none. published, derived: NaN if
    there is none. error: the standard error of the measured value, 0 if nothing is random.
    tolerance: how far the measured value may be from each of the two.
    """

    what: str
    ours: float
    tolerance: float
    error: float = 0.0
    derived: float = math.nan
    published: float = math.nan
    where: str = NOT_READ


class Reproduced(NamedTuple):
    """Hold what the module of a paper returns."""

    claims: list[Claim]
    figure: Any


def verdict(claim: Claim) -> str:
    """Return with which of the two the measurement agrees; "" if there is neither."""
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
    """Return the mean of draws, and its standard error."""
    values = jnp.asarray(values)
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def draw(mlp: Any, init: Any, num_nets: int, seed: int) -> Any:
    """Return the parameters of some networks, along a first axis."""
    keys = jax.random.split(jax.random.key(seed), num_nets)
    return jax.vmap(lambda key: mlp.init(key, init))(keys)
