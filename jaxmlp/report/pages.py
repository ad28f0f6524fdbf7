"""A page: one file with its style, its scripts and its data. It loads nothing from a network."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

# With this policy the browser refuses every request of the page
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
      title: plain text.
      body: HTML, already escaped.
      scripts: their sources, which run in this order after the body.
      data: the scripts read it as `DATA`. NaN becomes null, infinity "inf" or "-inf".
      provenance: what made the page; it is written at its foot.
    """
    # The foot
    made = "".join(
        f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in (provenance or {}).items()
    )
    foot = f"<footer><h2>What made this page</h2><dl>{made}</dl></footer>" if made else ""
    # Data and scripts, in the file itself
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
    """Return the text of a file of this package."""
    return (resources.files("jaxmlp.report") / name).read_text(encoding="utf-8")


def inside_script(text: str) -> str:
    """Return a script in which no text ends the script element."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def text_of(data: Any) -> str:
    """Return data as JSON that may stand in a page: without `<`, NaN and infinity."""
    text = json.dumps(plain(data), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def plain(data: Any) -> Any:
    """Return data for JSON: None for NaN, "inf" or "-inf" for infinity, lists for arrays."""
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
