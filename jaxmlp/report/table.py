"""Tables as text and as HTML. Every name is escaped, also that of an activation `<script>`."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def cell(value: Any, form: str = ".3g") -> str:
    """Return a value as text: a float in this form, "" for None, a true minus sign."""
    if value is None:
        return ""
    if isinstance(value, float) and math.isnan(value):
        return "not a number"
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = f"{value:{form}}" if isinstance(value, float) else str(value)
        return text.replace("-", "\N{MINUS SIGN}").replace("e\N{MINUS SIGN}", "e-")
    return str(value)


def as_text(rows: Rows, forms: Mapping[str, str] = {}) -> str:
    """Return rows with the same keys as a text table: words on the left, numbers on the right.

    forms: the format of the floats of a column; by default three digits.

    Example:
      >>> print(as_text([{"init": "he", "decades": -0.5}, {"init": "lecun", "decades": 12.0}]))
      init   decades
      he        −0.5
      lecun       12
    """
    if not rows:
        return "nothing to show"
    names = list(rows[0])
    form = {name: forms.get(name, ".3g") for name in names}
    table = [names, *([cell(row[name], form[name]) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = [isinstance(rows[0][name], str) for name in names]
    lines = (
        "  ".join(
            text.ljust(width) if words else text.rjust(width)
            for text, width, words in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in table
    )
    return "\n".join(lines)


def as_html(
    rows: Rows, caption: str = "", *, attributes: str = "", forms: Mapping[str, str] = {}
) -> str:
    """Return rows with the same keys as an HTML table; every name and value is escaped.

    forms: as for `as_text`.

    Example:
      >>> as_html([{"activation": "<script>"}])
      '<table><thead><tr><th scope="col">activation</th></tr></thead><tbody><tr><td>&lt;script&gt;</td></tr></tbody></table>'
    """  # noqa: E501
    if not rows:
        return f"<p>{html.escape(caption) or 'nothing to show'}</p>"

    def td(name: str, value: Any) -> str:
        kind = "" if isinstance(value, str) else ' class="number"'
        return f"<td{kind}>{html.escape(cell(value, forms.get(name, '.3g')))}</td>"

    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    head = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in rows[0])
    body = "".join(f"<tr>{''.join(td(name, row[name]) for name in rows[0])}</tr>" for row in rows)
    return f"<table{attributes}>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
