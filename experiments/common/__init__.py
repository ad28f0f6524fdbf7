"""What every experiment shares: its command line, its progress, and what it leaves on disk."""

from experiments.common.options import (
    Options,
    check_integers,
    check_positive,
    digits,
    module_name,
    parse,
    seeds,
)
from experiments.common.results import Results, write_csv
from experiments.common.run import run
from experiments.common.told import Rows, progress, table

__all__ = [
    "Options",
    "Results",
    "Rows",
    "check_integers",
    "check_positive",
    "digits",
    "module_name",
    "parse",
    "progress",
    "run",
    "seeds",
    "table",
    "write_csv",
]
