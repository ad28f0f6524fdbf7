"""Depth sweeps: the gradient flow of many networks, as one table."""

import csv
import dataclasses
import html
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmlp import _checks, activations, initializers
from jaxmlp.flow import GradientFlow, gradient_flow
from jaxmlp.mlp import MLP
from jaxmlp.objective import Objective

NETWORK = ("activation", "init", "depth", "width", "seed")
VERDICTS = ("vanishing", "healthy", "exploding")


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
        """Return the rows whose columns have these values: `select(activation="tanh")`."""
        chosen = np.ones(len(self._columns["layer"]), bool)
        for name, value in values.items():
            if name not in self._columns:
                raise _checks.unknown_name("column", name, self._columns)
            chosen &= self._columns[name] == value
        return SweepTable({name: column[chosen] for name, column in self._columns.items()})

    def summary(
        self, vanishing: float = 1e-3, exploding: float = 1e3, *, over_seeds: bool = False
    ) -> list[dict[str, Any]]:
        """Return one dict for each network: how the per-sample dZ norm changes, and a verdict.

        With `over_seeds` one dict for each cell, the median over its seeds.

        `log10_change` = log10 of the norm at the first hidden layer over that at the last one;
        `factor_per_layer` = the geometric mean of the steps between them (NaN for one hidden
        layer); `verdict`: "vanishing" below, "exploding" above the thresholds, else "healthy".
        """
        if not 0 < vanishing < exploding:
            raise ValueError(f"expected 0 < vanishing < exploding, got {vanishing} and {exploding}")
        networks: dict[tuple, list[tuple[float, float]]] = {}
        for rows in self._networks():
            network = tuple(self._columns[name][rows.start].item() for name in NETWORK)
            first, last = self._columns["log10_delta"][rows][[0, -2]].tolist()
            networks.setdefault(network[:-1] if over_seeds else network, []).append((first, last))
        rows = [
            dict(zip(NETWORK, network, strict=False))
            | _change(np.median(ends, axis=0), network[NETWORK.index("depth")])
            for network, ends in networks.items()
        ]
        for row in rows:
            row["verdict"] = verdict(row["log10_change"], vanishing, exploding)
        return rows

    def _networks(self) -> list[slice]:
        starts = np.flatnonzero(self._columns["layer"] == 1).tolist()
        return [slice(a, b) for a, b in itertools.pairwise([*starts, len(self._columns["layer"])])]

    def to_csv(self, path: str | Path) -> Path:
        """Write all rows with a header line; return the path."""
        with Path(path).open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self.records())
        return Path(path)

    def __repr__(self):
        return f"SweepTable: {len(self._networks())} networks, {len(self._columns['layer'])} rows"

    def _repr_html_(self):
        rows = self.summary()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(_cell(value))}</td>' for value in row.values())}</tr>"
            for row in rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _change(ends: np.ndarray, depth: int) -> dict[str, float]:
    first, last = ends.tolist()
    change = first - last if np.isfinite(last) else np.nan
    factor = 10.0 ** (change / (depth - 1)) if depth > 1 else np.nan
    return {
        "log10_first": first,
        "log10_last": last,
        "log10_change": change,
        "factor_per_layer": factor,
    }


def verdict(log10_change: float, vanishing: float = 1e-3, exploding: float = 1e3) -> str:
    """Return "vanishing", "healthy" or "exploding"; NaN, a norm of exactly zero, is vanishing."""
    if not log10_change >= np.log10(vanishing):
        return VERDICTS[0]
    return VERDICTS[1] if log10_change <= np.log10(exploding) else VERDICTS[2]


def depth_sweep(
    *,
    activations: Sequence = ("sigmoid", "tanh", "relu", "leaky_relu"),
    inits: Sequence = ("lecun", "he"),
    depths: Sequence[int] = (2, 5, 10, 20, 50),
    seeds: Sequence[int] = (0,),
    width: int = 128,
    X,
    Y,
    loss: str = "cross_entropy",
    progress: Callable[[int, int], None] | None = None,
) -> SweepTable:
    """Measure the gradient flow of every network of a grid.

    The networks are `MLP((d_0,) + (width,) * depth + (K,), hidden=activation)`, drawn by
    `init(jax.random.key(seed), init)`.

    Args:
      activations: names or Activations. inits: names, `gaussian(...)` or callables.
      depths: numbers of hidden layers, at least 1. seeds: in 0..2^32-1. width: of every layer.
      X, Y: the samples, as `Objective` takes them.
      loss: with "cross_entropy" the output is softmax, with "binary_cross_entropy" sigmoid, else
        linear.
      progress: `progress(networks_done, networks)`.
    """
    depths = [_checks.integer("depth", depth, at_least=1) for depth in depths]
    seeds = [_checks.seed(seed) for seed in seeds]
    width = _checks.integer("width", width, at_least=1)
    acts, named_inits = _resolve(activations, inits)
    outputs = np.shape(Y)[1] if np.ndim(Y) == 2 else int(np.max(Y)) + 1
    grid = list(itertools.product(acts, named_inits, depths, seeds))
    rows = []
    for done, (act, init, depth, seed) in enumerate(grid, start=1):
        sizes = (np.shape(X)[1], *[width] * depth, outputs)
        mlp = MLP(sizes, hidden=act, output=_output_for(loss), stack_from=2)
        params = mlp.init(jax.random.key(seed), init)
        flow = gradient_flow(Objective(mlp, loss))(params, X, Y)
        rows.append(((act.name, init.name, depth, width, seed), jax.tree.map(np.asarray, flow)))
        if progress is not None:
            progress(done, len(grid))
    return _as_table(rows)


def _resolve(acts, inits):
    return [activations.get(act) for act in acts], [initializers.get(init) for init in inits]


def _output_for(loss: str) -> str:
    return {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}.get(loss, "linear")


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
