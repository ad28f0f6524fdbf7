"""Run the files, print one certificate or one line each."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import tyro

import experiments.student
from experiments import common
from experiments.student import process, report
from experiments.student.problem import problem, save_task, template
from experiments.student.report import Verdict

TEMPLATE = Path(__file__).parent.parent / "students" / "backward.py"


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the check."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = ()
    """Python files or notebooks with a function backward(params, X, Y); the template with a mistake
    if none is given"""
    sizes: tuple[int, ...] = (2, 4, 3)
    """units of each layer, the input first; params are then (W1, b1, W2, b2, ...)"""
    hidden: str = "relu"
    """activation of the hidden layers, a name of jaxmlp.activations"""
    loss: str = "cross_entropy"
    """cross_entropy (softmax output), binary_cross_entropy (sigmoid), or a loss of a linear output:
    mse, half_squared_error, sse"""
    template: bool = False
    """print a blank file for such a network, and nothing else"""
    csv: bool = False
    """print the lines as comma-separated values, and leave them in the folder of --out"""
    html: bool = False
    """leave a page for each file in the folder of --out: the certificate, what it printed, itself
    """
    verbose: bool = False
    """print all columns of a certificate: cosine, norm ratio, sign flips, ulp, second route"""
    strict: bool = False
    """exit with 1 if a file is not right, crashes or is missing"""
    limit: float = 20.0
    """seconds that a file may take"""


def main(config: Config) -> int:
    common.check_positive(config, "limit")
    common.check_integers(config, "sizes")
    if len(config.sizes) < 2:
        raise ValueError(f"sizes must name two layers or more, got {config.sizes}")
    if config.template:
        print(template(config.sizes, config.hidden, config.loss), end="")
        return 0
    if config.csv or config.html:
        # standard output is the CSV
        with contextlib.redirect_stdout(sys.stderr), common.Results("student", config) as results:
            verdicts = examine(config)
            lines = report.lines(verdicts)
            results.csv(lines)
            for line, verdict in zip(lines, verdicts if config.html else (), strict=False):
                stem = Path(line["name"]).with_suffix("").as_posix().strip("/").replace("/", "_")
                with results.path(f"_{stem}.html") as path:
                    path.write_text(report.page(verdict))
    else:
        verdicts = examine(config)
        lines = report.lines(verdicts)
    if config.csv:
        common.write_csv(sys.stdout, lines)
    elif len(verdicts) == 1:
        print(one(verdicts[0], config.verbose))
    else:
        shown = [{k: v for k, v in line.items() if k != "mistake"} for line in lines]
        common.table(f"Backward passes of the {config.sizes} network", shown)
    return int(config.strict and not all(verdict.is_right for verdict in verdicts))


def one(verdict: Verdict, verbose: bool) -> str:
    """The certificate of one file, and what the file printed."""
    certificate = verdict.certificate
    said = verdict.answer.crash if certificate is None else certificate.text(verbose)
    printed = verdict.answer.printed
    return f"{verdict.file}\n\n{said}" + (f"\n\nIt printed:\n\n{printed}" if printed else "")


def examine(config: Config) -> list[Verdict]:
    """Run every file, some at a time, and judge what came out."""
    from jaxmlp import check_grads

    J, params, X, Y = problem(config.sizes, config.hidden, config.loss, config.seed)
    files, verdicts = config.files or (TEMPLATE,), []
    with tempfile.TemporaryDirectory() as name:
        task = Path(name) / "task.npz"
        save_task(task, params, X, Y)
        folders = [Path(name) / str(i) for i in range(len(files))]
        for folder in folders:
            folder.mkdir()
        answer_one = functools.partial(process.run, task=task, limit=config.limit)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for file, answer in zip(files, pool.map(answer_one, files, folders), strict=True):
                certificate = None
                if not answer.crash:
                    certificate = check_grads(lambda *_: answer.returned, J, params, X, Y)  # noqa: B023
                verdicts.append(Verdict(file, answer, certificate))
    return verdicts


if __name__ == "__main__":
    common.run(main, common.parse(Config, experiments.student.__doc__))
