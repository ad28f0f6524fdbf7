"""Printing results, as text and as HTML: a line that names the result, and a short table."""

import html
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxmlp.report.table import Rows, as_html, as_text

SHOWN = 12  # chosen: the most rows of a table; of more, 12 at equal distances are shown


class Shown(NamedTuple):
    """Hold what a result shows: a line, rows, how columns are written, and a sentence below."""

    line: str
    rows: Rows
    forms: Mapping[str, str] = {}
    note: str = ""


def text_of(result: Any, shown: Callable[[Any], Shown]) -> str:
    """Return what `shown(result)` gives as text, with the note in lines of 80 characters."""
    line, rows, forms, note = _shown(result, shown)
    table = as_text(rows, forms) if rows else ""
    above = "\n".join(part for part in (line, table) if part)
    return "\n".join([above, "", *textwrap.wrap(note, 80)]) if note else above


def html_of(result: Any, shown: Callable[[Any], Shown]) -> str:
    """Return what `shown(result)` gives as HTML for a notebook."""
    line, rows, forms, note = _shown(result, shown)
    below = f"<p>{html.escape(note)}</p>" if note else ""
    return as_html(rows, line, forms=forms) + below


def _shown(result: Any, shown: Callable[[Any], Shown]) -> Shown:
    """Return `shown(result)`; if that raises, a row for each array of the result.

    It raises if there are no numbers: under a trace, with one more axis under vmap, or with what
    `jax.tree.map` has left in the fields. But repr must not raise, because debuggers call it.
    """
    try:
        return shown(result)
    except Exception:
        rows = arrays(result._asdict())
        return Shown(f"{type(result).__name__}({len(rows)} fields)", rows)


def every_few(columns: Mapping[str, Any], number: str) -> list[dict[str, Any]]:
    """Return the rows of columns of equal length, at most SHOWN, numbered from 1.

    A column that is None is left out. NaN becomes an empty cell.

    Raises:
      ValueError: for anything but arrays of one axis.
      TypeError: for a tracer.

    Example:
      >>> every_few({"loss": np.array([3.0, 2.0]), "accuracy": None}, "epoch")
      [{'epoch': 1, 'loss': 3.0}, {'epoch': 2, 'loss': 2.0}]
    """
    columns = {name: x for name, x in columns.items() if x is not None}
    if any(getattr(x, "ndim", None) != 1 for x in columns.values()):
        raise ValueError("expected arrays of one axis")
    numbers = {name: np.asarray(x, float) for name, x in columns.items()}
    (length,) = {len(x) for x in numbers.values()}
    picked = np.unique(np.linspace(0, length - 1, min(length, SHOWN)).round().astype(int))
    cells = {name: [None if np.isnan(v) else float(v) for v in x] for name, x in numbers.items()}
    return [{number: int(i) + 1} | {name: x[i] for name, x in cells.items()} for i in picked]


def arrays(fields: Mapping[str, Any]) -> Rows:
    """Return a row for each array: dtype, shape, and its numbers if they can be read.

    Fields that are None are left out.
    """
    rows = []
    for name, value in fields.items():
        if value is None:
            continue
        shape = getattr(value, "shape", None)
        row: dict[str, Any] = {"name": name, "kind": type(value).__name__, "shape": ""}
        row |= {"smallest": None, "largest": None, "rms": None}
        if shape is not None:
            row |= {"kind": str(getattr(value, "dtype", "")), "shape": str(tuple(shape))}
            row |= _numbers(value)
        rows.append(row)
    return rows


def _numbers(value: Any) -> dict[str, float]:
    """Return smallest, largest and rms; {} for a tracer, a deleted buffer, one of another host."""
    try:
        x = np.asarray(value, float)
        size = float(np.abs(x).max())
        scale = size if 0 < size < np.inf else 1.0  # scaled, because squares may leave the range
        with np.errstate(all="ignore"):
            rms = scale * float(np.sqrt(np.mean((x / scale) ** 2)))
        return {"smallest": float(x.min()), "largest": float(x.max()), "rms": rms}
    except Exception:  # it has no numbers that can be shown
        return {}
