"""What an experiment says while it runs: its progress, and tables."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

Rows = list[dict[str, Any]]


@contextlib.contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `report(done, total)`: a bar on a terminal, a plain line now and then elsewhere."""
    from rich.progress import Progress

    if sys.stderr.isatty():
        from rich.console import Console

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(description, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    told = -1

    def report(done: int, total: int) -> None:
        nonlocal told
        tenth = 10 * done // total
        if tenth > told:
            told = tenth
            print(f"{description}: {done} of {total}", file=sys.stderr, flush=True)

    yield report


def table(title: str, rows: Rows) -> None:
    """Print rows of equal keys as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # brackets in it are brackets

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name, value in rows[0].items():
        grid.add_column(Text(name), justify="left" if isinstance(value, str) else "right")
    for row in rows:
        cells = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values())
        grid.add_row(*map(Text, cells))
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(title, style="italic", markup=False)  # a Table wraps its title to its own width
    console.print(grid)
