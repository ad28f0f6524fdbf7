"""One weight: every path from it to an output, the factors on the way, and their sum (E6)."""

import functools
import itertools
import math
import re
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxmlp
from experiments.chain_rule.networks import Problem
from experiments.chain_rule.report import Math, Section, plural, power, relative

MOST_PATHS, LISTED = 4096, 16


class Weight(NamedTuple):
    """W[layer][i, j]: layers are counted from 1, units from 0."""

    layer: int
    i: int
    j: int

    def __str__(self):
        return f"W{self.layer}[{self.i}, {self.j}]"


class Path(NamedTuple):
    """Hold the units from a weight to an output, and the factors, one value for each sample."""

    units: tuple[int, ...]
    factors: dict[str, Any]

    @property
    def product(self) -> float:
        """Return the product, summed over the samples; the last factor holds the 1/m."""
        return float(np.sum(math.prod(self.factors.values())))


class Chain(NamedTuple):
    """Hold a weight, its paths, and its gradient by `jaxmlp.trace` and by `jax.grad`."""

    p: Problem
    weight: Weight
    paths: list[Path]
    trace: float
    auto: float

    @property
    def total(self) -> float:
        """Return the sum over the paths."""
        return math.fsum(path.product for path in self.paths)

    @property
    def off(self) -> float:
        """Return the relative difference between the sum and `jax.grad`."""
        return relative(self.total, self.auto)


def chain(p: Problem, name: str) -> Chain:
    """Return the weight of that name, its paths, and its entry of the gradient."""
    layer, i, j = weight = parse_weight(name, p.J.mlp.sizes)
    found = paths(p, weight)
    auto = np.asarray(jaxmlp.layers(autodiff(p.J)(p.params, p.X, p.Y))[layer - 1].W)
    return Chain(p, weight, found, float(p.steps[layer - 1].dW[i, j]), float(auto[i, j]))


@functools.cache
def autodiff(J):
    """Return `jax.grad`, compiled once for each network."""
    return jax.jit(jax.grad(J))


def parse_weight(text: str, sizes: tuple[int, ...]) -> Weight:
    """Return the weight named `W1[0,0]`, or `V11` as in the notes."""
    L = len(sizes) - 1
    if found := re.fullmatch(r"W(\d+)\[(\d+), ?(\d+)\]", text):
        weight = Weight(*map(int, found.groups()))
    elif found := re.fullmatch(r"([UWV])(\d)(\d)", text):
        weight = Weight(L - "VWU".index(found[1]), int(found[2]) - 1, int(found[3]) - 1)
    else:
        raise ValueError(f"weight must look like W1[0,0] or V11, got {text!r}")
    if not 1 <= weight.layer <= L:
        raise ValueError(f"weight {text} is of layer {weight.layer}, but the network has 1..{L}")
    shape = sizes[weight.layer - 1 : weight.layer + 1]
    if not (0 <= weight.i < shape[0] and 0 <= weight.j < shape[1]):
        raise ValueError(f"weight {text} is outside W{weight.layer}, which has shape {shape}")
    return weight


def paths(p: Problem, weight: Weight) -> list[Path]:
    """Return every path from the weight to an output, with the factors on the way.

    Softmax mixes the outputs, so its Jacobian and the loss are one factor, a - y (B5).
    """
    layer, i, j = weight
    L, above, all_ = len(p.W), p.J.mlp.sizes[layer + 1 :], np.ones(len(p.X))
    if (number := math.prod(above)) > MOST_PATHS:
        raise ValueError(
            f"{number:,} paths from {weight}, at most {MOST_PATHS:,} are followed: take a weight "
            "of a later layer"
        )
    last, ends = f"dE/da{L}", p.steps[-1].dA / p.divisor  # E is the mean loss
    if p.gates[-1] is None:
        last, ends = f"dE/dz{L}", p.steps[-1].dZ / p.divisor
    found = []
    for units in itertools.product((i,), (j,), *map(range, above)):
        factors = {f"dz{layer}/dW{layer}": p.steps[layer - 1].A_prev[:, i]}
        for l, (below, unit) in enumerate(itertools.pairwise(units), start=layer):
            if l > layer:
                factors[f"dz{l}/da{l - 1}"] = p.W[l - 1][below, unit] * all_
            if (gate := p.gates[l - 1]) is not None:
                factors[f"da{l}/dz{l}"] = gate[:, unit]
        found.append(Path(units, {**factors, last: ends[:, units[-1]]}))
    return found


def section(c: Chain) -> Section:
    """Return a row for each path, and their sum beside both gradients."""
    number, m, loss, rows = len(c.paths), len(c.p.X), c.p.J.loss, []
    for path in c.paths[:LISTED]:
        own = {Math(k): Math(f"{v[0]:.6g}") for k, v in path.factors.items() if m == 1}
        units = Math(" > ".join(map(str, path.units)))
        rows.append({"units": units, **own, "product": Math(f"{path.product:.6g}")})
    sums = {f"sum over {plural(number, 'path')}": c.total, "jaxmlp.trace": c.trace}
    remarks = [f"{k:24}{v:.12g}" for k, v in (sums | {"jax.grad": c.auto}).items()]
    remarks.append(f"The sum is off jax.grad by {power(c.off)} of it.")
    if number > LISTED:
        remarks.append(f"Listed are the first {LISTED} paths.")
    if m > 1:
        remarks.append(f"Factors differ between samples; a product is the {loss.reduction} of all.")
    if c.p.gates[-1] is None:
        remarks.append(f"dE/dz{len(c.p.W)} is the sum through the softmax Jacobian (B2, B5).")
    return Section(f"{c.p}: every path from {c.weight} to E", rows, remarks)
