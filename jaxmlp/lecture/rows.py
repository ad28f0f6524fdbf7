"""All rows in the order of the lecture."""

from jaxmlp.checks import unknown_name
from jaxmlp.lecture import networks, one_neuron
from jaxmlp.lecture.row import Row


def _place(row: Row) -> tuple[str, int]:
    return row.key[0], int(row.key[1:] or 0)


ROWS: dict[str, Row] = {
    row.key: row for row in sorted((*one_neuron.ROWS, *networks.ROWS), key=_place)
}


def row(key: str) -> Row:
    """Return the row of that letter and number, as "H1"."""
    if key.upper() not in ROWS:
        raise unknown_name("row", key, tuple(ROWS))
    return ROWS[key.upper()]
