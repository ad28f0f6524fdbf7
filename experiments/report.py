"""What do the results say, on one page?

One page with a table of contents: the figures, tables and pages that the experiments left in the
folder of `--out`, and for each the command that made it.
"""

import base64
import csv
import dataclasses
import html
import importlib
import json
from pathlib import Path

from experiments import common

IMAGES = {".png": "image/png", ".svg": "image/svg+xml"}
MOST_ROWS = 100  # of a table that are shown


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the report."""


def main(config: Config) -> None:
    from jaxmlp import report

    with common.Results("report", config) as results:
        found = runs(config.out)
        sections = [section(config.out, about) for about in found]
        names = [Path(about["name"]).name for about in found]
        contents = "".join(f'<li><a href="#{html.escape(n)}">{html.escape(n)}</a></li>'
                           for n in names)  # fmt: skip
        body = f"<nav><ul>{contents}</ul></nav>" if found else "<p>There are no results yet.</p>"
        text = report.page(
            "What the experiments found", body + "".join(sections),
            provenance=results.provenance(),
        )  # fmt: skip
        with results.path(".html") as path:
            path.write_text(text, encoding="utf-8")
        rows = [{"experiment": about["name"], "files": len(about["files"]),
                 "state": about["state"]} for about in found]  # fmt: skip
        if rows:
            common.table("Gathered", rows)


def runs(folder: Path) -> list[dict]:
    """Return the JSON of each run in the folder, by name. Other files are ignored."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            about = json.loads(path.read_text())
            files = [str(name) for name in about["files"] if (folder / str(name)).is_file()]
            kept = {"name": path.stem, "files": files, "state": str(about["state"])}
            kept["made"] = {k: v for k, v in about.items() if k not in ("files", "state")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if path.stem != "report":
            found.append(kept)
    return found


def section(folder: Path, about: dict) -> str:
    """Return the section of one experiment: question, figures, tables, pages, provenance."""
    from jaxmlp import report

    name, parts = html.escape(about["name"]), []
    for file in about["files"]:
        path = folder / file
        if path.suffix in (".png", ".svg"):
            data = base64.b64encode(path.read_bytes()).decode()
            alt, kind = html.escape(f"Figure {path.stem}"), IMAGES[path.suffix]
            parts.append(f'<figure><img alt="{alt}" src="data:{kind};base64,{data}"></figure>')
        elif path.suffix == ".csv":
            rows, more = table(path)
            parts.append('<div class="scroll" tabindex="0" role="region" aria-label="Table">'
                         f"{report.as_html(rows, path.name)}</div>{more}")  # fmt: skip
        elif path.suffix in (".html", ".pdf"):
            link = html.escape(path.name)
            what = "figure" if path.suffix == ".pdf" else "page to explore"
            parts.append(f'<p>A {what}: <a href="{link}">{link}</a></p>')
    made = "".join(f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>"
                   for k, v in about["made"].items())  # fmt: skip
    state = "" if about["state"] == "finished" else f"<p>{html.escape(about['state'])}</p>"
    question = f"<p>{html.escape(asks(about['name']))}</p>"
    return (f'<section id="{name}"><h2>{name}</h2>{question}{state}{"".join(parts)}'
            f'<details><summary>what made it</summary><dl>{made}</dl></details></section>'
            )  # fmt: skip


def table(path: Path) -> tuple[list[dict], str]:
    """Return the first rows of a CSV as HTML, and how many there are."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = [{str(name): number(cell) for name, cell in row.items()} for row in rows[:MOST_ROWS]]
    more = f'<p class="note">{len(shown)} of {len(rows):,} rows.</p>'
    return shown, more if len(shown) < len(rows) else ""


def number(cell: str):
    """Return a number as a number, and text without the apostrophe of CSV."""
    if cell and cell[:2] in ("'=", "'+", "'-", "'@"):
        return cell[1:]
    try:
        return float(cell) if "." in cell or "e" in cell else int(cell)
    except (TypeError, ValueError):
        return cell


def asks(name: str) -> str:
    """Return the question of an experiment, the first line of its module."""
    try:
        return (importlib.import_module(f"experiments.{name}").__doc__ or "").splitlines()[0]
    except (ImportError, IndexError, ValueError):
        return ""


if __name__ == "__main__":
    common.run(main, common.parse(Config, __doc__))
