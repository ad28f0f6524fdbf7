"""A page: one file with its style, its scripts and its data, which asks no network for anything."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

# Nothing but what stands in the file: the browser itself refuses every request
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'"
)


def page(
    title: str,
    body: str,
    *,
    scripts: Sequence[str] = (),
    data: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Return a page.

    Args:
      title: plain text. body: HTML, already escaped.
      scripts: sources, run in this order after the body.
      data: what the scripts read as `DATA`; NaN and infinity become null and "inf", "-inf".
      provenance: what made the page, at its foot.
    """
    made = "".join(
        f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in (provenance or {}).items()
    )
    foot = f"<footer><h2>What made this page</h2><dl>{made}</dl></footer>" if made else ""
    embedded = "" if data is None else f'<script id="data" type="application/json">{text_of(data)}'
    embedded += "</script>" if embedded else ""
    read = "const DATA = JSON.parse(document.getElementById('data').textContent);"
    sources = ([read] if embedded else []) + [source("page.js"), *scripts]
    run = "".join(f"<script>{inside_script(each)}</script>" for each in sources)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{source('page.css')}</style></head><body>"
        f"<header><h1>{html.escape(title)}</h1>"
        '<button type="button" id="theme">light or dark</button></header>'
        f"<main>{body}</main>{foot}{embedded}{run}</body></html>\n"
    )


def source(name: str) -> str:
    """Return a file of this package."""
    return (resources.files("jaxmlp.report") / name).read_text(encoding="utf-8")


def inside_script(text: str) -> str:
    """Let nothing in a script end it."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def text_of(data: Any) -> str:
    """Return JSON that may stand in a page: no `<`, and no number that JSON does not know."""
    text = json.dumps(plain(data), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def plain(data: Any) -> Any:
    """Return data as JSON knows it: NaN is None, an infinity a word, an array a list."""
    if isinstance(data, Mapping):
        return {str(name): plain(value) for name, value in data.items()}
    if isinstance(data, np.ndarray):
        return plain(data.tolist())
    if isinstance(data, list | tuple):
        return [plain(value) for value in data]
    if isinstance(data, np.generic):
        return plain(data.item())
    if isinstance(data, float) and not math.isfinite(data):
        return None if math.isnan(data) else "inf" if data > 0 else "-inf"
    return data
