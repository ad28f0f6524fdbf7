"""Is my backward pass of the (2, 4, 3) network right, and if not, which step is wrong?

Each FILE defines `backward(params, X, Y)` with params (W1, b1, W2, b2) in NumPy and returns the
derivatives by name, as `experiments/students/backward.py`, the template to copy and mend. One file
is answered with its certificate, several with one line each. A file runs in a process of its own
that knows nothing of the right answer; a crash or an endless loop is an answer like any other. The
exit status is 0 when every file has its answer, right or wrong.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from experiments import common

TEMPLATE = Path(__file__).parent / "students" / "backward.py"


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the check."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = ()
    """Python files with a function backward(params, X, Y); the template where none is given"""
    csv: bool = False
    """print the lines as comma-separated values, and leave them in the folder of --out"""
    limit: float = 20.0
    """seconds that a file may take"""


class Verdict(NamedTuple):
    """One line of the table, and the certificate where there is one."""

    line: dict[str, Any]
    certificate: Any = None


def main(config: Config) -> None:
    common.check_positive(config, "limit")
    files = config.files or (TEMPLATE,)
    if config.csv:
        # standard output is the CSV
        with contextlib.redirect_stdout(sys.stderr), common.Results("student", config) as results:
            lines = [verdict.line for verdict in examine(files, config.seed, config.limit)]
            results.csv(lines)
        common.write_csv(sys.stdout, lines)
        return
    alone = len(files) == 1
    verdicts = examine(files, config.seed, config.limit, show_prints=alone)
    lines = [verdict.line for verdict in verdicts]
    if alone:
        print(f"{files[0]}\n\n{verdicts[0].certificate or lines[0]['diagnosis']}")
    else:
        common.table("Backward passes of the (2, 4, 3) network", lines)


def examine(
    files: tuple[Path, ...], seed: int, limit: float, show_prints: bool = False
) -> list[Verdict]:
    """Run every file, some at a time, and judge what came out."""
    from jaxmlp import check_grads

    J, params, X, Y = problem(seed)
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.npz"
        save_task(task, params, X, Y)
        answers = [Path(folder) / f"{i}.npz" for i in range(len(files))]
        answer_one = functools.partial(run, task=task, limit=limit, show_prints=show_prints)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            crashes = list(pool.map(answer_one, files, answers))
        for file, out, crash in zip(files, answers, crashes, strict=True):
            answer = {} if crash else load(out)
            certificate = None if crash else check_grads(lambda *_: answer, J, params, X, Y)  # noqa: B023
            verdicts.append(Verdict(line(file, certificate, crash), certificate))
    return verdicts


def problem(seed: int):
    """The spiral, and parameters with biases, so that no step is right by their being 0."""
    import jax
    import numpy as np

    import jaxmlp

    data = jaxmlp.datasets.spiral()
    mlp = jaxmlp.MLP((2, 4, 3), hidden="relu", output="softmax")
    params = mlp.init(jax.random.key(seed), jaxmlp.initializers.gaussian(2.0, 0.1))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    Y = np.eye(data.num_classes)[np.asarray(data.Y)]
    return jaxmlp.Objective(mlp, "cross_entropy"), params, np.asarray(data.X, np.float64), Y


def save_task(path: Path, params, X, Y) -> None:
    import numpy as np

    (W1, b1, *_), (W2, b2, *_) = params
    np.savez(path, W1=W1, b1=b1, W2=W2, b2=b2, X=X, Y=Y)


def load(path: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def line(file: Path, certificate, crash: str) -> dict[str, Any]:
    """name, passed, first wrong step, diagnosis."""
    found = {"name": str(file), "passed": "no", "first wrong step": "", "diagnosis": crash}
    if certificate is None:
        return found
    if certificate.passed:
        return found | {"passed": "yes"}
    mistakes = dict.fromkeys(diagnosis.mistake for diagnosis in certificate.diagnoses)
    shapes = [
        f"d{row.name} {row.verdict}"
        for row in certificate.rows
        if row.verdict not in ("right", "wrong")
    ]
    return found | {
        "first wrong step": certificate.first_wrong_step or "",
        "diagnosis": " or ".join(mistakes) or "; ".join(shapes) or "no known mistake",
    }


# --- the student's own process --------------------------------------------------------------------

CHILD = """
import signal
import sys
import numpy as np
file, task, out, limit = sys.argv[1:]
if hasattr(signal, "setitimer"):  # for a parent that was stopped itself
    signal.setitimer(signal.ITIMER_REAL, float(limit) + 1)
with np.load(task) as given:
    W1, b1, W2, b2, X, Y = (given[name] for name in ("W1", "b1", "W2", "b2", "X", "Y"))
names = {"__name__": "student", "__file__": file}
with open(file, "rb") as source:
    exec(compile(source.read(), file, "exec"), names)
if not callable(names.get("backward")):
    sys.exit("defines no function backward(params, X, Y)")
answer = names["backward"]((W1, b1, W2, b2), X, Y)
if not isinstance(answer, dict):
    sys.exit(f"returned a {type(answer).__name__}, expected a dict of dW1, db1, ...")
arrays = {str(name): np.asarray(value) for name, value in answer.items()}
bad = [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]
if bad:
    sys.exit(f"{bad[0]} is not an array of real numbers")
np.savez(out, **arrays)
"""


def run(file: Path, out: Path, task: Path, limit: float, show_prints: bool = False) -> str:
    """Run one file; return why there is no answer, or nothing."""
    if not file.is_file():
        return "no such file"
    command = [sys.executable, "-c", CHILD, str(file), str(task), str(out), str(limit)]
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stderr=said, timeout=limit,
                stdout=None if show_prints else subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"no answer in {limit:g} seconds"
        if done.returncode < 0:
            return f"killed by signal {-done.returncode}"
        if done.returncode == 0 and out.exists():
            return ""
        said.seek(max(0, said.tell() - 5000))
        words = said.read().decode(errors="replace").strip()
    return crash(file, words) if words else "ended without an answer"


def crash(file: Path, traceback: str) -> str:
    """The last line of a traceback, and the line of the file that it came from."""
    numbers = re.findall(rf'File "{re.escape(str(file))}", line (\d+)', traceback)
    where = f" in line {numbers[-1]}" if numbers else ""
    return f"crash{where}: {traceback.splitlines()[-1]}"


if __name__ == "__main__":
    common.run(main, common.parse(Config, __doc__))
