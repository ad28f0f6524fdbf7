"""One row of the lecture, as text, and all of them as a page."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

LETTERS = """\
"The lecture" are five sets of notes on neural networks. Rows of X are samples, m of them; W has
shape (d_in, d_out); layers count from 1 to L.

    Z = A W + b    sums of a layer, from the output A of the layer below; A[0] = X
    A = act(Z)     its output; a sigmoid's, softmax's or ReLU's, ...
    J              the mean loss; Y the targets; dZ = dJ/dZ of each sample's own loss, and so on"""


class Row(NamedTuple):
    """Describe one row of the lecture.

    numbers: a function that returns what is printed, by label. command: the experiment that shows
    more. figure: its name in the gallery; "" if there is none.
    """

    key: str
    title: str
    formula: str
    numbers: Callable[[], dict[str, Any]]
    command: str
    figure: str = ""


def text(row: Row) -> str:
    """Return the row as text. Its numbers are computed now."""
    numbers = row.numbers()
    width = max(map(len, numbers))
    lines = [f"{row.key}  {row.title}", "", f"    {row.formula}", ""]
    for label, value in numbers.items():
        first, *rest = written(value).splitlines()
        lines.append(f"    {label.ljust(width)}  {first}")
        lines += [f"    {'':{width}}  {line}" for line in rest]
    lines += ["", f"    python -m experiments.{row.command}"]
    lines += [f"    experiments/figures/{row.figure}.png"] if row.figure else []
    return "\n".join(lines)


def written(value: Any) -> str:
    """Return a number with six digits, an array row by row with four, and text as it is."""
    if isinstance(value, str):
        return value
    if np.ndim(value) == 0:
        return f"{float(value):.6g}"
    if np.ndim(value) == 1:
        return "  ".join(f"{float(x):.4g}" for x in value)
    return "\n".join(map(written, value))


def page(rows: Iterable[Row]) -> str:
    """Return all rows as Markdown, each with the first of its numbers."""
    lines = [
        "# The lecture, row by row",
        "",
        "`python -m jaxmlp show H1` prints one row with its numbers, in seconds; this page is what",
        "`python -m jaxmlp show --page` prints.",
        "",
        "```",
        LETTERS,
        "```",
        "",
        "| row | | formula | measured | command | figure |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        label, value = next(iter(row.numbers().items()))
        measured = f"{label}: {' '.join(written(value).split())}"
        figure = f"[figure](figures/{row.figure}.png)" if row.figure else ""
        cells = (row.key, row.title, code(row.formula), measured, code(row.command), figure)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def code(words: str) -> str:
    return f"`{words}`"
