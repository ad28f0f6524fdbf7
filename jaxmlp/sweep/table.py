"""The table of a sweep: one row for each network and layer, as columns."""

import contextlib
import csv
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmlp import checks, report
from jaxmlp.sweep import pages
from jaxmlp.sweep.grid import Network, several
from jaxmlp.sweep.store import Rows, Store
from jaxmlp.sweep.summary import UNKNOWN, beside, change_of, spread, verdict

Columns = dict[str, np.ndarray]

NETWORK = ("activation", "init", "depth", "width", "seed")
REMEDIES = ("residual", "norm")
_SWEEP = ("loss", "dtype", "data", "engine")
_TRAINING = ("objective", "optimizer", "dtype", "data", "engine", "learning_rate", "step")
_SCORES = ("loss", "accuracy", "validation_loss", "validation_accuracy", "diverged")
MOST_NETWORKS = 20  # chosen: the most networks that a notebook shows


@dataclasses.dataclass(frozen=True, repr=False)
class SweepTable:
    """Hold a sweep, one row for each network and layer, as named columns of equal length.

    Columns: activation, init, depth, width, seed; layer (1..L), distance = L - layer; every field
    of `GradientFlow`; residual, norm (None without); loss, dtype, data (the first digits of the
    SHA-256 of X and Y) and engine (its version). The table of a `training_sweep` also has step,
    learning_rate, optimizer and the scores; its `loss` is a number, and `objective` is the name of
    the loss. With `theory=True` a `depth_sweep` adds predicted, sd and z. `len(table)` is the
    number of rows, as of a data frame.
    """

    _source: Columns | Callable[[], Columns]

    @functools.cached_property
    def _columns(self) -> Columns:
        """Return the columns. They are read only now, because a store may not fit into memory."""
        return self._source() if callable(self._source) else self._source

    @staticmethod
    def from_store(path: str | Path, **where: Any) -> "SweepTable":
        """Return the networks that a store holds, or those that have these values, as in `select`.

        Networks are sorted by their names. A store may hold several losses, data sets, dtypes and
        versions of the engine; the columns `loss`, `data`, `dtype` and `engine` say which.

        Raises:
          ValueError: as `select`, and for a file that is not a store or holds nothing yet.

        Example:
          >>> SweepTable.from_store("sweep.db", activation="relu", depth=(5, 10))
          Traceback (most recent call last):
          ...
          ValueError: there is no store sweep.db
        """
        if not Path(path).is_file():
            raise ValueError(f"there is no store {path}")
        with Store(path) as store:
            keys = {key: json.loads(key) for key in store.all_keys()}
            keys = {key: names for key, names in keys.items() if names.pop("sweep") == "depth"}
            for name, wanted in where.items():
                _refuse_unknown(name, wanted, list(keys.values()), path)
                keys = {k: names for k, names in keys.items() if names[name] in several(wanted)}
            if not keys:
                raise ValueError(f"store {path} holds no such network")
            chosen = sorted(keys, key=lambda key: [(str(type(v)), v) for v in keys[key].values()])
            rows = list(store.get(chosen))
        return SweepTable(joined([keys[key] for key in chosen], rows))

    def __reduce__(self):
        return SweepTable, (self._columns,)

    def __len__(self) -> int:
        return len(self._columns["layer"])

    def __add__(self, other: "SweepTable") -> "SweepTable":
        """Return one table of the networks of both.

        Raises:
          ValueError: for tables of other columns, and for a network that is in both.
        """
        if not isinstance(other, SweepTable):
            return NotImplemented
        one, two = self._columns, other._columns
        if different := set(one) ^ set(two):
            raise ValueError(
                f"these tables have different columns: {', '.join(sorted(different))} in one only"
            )
        held = set(self._keys())
        if key := next((key for key in other._keys() if key in held), None):
            names = dict(zip((*NETWORK, *REMEDIES, *self._told), key, strict=True))
            raise ValueError(f"both tables hold the network {names}")
        return SweepTable({name: np.concatenate([one[name], two[name]]) for name in one})

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns as a dict, for example for a data frame."""
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
            column, found = self._columns[name], np.zeros(len(chosen), bool)
            for value in several(wanted):
                equal = np.asarray(column == value)
                if not equal.any():
                    raise ValueError(f"no row has {name} = {value!r}; {_held(column)}")
                found |= equal
            chosen &= found
        return SweepTable({name: column[chosen] for name, column in self._columns.items()})

    def summary(
        self, vanishing: float = 0.97, exploding: float = 1.03, *, over_seeds: bool = False
    ) -> list[dict[str, Any]]:
        """Return one dict for each network: how the norm of dS changes over the layers, a verdict.

        dS is the derivative of the stream; in networks without a residual it is dZ.

        log10_change: log10 of the norm at the first hidden layer over that at the last one.
        factor_per_layer: the geometric mean of the steps between them; NaN for one hidden layer.
        verdict: "healthy" if the norm changes by less than 2 decades in all, with which one
          learning rate copes, or by a factor between `vanishing` and `exploding` a layer; else
          "vanishing" or "exploding"; "not finite" if a number left the range; "incomplete", with
          NaN, if the table lacks layers.

        With `over_seeds` there is one dict for each cell of the grid, with medians over its
        networks, their number `networks`, and the spread of log10_change: `change_sd` (with n - 1;
        NaN for one network) and the quartiles `change_q25`, `change_q75`.

        A table with theory also gives `predicted` and `predicted_sd`, the prediction of
        log10_change, and `z`, the difference in standard errors. If |z| is at most 3, the verdict
        ends with ", as predicted for width n".
        """
        if not 0 < vanishing < exploding:
            raise ValueError(f"expected 0 < vanishing < exploding, got {vanishing} and {exploding}")
        shown = [*NETWORK, *REMEDIES, *(name for name in self._told if self._differ(name))]
        shown = [name for name in shown if not (over_seeds and name == "seed")]
        cells: dict[tuple, list[dict[str, float]]] = {}
        incomplete = set()
        for rows in self._networks():
            network = tuple(self._columns[name][rows][0] for name in shown)
            cells.setdefault(network, []).append(self._measured(rows))
            if not self._is_whole(rows):
                incomplete.add(network)
        found = []
        for network, measured in cells.items():
            row = dict(zip(shown, map(_plain, network), strict=True))
            row |= {name: float(np.median([one[name] for one in measured])) for name in measured[0]}
            steps, change = row["depth"] - 1, row["log10_change"]
            row["factor_per_layer"] = 10.0 ** (change / steps) if steps else np.nan
            changes = np.array([one["log10_change"] for one in measured])
            row |= spread(changes) if over_seeds else {}
            row["verdict"] = verdict(change, steps, vanishing, exploding)
            if "predicted" in row:
                row |= beside(row, len(changes))
            found.append(row | ({"verdict": "incomplete"} if network in incomplete else {}))
        return found

    def _measured(self, rows: slice) -> dict[str, float]:
        """Return the summary's numbers of one network; NaN if it lacks layers."""
        whole = self._is_whole(rows)
        scores = [name for name in _SCORES if self._trained and name in self._columns]
        found = {name: float(self._columns[name][rows][0]) for name in scores}
        ends = {
            name: self._columns[name][rows][[0, -2]].tolist() if whole else UNKNOWN
            for name in ("log10_stream", "predicted", "sd")
            if name in self._columns
        }
        return found | change_of(**ends)

    def _is_whole(self, rows: slice) -> bool:
        return rows.stop - rows.start == self._columns["depth"][rows][0] + 1

    def _networks(self) -> list[slice]:
        """Return the rows of each network, which follow each other in the order of its layers."""
        keys = self._keys()
        starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
        return [slice(a, b) for a, b in itertools.pairwise([*starts, len(keys)])]

    def _keys(self) -> list[tuple]:
        """Return for each row what distinguishes its network from all others; None for NaN."""
        columns = (self._columns[name].tolist() for name in (*NETWORK, *REMEDIES, *self._told))
        return list(zip(*([None if v != v else v for v in c] for c in columns), strict=True))

    @property
    def _trained(self) -> bool:
        return "step" in self._columns

    @property
    def _told(self) -> tuple[str, ...]:
        """Return the columns that tell networks apart besides their names."""
        return _TRAINING if self._trained else _SWEEP

    def _differ(self, name: str) -> bool:
        """Return whether a column holds more than one value; NaN counts as one value."""
        column = self._columns[name]
        return len({None if value != value else value for value in column.tolist()}) > 1

    def to_csv(self, path: str | Path) -> Path:
        """Write all rows with a header line; return the path."""
        with Path(path).open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            for row in self.records():
                writer.writerow({name: checks.csv_cell(value) for name, value in row.items()})
        return Path(path)

    def to_parquet(self, path: str | Path) -> Path:
        """Write all rows as Parquet with polars or pyarrow; residual and norm become text."""
        as_text = (*REMEDIES, *(set(self._told) - {"learning_rate", "step"}))
        plain = {
            name: [None if v is None else str(v) for v in column] if name in as_text else column
            for name, column in self._columns.items()
        }
        # With polars, or else with pyarrow
        with contextlib.suppress(ModuleNotFoundError):
            import polars  # pyright: ignore[reportMissingImports]

            polars.DataFrame(plain).write_parquet(path)
            return Path(path)
        try:
            import pyarrow.parquet  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError:
            raise ModuleNotFoundError("to_parquet needs polars or pyarrow: install one") from None
        pyarrow.parquet.write_table(pyarrow.table(plain), path)
        return Path(path)

    def to_html(
        self,
        path: str | Path,
        *,
        title: str = "A sweep of networks",
        provenance: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the explorer, a page on which networks are chosen and compared; return the path.

        It opens by double click and loads nothing from a network.

        Args:
          title: its heading. provenance: what made the sweep, by name; it is written at the foot.

        Raises:
          ModuleNotFoundError: if the extra `html` is not installed.
        """
        networks = [{"remedy": pages.remedy(row), **row} for row in self.summary()]
        flows = [self._columns["log10_stream"][rows] for rows in self._networks()]
        bands = list(pages.predictions(networks))
        text = report.explorer(networks, flows, bands=bands, title=title, provenance=provenance)
        Path(path).write_text(text, encoding="utf-8")
        return Path(path)

    def __repr__(self):
        return f"SweepTable: {len(self._networks())} networks, {len(self._columns['layer'])} rows"

    def _repr_html_(self):
        networks = self._networks()
        if len(networks) <= MOST_NETWORKS:
            return report.as_html(self.summary(), repr(self))
        end = networks[MOST_NETWORKS - 1].stop
        first = SweepTable({name: column[:end] for name, column in self._columns.items()})
        said = f"{self!r}, the first {MOST_NETWORKS} networks; .summary() lists all"
        return report.as_html(first.summary(), said)


def _refuse_unknown(name: str, wanted: Any, networks: list[dict], path: Any) -> None:
    """Refuse a column that does not exist, and values that no network has in it."""
    if networks and name not in networks[0]:
        raise checks.unknown_name("column", name, networks[0])
    values = [network[name] for network in networks]
    for value in several(wanted):
        if value not in values:
            raise ValueError(f"no network of store {path} has {name} = {value!r}")


def _held(column: np.ndarray) -> str:
    """Return what a column holds, in words. Chosen: the first 12 values."""
    values = list(dict.fromkeys(column.tolist()))
    values = values if column.dtype == object else sorted(values)
    shown = ", ".join(map(repr, values[:12]))
    return f"it holds {shown}" + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def table_columns(results: Mapping[Network, Rows], **sweep: Any) -> Columns:
    """Return the columns of the results in their order; `sweep` holds columns of one value."""
    return joined([network.names | sweep for network in results], list(results.values()))


def joined(networks: Sequence[Mapping[str, Any]], rows: Sequence[Rows]) -> Columns:
    """Return one table of the rows of all networks, with their names as columns."""
    lengths = [len(one["layer"]) for one in rows]

    def repeated(names: Sequence[str], kind: Any = None) -> Columns:
        values = {name: np.array([network[name] for network in networks], kind) for name in names}
        return {name: np.repeat(column, lengths) for name, column in values.items()}

    measured = {name: np.concatenate([one[name] for one in rows]) for name in rows[0]}
    more = [name for name in (*_SWEEP, *_TRAINING) if name in networks[0] and name not in measured]
    return repeated(NETWORK) | measured | repeated((*REMEDIES, *more), object)


def _plain(value: Any) -> Any:
    """Return a Python number or string."""
    return value.item() if isinstance(value, np.generic) else value
