"""All rows in the order of the lecture."""

from jaxmlp.checks import unknown_name
from jaxmlp.lecture import networks, one_neuron
from jaxmlp.lecture.row import Row

ROWS: dict[str, Row] = {  # by letter, then by number
    row.key: row
    for row in sorted(
        (*one_neuron.ROWS, *networks.ROWS), key=lambda row: (row.key[0], int(row.key[1:] or 0))
    )
}


def row(key: str) -> Row:
    """Return the row with that letter and number, such as "H1"."""
    if key.upper() not in ROWS:
        raise unknown_name("row", key, tuple(ROWS))
    return ROWS[key.upper()]
