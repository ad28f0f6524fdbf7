"""The process of a student's file: it is started, watched, and ended with its children."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

CHILD = Path(__file__).with_name("child.py")
MOST_PRINTED = 10_000  # characters of what a file prints that are kept


class Answer(NamedTuple):
    """Hold what a file returned (lists, dicts, arrays), its error, and what it printed."""

    returned: Any
    crash: str
    printed: str


def run(file: Path, folder: Path, task: Path, limit: float) -> Answer:
    """Run one file, with an empty folder for its answer."""
    if not file.is_file():
        return Answer(None, "no such file", "")
    command = [sys.executable, str(CHILD), str(file), str(task), str(folder), str(limit)]
    with (folder / "printed").open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
    with (folder / "printed").open("rb") as said:
        printed = said.read(MOST_PRINTED).decode(errors="replace")
    if status is None:
        return Answer(None, f"no answer in {limit:g} seconds", printed)
    if status < 0:
        return Answer(None, f"killed by signal {-status}", printed)
    if not (folder / "about.json").exists():
        return Answer(None, "ended without an answer", printed)
    about = json.loads((folder / "about.json").read_text())
    if "crash" in about:
        return Answer(None, about["crash"], printed)
    return Answer(restored(about["answer"], folder), "", printed)


def end(process: subprocess.Popen) -> None:
    """End the process and its children, which are of its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows
            process.kill()
    process.wait()


def restored(structure: dict[str, Any], folder: Path) -> Any:
    """Return the lists, dicts and arrays that the child saved; for others the type's name."""
    import numpy as np

    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        held = {name: arrays[name] for name in arrays.files}

    def one(x: dict[str, Any]) -> Any:
        if "dict" in x:
            return {name: one(value) for name, value in x["dict"]}
        if "list" in x:
            return [one(value) for value in x["list"]]
        if "array" in x:
            return held[f"a{x['array']}"]
        return ... if x["other"] == "ellipsis" else x["other"]

    return one(structure)
