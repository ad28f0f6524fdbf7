"""Every intermediate of the backward pass (E3), by hand and by autodiff."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy

import jaxmlp
from experiments.chain_rule.networks import Problem, problem
from experiments.chain_rule.options import Config
from experiments.chain_rule.paths import Chain
from experiments.chain_rule.report import Math, Section, power, relative, short
from jaxmlp.layer import slopes

SLOPES = {  # dJ/dA of one sample
    "cross_entropy": "-Y / A",
    "binary_cross_entropy": "((1 - Y) / (1 - A) - Y / A)",
    "mse": "2 x (A - Y)",
    "sse": "2 x (A - Y)",
    "half_squared_error": "(A - Y)",
    "norm": "(A - Y) / |A - Y|",
}


class Line(NamedTuple):
    """Hold one derivative: its formula, its values, and one entry worked out."""

    symbol: str
    formula: str
    value: Any
    at: tuple[int, ...]
    worked: str


# --- by hand --------------------------------------------------------------------------------------


def lines(p: Problem, units: Sequence[int]) -> Iterator[Line]:
    """Yield what backpropagation computes, in its order, with the entries at `units` worked out.

    dZ and dA are each sample's own, as in `jaxmlp.trace`; dW and db have the 1/m.
    """
    L, m = len(p.W), "" if p.divisor == 1 else " / m"
    for l in range(L, 0, -1):
        t, i, j = p.steps[l - 1], units[l - 1], units[l]
        if l == L:
            yield from output_lines(p, (0, j))
        else:
            terms = zip(p.steps[l].dZ[0], p.W[l][j], strict=True)
            yield Line(f"dA{l}", f"dZ{l + 1} W{l + 1}^T", t.dA, (0, j), worked(terms))
            yield gate_line(p, l, (0, j))
        terms = zip(t.A_prev[:, i], t.dZ[:, j], strict=True)
        below = f"A{l - 1}" if l > 1 else "X"
        yield Line(f"dW{l}", f"{below}^T dZ{l}{m}", t.dW, (i, j), worked(terms, p.divisor))
        if t.db is not None:
            yield Line(
                f"db{l}",
                f"sum(dZ{l}){m}",
                t.db,
                (j,),
                worked(zip(t.dZ[:, j], strict=True), p.divisor),
            )
        if t.dslope is not None:
            terms = zip(t.dA.ravel(), np.minimum(t.Z, 0).ravel(), strict=True)
            yield Line(
                f"ds{l}", f"sum(dA{l} * min(Z{l}, 0)){m}", t.dslope, (), worked(terms, p.divisor)
            )
    terms = zip(p.steps[0].dZ[0], p.W[0][units[0]], strict=True)
    yield Line("dX", f"dZ1 W1^T{m}", p.dX, (0, units[0]), worked(terms, p.divisor))


def output_lines(p: Problem, at: tuple[int, int]) -> Iterator[Line]:
    """Yield dA[L], and dZ[L]: collapsed (B5), by the softmax Jacobian (B2), or elementwise."""
    L, t, loss, output = len(p.W), p.steps[-1], p.J.loss, p.J.mlp.output
    numbers = {"A": short(t.A[at]), "Y": short(p.Y[at])}
    numbers["|A - Y|"] = short(float(np.linalg.norm(t.A[0] - p.Y[0])))

    def line(symbol: str, formula: str, value) -> Line:
        text = re.sub(r"\|A - Y\||[AY]", lambda found: numbers[found[0]], formula)
        return Line(symbol, formula.replace("A", f"A{L}"), value, at, text)

    yield line(f"dA{L}", SLOPES[loss.name], t.dA)
    if loss.collapses_with == output:
        yield line(f"dZ{L}", "(A - Y)", t.dZ)
    elif output.name == "softmax":
        terms = zip(t.dA[0], t.A[0] * ((np.arange(t.A.shape[1]) == at[1]) - t.A[at]), strict=True)
        yield Line(f"dZ{L}", f"dA{L} softmax'(Z{L})", t.dZ, at, worked(terms))
    else:
        yield gate_line(p, L, at)


def gate_line(p: Problem, l: int, at: tuple[int, int]) -> Line:
    """Return dZ = dA * act'(Z)."""
    formula = f"dA{l} * {p.J.mlp.activations[l - 1].name}'(Z{l})"
    t = p.steps[l - 1]
    return Line(f"dZ{l}", formula, t.dZ, at, worked([(t.dA[at], p.gates[l - 1][at])]))


