"""Depth sweeps: the gradient flow of many networks, as one table."""

import csv
import dataclasses
import functools
import html
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, checks, edge, flow, initializers, walk
from jaxmlp.activations import Activation
from jaxmlp.backprop import check_hand
from jaxmlp.flow import ForwardReading, GradientFlow, Kept, Sized, sized
from jaxmlp.initializers import Initializer
from jaxmlp.layer import Layer, Spec, started
from jaxmlp.mlp import MLP
from jaxmlp.objective import Objective, check, divisor
from jaxmlp.walk import Run, layer_at

NETWORK = ("activation", "init", "depth", "width", "seed")
VERDICTS = ("vanishing", "healthy", "exploding", "not finite", "incomplete")


@dataclasses.dataclass(frozen=True, repr=False)
class SweepTable:
    """Hold a sweep, one row for each network and layer, as named columns of equal length.

    Columns: activation, init, depth, width, seed; layer (1..L), distance = L - layer; and every
    field of `GradientFlow`.
    """

    _columns: dict[str, np.ndarray]

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns, ready for a data frame."""
        return dict(self._columns)

    def records(self) -> list[dict[str, Any]]:
        """Return one dict for each network and layer."""
        rows = zip(*(column.tolist() for column in self._columns.values()), strict=True)
        return [dict(zip(self._columns, row, strict=True)) for row in rows]

    def select(self, **values: Any) -> "SweepTable":
        """Return the rows whose columns have these values: `select(depth=(5, 10), init="he")`.

        Raises:
          ValueError: for an unknown column, and for a value that its column does not hold.
        """
        chosen = np.ones(len(self._columns["layer"]), bool)
        for name, wanted in values.items():
            if name not in self._columns:
                raise checks.unknown_name("column", name, self._columns)
            column = self._columns[name]
            for value in _several(wanted):
                if not np.any(column == value):
                    raise ValueError(f"no row has {name} = {value!r}; {_held(column)}")
            chosen &= np.isin(column, _several(wanted))
        return SweepTable({name: column[chosen] for name, column in self._columns.items()})

    def summary(
        self, vanishing: float = 1e-3, exploding: float = 1e3, *, over_seeds: bool = False
    ) -> list[dict[str, Any]]:
        """Return one dict for each network: how the per-sample dZ norm changes, and a verdict.

        With `over_seeds` one dict for each cell, the median over its seeds.

        `log10_change` = log10 of the norm at the first hidden layer over that at the last one;
        `factor_per_layer` = the geometric mean of the steps between them (NaN for one hidden
        layer); `verdict`: "vanishing" below, "exploding" above the thresholds, else "healthy";
        "not finite" where a number left the range, "incomplete" (with NaN) for a network of which
        the table lacks layers.
        """
        if not 0 < vanishing < exploding:
            raise ValueError(f"expected 0 < vanishing < exploding, got {vanishing} and {exploding}")
        networks: dict[tuple, list] = {}
        for rows in self._networks():
            network = tuple(self._columns[name][rows.start].item() for name in NETWORK)
            whole = rows.stop - rows.start == network[NETWORK.index("depth")] + 1
            ends = self._columns["log10_stream"][rows][[0, -2]].tolist() if whole else None
            networks.setdefault(network[:-1] if over_seeds else network, []).append(ends)
        found = []
        for network, ends in networks.items():
            row, nan = dict(zip(NETWORK, network, strict=False)), (np.nan, np.nan)
            row |= _change(np.median([e or nan for e in ends], axis=0), row["depth"])
            row["verdict"] = verdict(row["log10_change"], vanishing, exploding)
            found.append(row | ({"verdict": "incomplete"} if None in ends else {}))
        return found

    def _networks(self) -> list[slice]:
        """The rows of each network: they stand together, in the order of its layers."""
        keys = list(zip(*(self._columns[name].tolist() for name in NETWORK), strict=True))
        starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
        return [slice(a, b) for a, b in itertools.pairwise([*starts, len(keys)])]

    def to_csv(self, path: str | Path) -> Path:
        """Write all rows with a header line; return the path."""
        with Path(path).open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            for row in self.records():
                writer.writerow({name: checks.csv_cell(value) for name, value in row.items()})
        return Path(path)

    def __repr__(self):
        return f"SweepTable: {len(self._networks())} networks, {len(self._columns['layer'])} rows"

    def _repr_html_(self):
        rows = self.summary()
        if not rows:
            return f"<p>{html.escape(repr(self))}</p>"
        head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(_cell(value))}</td>' for value in row.values())}</tr>"
            for row in rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _held(column: np.ndarray) -> str:
    """What a column holds, in words."""
    values = np.unique(column).tolist()
    shown = ", ".join(map(repr, values[:12]))
    return f"it holds {shown}" + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def _change(ends: np.ndarray, depth: int) -> dict[str, float]:
    """From the norms at the first and the last hidden layer; -inf minus -inf is no change."""
    first, last = ends.tolist()
    change = first - last if not (first == last == -np.inf) else -np.inf
    factor = 10.0 ** (change / (depth - 1)) if depth > 1 else np.nan
    return {
        "log10_first": first,
        "log10_last": last,
        "log10_change": change,
        "factor_per_layer": factor,
    }


def verdict(log10_change: float, vanishing: float = 1e-3, exploding: float = 1e3) -> str:
    """Return "vanishing", "healthy", "exploding", or "not finite" for NaN and inf.

    A norm of exactly zero, -inf, is vanishing.
    """
    if np.isnan(log10_change) or log10_change == np.inf:
        return VERDICTS[3]
    if log10_change < np.log10(vanishing):
        return VERDICTS[0]
    return VERDICTS[1] if log10_change <= np.log10(exploding) else VERDICTS[2]


def depth_sweep(
    *,
    activations: Any = ("sigmoid", "tanh", "relu", "leaky_relu"),
    inits: Any = ("lecun", "he"),
    depths: int | Sequence[int] = (2, 5, 10, 20, 50),
    seeds: Sequence[int] | None = None,
    num_seeds: int | None = None,
    width: int | Sequence[int] = 128,
    X,
    Y,
    loss: str = "cross_entropy",
    num_classes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SweepTable:
    """Measure the gradient flow of every network of a grid.

    The networks are `MLP((d_0,) + (width,) * depth + (K,), hidden=activation)`, drawn by
    `init(jax.random.key(seed), init)`.

    Args (one value may stand for a list of one):
      activations: names or Activations. inits: names, `gaussian(...)` or callables.
      depths: numbers of hidden layers, at least 1. width: of every layer.
      seeds: a sequence of seeds in 0..2^32-1, (0,) by default; or num_seeds: the seeds 0, 1, ...
      X, Y: the samples, as `Objective` takes them.
      num_classes: K, for labels; by default one more than the largest of them.
      loss: with "cross_entropy" the output is softmax, with "binary_cross_entropy" sigmoid, else
        linear.
      progress: `progress(networks_done, networks)`.

    Raises:
      TypeError, ValueError: as `Objective`; for an empty list, for two entries of one name, for
        labels of one class without num_classes.
    """
    depths = [checks.integer("depth", depth, at_least=1) for depth in _several(depths)]
    seeds = _checked_seeds(seeds, num_seeds)
    widths = [checks.integer("width", w, at_least=1) for w in _several(width)]
    acts, named_inits = _resolve(activations, inits)
    for name, given in (("depths", depths), ("seeds", seeds), ("widths", widths)):
        if not given or len(set(given)) < len(given):
            raise ValueError(f"{name} must be one or more different numbers, got {given}")
    J, X, Y = _output_objective(loss, X, Y, num_classes)
    total = len(acts) * len(named_inits) * len(depths) * len(widths) * len(seeds)
    flows: dict[tuple, GradientFlow] = {}
    for width, seed in itertools.product(widths, seeds):
        drawn: dict[Callable, _Weights] = {}
        for init in named_inits:
            unit = init.unit or init.W
            if unit not in drawn:
                drawn = {unit: _draw(unit, J.mlp.sizes, width, tuple(depths), jax.random.key(seed))}
            weights = _scaled(drawn[unit], *_scales(init, drawn[unit]))
            for act in acts:
                hidden = _forward(act, weights, X)
                for i, depth in enumerate(depths):
                    flow = _measure(act, J, weights, hidden, Y, i, depth)
                    flow = jax.tree.map(lambda x: np.asarray(x)[: depth + 1], flow)  # noqa: B023
                    flows[act, init, depth, width, seed] = flow
                    if progress is not None:
                        progress(len(flows), total)
    cells = itertools.product(acts, named_inits, depths, widths, seeds)
    return _as_table([((c[0].name, c[1].name, *c[2:]), flows[c]) for c in cells])


def _several(values) -> list:
    """One value, as a name or a number, is a list of one."""
    return (
        list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    )


def _checked_seeds(seeds: Any, num_seeds: int | None) -> list[int]:
    if num_seeds is not None:
        if seeds is not None:
            raise ValueError("give seeds or num_seeds, not both")
        return list(range(checks.integer("num_seeds", num_seeds, at_least=1)))
    if seeds is None:
        return [0]
    if not isinstance(seeds, Iterable) or isinstance(seeds, str):
        raise TypeError(f"seeds must be a sequence of seeds, got {seeds!r}: for so many seeds give "
                        "num_seeds")  # fmt: skip
    return [checks.seed(seed) for seed in seeds]


def _resolve(acts, inits):
    acts = [activations.get(act) for act in _several(acts)]
    inits = [initializers.get(init) for init in _several(inits)]
    for kind, given in (("activations", acts), ("inits", inits)):
        names = [each.name for each in given]
        if not names:
            raise ValueError(f"{kind} must name at least one, got none")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"{kind} must have different names, but {twice[0]!r} stands twice: rows of the "
                "table are told apart by name"
            )
    for act in acts:
        check_hand(Objective(MLP((1, 1, 1), hidden=act, output="linear"), "mse"))
    return acts, inits


def _output_objective(loss: str, X, Y, num_classes: int | None):
    """Return the objective of the last layer by itself, which all networks share, and the data."""
    outputs = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}
    Y = edge.as_array("Y", Y)
    labels = loss == "cross_entropy" and Y.ndim == 1
    if num_classes is not None and not labels:
        raise ValueError(
            f"num_classes is for labels of the cross-entropy, got Y of shape {Y.shape}"
        )
    if num_classes is not None:
        K = checks.integer("num_classes", num_classes, at_least=2)
    elif labels:
        K = int(np.max(Y, initial=0)) + 1
        if K == 1:
            raise ValueError("all labels are 0, which is one class: give num_classes=")
    else:
        K = (*Y.shape, 1)[1]
    mlp = MLP((np.shape(edge.as_array("X", X))[-1], K), output=outputs.get(loss, "linear"))
    J = Objective(mlp, loss)
    return J, *check(J, mlp.init(jax.random.key(0)), X, Y)[1:]


# --- the engine: every depth, initialisation and seed in the same compiled functions --------------


class _Weights(NamedTuple):
    """Layer 1; layers 2..n+1 as a stack; and for each depth its output layer, as a stack."""

    first: Layer
    stack: Layer
    outputs: Layer


class _Hidden(NamedTuple):
    """One forward pass through the deepest network."""

    first: Kept
    stack: Kept
    readings: ForwardReading


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _draw(unit: Callable, ends: tuple[int, int], width: int, depths: tuple[int, ...], key):
    """Draw all the layers, not yet scaled, each from its own number, as `MLP.init` does."""
    d_0, K = ends
    dtype = jnp.zeros(()).dtype

    def draw(shape, number):
        key_l = jax.random.fold_in(key, number)
        return Layer(unit(key_l, shape, dtype), initializers.unit_bias(key_l, shape, dtype))

    return _Weights(
        draw((d_0, width), 1),
        jax.lax.map(functools.partial(draw, (width, width)), 2 + jnp.arange(max(depths))),
        jax.lax.map(functools.partial(draw, (width, K)), 1 + jnp.array(depths)),
    )


def _scales(init: Initializer, weights: _Weights):
    """The standard deviations of the three kinds of W, and that of the biases."""
    dtype = weights.first.W.dtype
    if init.std is None:
        stds = [jnp.ones((), dtype)] * 3
    else:
        stds = [init.std(layer.W.shape[-2:], dtype) for layer in weights]
    return stds, jnp.sqrt(jnp.asarray(init.sigma_b2, dtype))


@jax.jit
def _scaled(weights: _Weights, stds, std_b) -> _Weights:
    return _Weights(
        *(Layer(layer.W * std, layer.b * std_b) for layer, std in zip(weights, stds, strict=True))
    )


def _started(act: Activation, layer: Layer) -> Sized:
    """The layer as it starts, and as the flow's rule takes it."""
    return sized(started(Spec(act), layer.W, layer.b))


