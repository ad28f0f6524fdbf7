"""The rows of the lecture, A1 to I. Each has a formula, numbers, a command and a figure.

`python -m jaxmlp show H1` computes and prints one row; `experiments/LECTURE.md` lists them all.
"""

from jaxmlp.lecture.row import LETTERS, Row, page, text
from jaxmlp.lecture.rows import ROWS, row

__all__ = ["LETTERS", "ROWS", "Row", "page", "row", "text"]
