"""The student's experiment: every file has its line, whatever it does."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.student import __main__ as student
from experiments.student import process, report
from experiments.student.problem import template

TEMPLATE = student.TEMPLATE.read_text()
RIGHT = TEMPLATE.replace("dZ1 = dA1  #", "dZ1 = dA1 * (Z1 > 0)  #")
RECIPES = (student.TEMPLATE.parent.parent / "RECIPES.md").read_text()


def without_rounding(text):
    """A printed certificate without the numbers that differ from machine to machine."""
    return re.sub(r"\d\.\de-\d+", "", text)


def lines(folder, files, **options):
    """The lines of the table by the files' names."""
    for name, text in files.items():
        (folder / name).write_text(text)
    paths = tuple(folder / name for name in files)
    # a loaded machine took 20 seconds for a crash
    verdicts = student.examine(student.Config(**{"files": paths, "limit": 120.0, **options}))
    return dict(zip(files, report.lines(verdicts), strict=True))


def test_the_template_has_one_mistake_and_mended_passes(tmp_path):
    assert RIGHT != TEMPLATE
    found = lines(tmp_path, {"template.py": TEMPLATE, "mended.py": RIGHT})
    assert list(found["mended.py"].values()) == ["mended.py", "yes", "", "", ""]
    template = found["template.py"]
    assert (template["passed"], template["first wrong step"]) == ("no", "dZ1")
    assert template["mistake"] == "no_derivative"
    assert template["diagnosis"].startswith("the activation's derivative is missing: dZ1 = dA1 *")


MISTAKES = {
    "dZ2 = A2 - Y": ("dZ2 = Y - A2", "dZ2", "sign"),
    "dW2 = A1.T @ dZ2 / m": ("dW2 = A1.T @ dZ2", "dW2", "sum_not_mean"),
    "db2 = dZ2.mean(axis=0)": ("db2 = dZ2.mean(axis=1)", "db2", "bias_wrong_axis"),
    "dA1 = dZ2 @ W2.T": ("dA1 = dZ2 @ (W2 - 0.1 * dW2).T", "dA1", "updated_W"),
    "dW1 = X.T @ dZ1 / m": ("dW1 = X.T @ dZ1 / m + W1", "dW1", "extra_l2"),
    "db1 = dZ1.mean(axis=0)": ("db1 = dZ1", "db1", "bias_not_summed"),
    "(Z1 > 0)": ("(Z1 > 0.1)", "dZ1", ""),
}


def test_each_step_of_E3_is_named_with_its_mistake(tmp_path):
    assert all(RIGHT.count(step) == 1 for step in MISTAKES)
    files = {
        f"s{i}.py": RIGHT.replace(s, new) for i, (s, (new, _, _)) in enumerate(MISTAKES.items())
    }
    found = lines(tmp_path, files)
    for line, (_, step, mistake) in zip(found.values(), MISTAKES.values(), strict=True):
        assert (line["passed"], line["first wrong step"]) == ("no", step)
        assert line["mistake"] == mistake
        assert step in line["diagnosis"] or mistake in ("sign", "sum_not_mean", "extra_l2")


LOOP = """
import numpy as np

def backward(params, X, Y):
    W1, b1, W2, b2 = params
    m = len(X)
    dW1, db1, dW2, db2 = (np.zeros_like(p) for p in params)
    for i in range(m):
        x, y = X[i], Y[i]
        z1 = x @ W1 + b1
        a1 = np.where(z1 > 0, z1, 0.0)
        z2 = a1 @ W2 + b2
        a2 = np.exp(z2) / np.sum(np.exp(z2))
        d2 = a2 - y
        dW2 += np.outer(a1, d2) / m
        db2 += d2 / m
        d1 = (W2 @ d2) * (z1 > 0)
        dW1 += np.outer(x, d1) / m
        db1 += d1 / m
    return dW1, db1, dW2, db2
"""
# What to write otherwise, and what is then said
IN_A_LOOP = {
    "(z1 > 0)": ("(1 - a1**2)", "other_derivative"),
    "np.outer(a1, d2)": ("np.outer(z1, d2)", "Z_for_A"),
    "z1 = x @ W1 + b1": ("z1 = x @ W1", "bias_left_out"),
    "d2 = a2 - y": ("d2 = 0.1 * (a2 - y)", "factor"),
    "range(m)": ("range(m - 1)", "some_samples"),
    "X[i], Y[i]": ("X[i], Y[m - 1 - i]", "Y_moved"),
    "np.outer(x, d1) / m": ("np.outer(x, W2 @ d2) / m", "dA_for_dZ"),
    "return dW1, db1, dW2, db2": ("return (dW2, db2), (dW1, db1)", "reversed"),
    "(z1 > 0)\n": ("((W2 @ d2) > 0)\n", "gate_of_dA"),
}


