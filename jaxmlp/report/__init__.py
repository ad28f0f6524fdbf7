"""Tables and pages: HTML in one file that opens by double click, without server or network.

| module | what it does |
|---|---|
| table | writes rows as text and as HTML; escapes every name and value |
| printed | says what a result shows of itself when it is printed |
| pages | writes a page: style for light and dark, scripts, data, provenance |
| explore | writes the page of a sweep: menus, a slider, two charts, a sortable table |
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
