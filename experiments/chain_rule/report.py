"""Tables and numbers as text for the screen and as LaTeX for slides."""

import re
from typing import Any, NamedTuple

import numpy as np

from experiments import common
from jaxmlp import relative_difference


class Section(NamedTuple):
    """Hold a table of the report, and the remarks below it."""

    title: str
    rows: list[dict[str, Any]]
    remarks: list[str]


class Math(str):
    """Mark a formula or a number, which LaTeX sets between dollars."""


def relative(hand, auto) -> float:
    """max|hand - auto| / max|auto|, on the host."""
    return float(relative_difference(np.asarray(hand), np.asarray(auto)))


def power(value: float) -> str:
    """`2e-16`."""
    return f"{value:.0e}" if value else "0"


def short(value: float) -> str:
    """Return a number with four digits, a negative one in brackets."""
    return f"{value:.4g}" if value >= 0 else f"({value:.4g})"


def numbers_of(row) -> Math:
    return Math(", ".join(f"{value:.4g}" for value in row))


def plural(number: int, word: str) -> str:
    return f"{number} {word}{'s'[: number != 1]}"


def print_plain(section: Section) -> None:
    common.table(section.title, section.rows)
    print(*section.remarks, "", sep="\n")


def print_latex(section: Section) -> None:
    print(latex(section))


def latex(section: Section) -> str:
    """Return the table as a `tabular`, with title and remarks as comments."""
    rows = [section.rows[0], *(row.values() for row in section.rows)]
    head, *body = [" & ".join(map(tex, row)) + r" \\" for row in rows]
    begin = rf"\begin{{tabular}}{{{'l' * len(section.rows[0])}}}"
    remarks = [f"% {line}" for line in "\n".join(section.remarks).splitlines()]
    table = [f"% {section.title}", begin, head, r"\hline", *body, r"\end{tabular}"]
    return "\n".join([*table, *remarks, ""])


def tex(cell: str) -> str:
    """Return one cell: escaped text, or a formula between dollars."""
    if not isinstance(cell, Math):
        return re.sub(r"([_%&#$])", r"\\\1", cell)
    d = r"\partial " if re.search(r"d\w+/d", cell) else "d"

    def name(found: re.Match) -> str:
        number, power, word, index = found.groups()
        if number:
            return rf"{number}\cdot 10^{{{int(power)}}}"
        lead, letter = (d, word[1]) if re.fullmatch("d[A-Za-z]", word) else ("", word)
        if len(letter) > 1:
            return rf"\mathrm{{{word}{index}}}".replace("_", r"\_")
        return lead + letter + (f"_{{{index}}}" if index else "")

    text = re.sub(r"([\d.]+)e([+-]\d+)|([A-Za-z_]+)([:\d.]*)", name, cell)
    signs = {" x ": r" \times ", " > ": r" \to ", "*": r"\odot", "^T": r"^{\top}"}
    for plain, sign in signs.items():
        text = text.replace(plain, sign)
    return f"${text}$"
