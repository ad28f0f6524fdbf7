"""The figure: a network with its numbers, and the paths of one weight."""

import matplotlib.pyplot as plt

from experiments.chain_rule import graph
from experiments.chain_rule.paths import Chain
from experiments.chain_rule.report import numbers_of, plural


def draw(c: Chain):
    """Draw the network with its numbers and the path of the largest product; below, all paths."""
    p, paths = c.p, plural(len(c.paths), "path")
    lit = max(range(len(c.paths)), key=lambda n: abs(c.paths[n].product))
    # with more than one sample a factor is no single number
    factors = [{k: v[0] for k, v in path.factors.items() if len(p.X) == 1} for path in c.paths]
    layers = [f"layer {l}: {act.name}" for l, act in enumerate(p.J.mlp.activations, start=1)]
    layers[-1] += f"\ny = ({numbers_of(p.Y.mean(0))})"
    heights = max(p.J.mlp.sizes) + 1.1, 0.19 * (min(len(c.paths), 9) + 4)
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(8, sum(heights) + 0.4), height_ratios=heights, layout="constrained"
    )
    graph.network(
        [p.X.mean(0), *(t.A.mean(0) for t in p.steps)],
        [p.dX.sum(0), *(t.dZ.sum(0) / p.divisor for t in p.steps)],
        p.W,
        [t.dW for t in p.steps],
        top,
        path=list(enumerate(c.paths[lit].units, start=c.weight.layer - 1)),
        factors=list(factors[lit].items()),
        headings=["inputs", *layers],
    )
    rows = [(q.units, [*f.values()], q.product) for q, f in zip(c.paths, factors, strict=True)]
    totals = (f"sum over {paths}", c.total), ("jaxmlp.trace", c.trace), ("jax.grad", c.auto)
    graph.path_sum(rows, totals, bottom, names=list(factors[lit]), lit=lit)
    verdict = f"misses jax.grad by {c.off:.0e} of it"
    if c.off <= 1e-12:
        verdict = "is jax.grad, to 12 digits"
    reduction = p.J.loss.reduction  # of the loss, and so of dZ over the samples
    samples = f", {len(p.X)} samples (a: mean, dZ: {reduction})" * (len(p.X) > 1)
    figure.suptitle(f"dE/d{c.weight}{samples}: the sum over {paths} {verdict}")
    return figure
