"""Run an experiment. A refusal is one sentence, and an interrupt keeps what was measured."""

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

from experiments.common.options import Config, refuse
from experiments.common.results import Results


def run(main: Callable[[Config], Any], config: Config) -> None:
    """Run an experiment.

    Options that are refused give one sentence and exit status 2. SIGINT and SIGTERM keep what was
    measured, say so in one line, and give the status 130 and 143.
    """
    os.environ["MPLBACKEND"] = "Agg"
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    from jaxmlp import checks

    try:
        checks.seed(config.seed)
        status = main(config)
    except ValueError as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    raise SystemExit(status or 0)


def _stop(number: int, _: Any) -> None:
    """Keep what was measured and exit at once, without waiting for threads."""
    name = signal.Signals(number).name
    said = [f"interrupted by {name} before anything was written"]
    said = [results.interrupt(name) for results in Results.entered] or said
    with contextlib.suppress(RuntimeError, OSError):  # the signal may have met a print half-way
        sys.stdout.flush()
    clear = "\r\x1b[K\x1b[?25h" if sys.stderr.isatty() else ""  # the bar hides the cursor
    os.write(2, f"{clear}{said[0]}\n".encode())
    os._exit(128 + number)
