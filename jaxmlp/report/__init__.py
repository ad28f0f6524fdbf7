"""Tables and pages: self-contained HTML that opens by double click, with no server and no network.

| module | what it does |
|---|---|
| table | rows as text and as HTML; the one place where names from outside are escaped |
| printed | what a result shows of itself when it is printed |
| pages | a page: its style for light and dark, its scripts, its data, what made it |
| explore | the page of a sweep: menus, a slider, two charts, a sortable table |
"""

from jaxmlp.report.explore import explorer
from jaxmlp.report.pages import page
from jaxmlp.report.printed import SHOWN, Shown, arrays, every_few, html_of, text_of
from jaxmlp.report.table import as_html, as_text

__all__ = [
    "SHOWN",
    "Shown",
    "arrays",
    "as_html",
    "as_text",
    "every_few",
    "explorer",
    "html_of",
    "page",
    "text_of",
]