def worked(terms: Iterable[tuple[float, ...]], divisor: int = 1) -> str:
    """Return `0.5 x (-0.2) + ...`: a sum of products; if more than four, the first three."""
    terms = list(terms)
    products = [" x ".join(map(short, term)) for term in terms[: 4 if len(terms) == 4 else 3]]
    more = [f"... ({len(terms)} terms)"] if len(terms) > 4 else []
    total = " + ".join(products + more)
    return total if divisor == 1 else f"({total}) / {divisor}"


# --- by autodiff ----------------------------------------------------------------------------------


def by_autodiff(p: Problem) -> dict[str, Any]:
    """Return every intermediate by `jax.grad`, in zeros that are added to each Z and A."""

    def probed(layers, zeros):
        A = p.X + zeros["dX"]
        for l, (layer, act) in enumerate(zip(layers, p.J.mlp.activations, strict=True), start=1):
            Z = A @ layer.W + (0 if layer.b is None else layer.b) + zeros[f"dZ{l}"]
            A = act.fn(Z, *slopes(layer)) + zeros[f"dA{l}"]
        return loss_of_output(p.J.loss, A, p.Y)

    widths = enumerate(p.J.mlp.sizes[1:], start=1)
    zeros = {f"d{s}{l}": np.zeros((len(p.X), d)) for l, d in widths for s in "ZA"}
    zeros["dX"] = np.zeros_like(p.X)
    layers, found = jax.jit(jax.grad(probed, (0, 1)))(jaxmlp.layers(p.params), zeros)
    own = {name: zero * p.divisor for name, zero in found.items() if name != "dX"}
    found |= own | {f"d{k.replace('slope', 's')}": v for k, v in jaxmlp.as_dict(layers).items()}
    return jax.tree.map(np.asarray, found)


def loss_of_output(loss, A, Y):
    """Return the mean loss as the notes write it, a function of A; "sse" is a sum."""
    if loss.name == "cross_entropy":
        total = -jnp.sum(xlogy(Y, A))
    elif loss.name == "binary_cross_entropy":
        total = -jnp.sum(xlogy(Y, A) + xlogy(1 - Y, 1 - A))
    else:
        total = jnp.sum(loss.value(None, A, Y))
    return total if loss.reduction == "sum" else total / len(A)


# --- side by side ---------------------------------------------------------------------------------


def differences(hand: Iterable[Line], auto: dict[str, Any]) -> dict[str, float]:
    """Return the relative difference of every intermediate."""
    return {line.symbol: relative(line.value, auto[line.symbol]) for line in hand}


def section(c: Chain, remarks: list[str]) -> Section:
    """Return the table, with the entries on the weight's path to the target's output."""
    p, L = c.p, len(c.p.W)
    units = [0] * L + [int(np.argmax(p.Y[0]))]
    units[c.weight.layer - 1 : c.weight.layer + 1] = c.weight.i, c.weight.j
    found = list(lines(p, units))
    off = differences(found, by_autodiff(p))
    rows = [
        {
            "symbol": Math(line.symbol),
            "formula": Math(line.formula),
            "shape": Math(line.value.shape),
            "norm": Math(f"{np.linalg.norm(line.value):.4g}"),
            "entry": Math(list(line.at)) if line.at else "",
            "by hand": Math(f"{line.worked} = {line.value[line.at]:.4g}"),
            "off jax": Math(power(off[line.symbol])),
        }
        for line in found
    ]
    where = "The loss is a sum over the samples: there is no 1/m."
    if p.J.loss.reduction == "mean":
        where = (
            "dA and dZ are each sample's own, as in the notes and in jaxmlp.trace; dW, db, dX are "
            "those of the mean\nloss: the 1/m stands in them, dW = A^T dZ / m, db = mean(dZ)."
        )
    return Section(f"{p}: every intermediate", rows, [where, *remarks])


def on_all_samples(config: Config) -> list[str]:
    """Return remarks: the differences with all samples, and the notes' slip about an axis."""
    p = problem(dataclasses.replace(config, sample="mean"))
    off = differences(lines(p, [0] * (len(p.W) + 1)), by_autodiff(p))
    worst = float(np.max([*off.values()]))  # NaN, if there is one
    dZ = p.steps[0].dZ
    return [
        f"With all {len(p.X)} samples no intermediate is further off than {power(worst)}.",
        f"Slip: db1 is a mean over samples, axis 0, of shape {dZ.mean(0).shape}; axis=1, which the "
        f"notes write once, gives {dZ.mean(1).shape}.",
    ]