@functools.partial(jax.jit, static_argnums=0)
def _forward(act: Activation, weights: _Weights, X) -> _Hidden:
    # one layer more than the deepest network has, so that what is saved holds every other's output
    n, *shape = weights.stack.W.shape
    runs = [Run(1, None, weights.first.W.shape, Spec(act)), Run(2, n, tuple(shape), Spec(act))]
    layers = [_started(act, weights.first), _started(act, weights.stack)]
    rule = flow.rule(len(X), statistics=True)
    _, (first, stack), (one, others) = walk.forward(
        rule, runs, layers, (flow.scaled_input(X), None)
    )
    return _Hidden(first, stack, walk.in_line(runs, [one, others]))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measure(act: Activation, J: Objective, weights: _Weights, hidden: _Hidden, Y, i, depth):
    """Return the flow of the network of that depth, followed by whatever the buffers hold.

    The depth is a number like any other here: a loop with a traced bound, walked backwards by hand.
    """
    spec, output = Spec(act), Spec(J.mlp.output)
    rule = flow.rule(divisor(J, Y.shape[0]), statistics=True)
    # The output layer of this depth, on the hidden layers that all depths share
    out = sized(layer_at(weights.outputs, i))
    A_D = layer_at(hidden.stack.A_prev, depth - 1)
    (A_L, S_L), kept, ahead = rule.forward(output, out, (A_D, None))
    carry = flow.output_derivative(J, S_L, A_L, Y)
    # Back through the output, the stack as far as this network has it, and layer 1
    carry, last = rule.backward(output, out, kept, carry)
    carry, readings = walk.backward_to_depth(
        rule, spec, _started(act, weights.stack), hidden.stack, carry, depth - 1
    )
    _, first = rule.backward(spec, _started(act, weights.first), hidden.first, carry)
    back = jax.tree.map(lambda one, all: jnp.concatenate([one[None], all]), first, readings)
    back = jax.tree.map(lambda all, one: all.at[depth].set(one), back, last)
    ahead = jax.tree.map(lambda all, one: all.at[depth].set(one), hidden.readings, ahead)
    exists = jnp.arange(len(ahead.above_range)) <= depth
    return flow.flow_of(len(Y), ahead._replace(above_range=ahead.above_range & exists), back)


def _as_table(rows: list[tuple[tuple, GradientFlow]]) -> SweepTable:
    lengths = [len(flow.log10_delta) for _, flow in rows]
    networks = zip(*(network for network, _ in rows), strict=True)
    columns = {
        name: np.repeat(np.array(values), lengths)
        for name, values in zip(NETWORK, networks, strict=True)
    }
    columns["layer"] = np.concatenate([np.arange(1, n + 1) for n in lengths])
    columns["distance"] = np.concatenate([np.arange(n)[::-1] for n in lengths])
    for field in GradientFlow._fields:
        columns[field] = np.concatenate([getattr(flow, field) for _, flow in rows])
    return SweepTable(columns)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