def test_mistakes_in_a_loop_over_the_samples_are_named(tmp_path):
    assert all(LOOP.count(old) == 1 or old == "(z1 > 0)" for old in IN_A_LOOP)
    files = {
        f"l{i}.py": LOOP.replace(old, new) for i, (old, (new, _)) in enumerate(IN_A_LOOP.items())
    }
    found = lines(tmp_path, {"right.py": LOOP, **files})
    assert found.pop("right.py")["passed"] == "yes"
    for line, (_, mistake) in zip(found.values(), IN_A_LOOP.values(), strict=True):
        assert mistake in line["mistake"].split(" or ")


NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Backward"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "!pip list\n", "import numpy\n"]},
        {"cell_type": "code", "source": RIGHT.splitlines(keepends=True)},
    ]
}
IMPORTS = "from helpers import backward as own\nbackward = lambda *a: own(*a)"
LOUD = RIGHT.replace("    m = len(X)", "    m = len(X)\n    print('shape', X.shape)")
IN_ORDER = RIGHT.replace('"dZ2": dZ2, ', "").replace(
    "return {", "return (dW1, db1, dW2, db2)\n    {"
)
NAMES = RIGHT.replace('"dZ', '"delta').replace('"dW', '"grad_W').replace('"db', '"grad_b')
SAVEZ = RIGHT.replace('"dZ2": dZ2', '"file": 1, "args": 2, "dZ2": dZ2')


def test_files_notebooks_and_forms_that_people_use_are_read(tmp_path):
    rights = {
        "helpers.py": RIGHT,
        "imports.py": IMPORTS,
        "notebook.ipynb": json.dumps(NOTEBOOK),
        "in_order.py": IN_ORDER,
        "names.py": NAMES,
        "savez.py": SAVEZ,
        "loud.py": LOUD,
    }
    assert len({*rights.values()}) == len(rights)
    found = lines(tmp_path, rights)
    assert {name: line["passed"] for name, line in found.items()} == dict.fromkeys(rights, "yes")
    assert {line["name"] for line in found.values()} == {*rights}


MULTILINE = "def backward(p, X, Y):\n    raise RuntimeError('first\\nsecond: line')"
CRASHES = {
    "raises": ("def backward(p, X, Y):\n    1 / 0", "crash in line 2: ZeroDivisionError: division"),
    "multi-line": (MULTILINE, "crash in line 2: RuntimeError: first"),
    "syntax": ("def backward(p, X, Y) return", "crash in line 1: SyntaxError"),
    "nothing": ("x = 1", "defines no function backward"),
    "number": ("def backward(p, X, Y): return 3", "dW1, db1, dW2, db2 missing"),
    "words": ("def backward(p, X, Y): return {'dW1': 'a'}", "dW1, db1, dW2, db2 missing"),
    "empty": ("def backward(p, X, Y): return {}", "dW1, db1, dW2, db2 missing"),
    "blank": (template((2, 4, 3), "relu", "cross_entropy"), "dW1, db1, dW2, db2 missing"),
    "leaves": ("raise SystemExit", "ended without an answer"),
    "dies": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
    "shape": (RIGHT.replace('"dW1": dW1', '"dW1": dW1.ravel()'), "dW1: wrong shape (8,), not (2,"),
    "nan": (RIGHT.replace('"db1": db1', '"db1": db1 * np.nan'), "db1: not finite"),
}


def test_a_crash_is_a_line(tmp_path):
    found = lines(tmp_path, {f"{name}.py": text for name, (text, _) in CRASHES.items()})
    for name, (_, words) in CRASHES.items():
        assert found[f"{name}.py"]["passed"] == "no"
        assert words in found[f"{name}.py"]["diagnosis"]


def test_an_endless_loop_is_a_line_and_a_missing_file_too(tmp_path):
    found = lines(tmp_path, {"loop.py": "while True: pass"}, limit=0.5)
    assert found["loop.py"]["diagnosis"] == "no answer in 0.5 seconds"
    config = student.Config(files=(tmp_path / "absent.py",), limit=1.0, strict=True)
    (verdict,) = student.examine(config)
    assert report.lines([verdict])[0]["diagnosis"] == "no such file"
    assert student.main(config) == 1


