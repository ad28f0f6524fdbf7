"""What an experiment prints: its progress, and tables."""

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Rows = list[dict[str, Any]]


@contextlib.contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `report(done, total)`: a bar on a terminal, elsewhere a line for every tenth.

    Both show the speed and the time left. What is done at the first report does not count for them.
    """
    from rich.progress import Progress, TextColumn

    if sys.stderr.isatty():
        from rich.console import Console

        columns = (*Progress.get_default_columns()[:3], TextColumn("{task.fields[speed]}"))
        speed = _Speed()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(description, total=None, speed="")
            yield lambda done, total: bar.update(
                task, completed=done, total=total, speed=speed(done, total)
            )
        return
    told, speed = -1, _Speed()

    def report(done: int, total: int) -> None:
        nonlocal told
        tenth, fast = 10 * done // total, speed(done, total)
        if tenth > told:
            told = tenth
            print(f"{description}: {done} of {total}{fast}", file=sys.stderr, flush=True)

    yield report


class _Speed:
    """Compute the speed and the time left, as text."""

    first: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> str:
        now = time.monotonic()
        if self.first is None:
            self.first = now, done
        seconds, since = now - self.first[0], done - self.first[1]
        if not (seconds > 0 and since):
            return ""
        rate = since / seconds
        left = datetime.timedelta(seconds=round((total - done) / rate))
        return f", {rate:.3g} a second, {left} left"


def table(title: str, rows: Rows) -> None:
    """Print rows with the same keys as a table."""
    from jaxmlp import report

    print(title)
    print(report.as_text(rows))