GRANDCHILD = """
import pathlib, subprocess, sys
sleep = "import time; time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", sleep])
pathlib.Path(__file__).with_name("pid").write_text(str(child.pid))
def backward(params, X, Y):
    return {}
"""


def test_what_a_file_has_started_ends_with_it(tmp_path):
    lines(tmp_path, {"parent.py": GRANDCHILD})
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):  # it is dead at once, and gone when its new parent has looked
        if not is_running(pid):
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


def is_running(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().split(") ")[1][0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_file_ends_soon_after_its_limit_without_anyone_to_stop_it(tmp_path):
    (tmp_path / "loop.py").write_text("import time\nwhile True: time.sleep(0.1)")
    np.savez(tmp_path / "task.npz", p0=[0.0], X=[0.0], Y=[0.0])
    paths = (str(path) for path in (tmp_path / "loop.py", tmp_path / "task.npz", tmp_path))
    command = [sys.executable, str(process.CHILD), *paths, "0.1"]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGALRM


def test_a_network_of_any_size_has_its_blank_template(tmp_path, capsys):
    blank = student.TEMPLATE.with_name("blank.py").read_text()
    student.main(student.Config(template=True))
    assert capsys.readouterr().out == blank
    sizes = 2, 5, 4, 3
    text = template(sizes, "sigmoid", "mse")
    assert "(W1, b1, W2, b2, W3, b3)" not in text
    assert "W1, b1, W2, b2, W3, b3 = params" in text
    steps = {
        "dZ3": "2 * (A3 - Y)", "dZ2": "dA2 * A2 * (1 - A2)", "dZ1": "dA1 * A1 * (1 - A1)",
        "dA2": "dZ3 @ W3.T", "dA1": "dZ2 @ W2.T",
        "dW3": "A2.T @ dZ3 / m", "dW2": "A1.T @ dZ2 / m", "dW1": "X.T @ dZ1 / m",
        "db3": "dZ3.mean(axis=0)", "db2": "dZ2.mean(axis=0)", "db1": "dZ1.mean(axis=0)",
    }  # fmt: skip
    for name, formula in steps.items():
        assert text.count(f"    {name} = ...") == 1
        text = text.replace(f"    {name} = ...", f"    {name} = {formula}")
    wrong = text.replace("2 * (A3 - Y)", "A3 - Y")
    options = {"sizes": sizes, "hidden": "sigmoid", "loss": "mse"}
    found = lines(tmp_path, {"right.py": text, "wrong.py": wrong}, **options)
    assert found["right.py"]["passed"] == "yes"
    assert found["wrong.py"]["mistake"].split(" or ")[0] in ("factor_half", "wrong_loss_gradient")
    with pytest.raises(ValueError, match="sizes"):
        student.main(student.Config(sizes=(3,)))


def test_it_prints_a_certificate_for_one_and_csv_or_pages_for_many(tmp_path, capsys):
    (tmp_path / "loud.py").write_text(LOUD)
    student.main(student.Config(files=(student.TEMPLATE,)))
    text = capsys.readouterr().out
    recipe = re.search(r"```\n(The gradient is wrong.*?)```", RECIPES, flags=re.DOTALL)
    assert recipe
    assert without_rounding(recipe[1]) in without_rounding(text)
    assert len(text.splitlines()) <= 24
    assert "cosine" not in text
    files = (student.TEMPLATE, tmp_path / "loud.py")
    status = student.main(
        student.Config(files=files, csv=True, html=True, strict=True, out=tmp_path)
    )
    assert status == 1
    header, first, second = capsys.readouterr().out.strip().splitlines()
    assert header == "name,passed,first wrong step,mistake,diagnosis"
    assert first.startswith("backward.py,no,dZ1,no_derivative,the activation's derivative is")
    assert second == "loud.py,yes,,,"
    assert (tmp_path / "student.csv").read_text().strip().splitlines() == [header, first, second]
    assert "no_derivative in layer 1" in (tmp_path / "student_backward.html").read_text()
    page = (tmp_path / "student_loud.html").read_text()
    assert "The gradient is right." in page
    assert "shape (300, 2)" in page  # what it printed
    with pytest.raises(ValueError, match="limit"):
        student.main(student.Config(limit=0.0))
