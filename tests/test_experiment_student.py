"""The student's experiment: every file has its line, whatever it does."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from experiments import student

TEMPLATE = student.TEMPLATE.read_text()
RIGHT = TEMPLATE.replace("dZ1 = dA1  #", "dZ1 = dA1 * (Z1 > 0)  #")


def lines(folder, files, limit=20.0):
    """The lines of the table by the files' names."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    paths = tuple(folder / f"{name}.py" for name in files)
    verdicts = student.examine(paths, seed=0, limit=limit)
    return {path.stem: verdict.line for path, verdict in zip(paths, verdicts, strict=True)}


def test_the_template_has_one_mistake_and_mended_passes(tmp_path):
    assert RIGHT != TEMPLATE
    found = lines(tmp_path, {"template": TEMPLATE, "mended": RIGHT})
    assert found["mended"]["passed"] == "yes"
    assert found["mended"]["diagnosis"] == found["mended"]["first wrong step"] == ""
    template = dict(found["template"], name=None)
    assert list(template.values()) == [None, "no", "dZ1", "no_derivative"]


MISTAKES = {
    "dZ2 = A2 - Y": ("dZ2 = Y - A2", "dZ2", "sign"),
    "dW2 = A1.T @ dZ2 / m": ("dW2 = A1.T @ dZ2", "dW2", "sum_not_mean"),
    "db2 = dZ2.mean(axis=0)": ("db2 = dZ2.mean(axis=1)", "db2", "bias_wrong_axis"),
    "dA1 = dZ2 @ W2.T": ("dA1 = dZ2 @ (W2 - 0.1 * dW2).T", "dA1", "updated_W"),
    "dW1 = X.T @ dZ1 / m": ("dW1 = X.T @ dZ1 / m + W1", "dW1", "extra_l2"),
    "db1 = dZ1.mean(axis=0)": ("db1 = dZ1", "db1", "bias_not_summed"),
    "(Z1 > 0)": ("(Z1 > 0.1)", "dZ1", "no known mistake"),
}


def test_each_step_of_E3_is_named_with_its_mistake(tmp_path):
    assert all(RIGHT.count(step) == 1 for step in MISTAKES)
    files = {f"s{i}": RIGHT.replace(s, new) for i, (s, (new, _, _)) in enumerate(MISTAKES.items())}
    found = lines(tmp_path, files)
    for line, (_, step, mistake) in zip(found.values(), MISTAKES.values(), strict=True):
        assert (line["passed"], line["first wrong step"]) == ("no", step)
        assert line["diagnosis"] == mistake


CRASHES = {
    "raises": ("def backward(p, X, Y):\n    1 / 0", "crash in line 2: ZeroDivisionError"),
    "syntax": ("def backward(p, X, Y) return", "SyntaxError"),
    "nothing": ("x = 1", "defines no function backward"),
    "number": ("def backward(p, X, Y): return 3", "returned a int"),
    "words": ("def backward(p, X, Y): return {'dW1': 'a'}", "dW1 is not an array of real numbers"),
    "empty": ("def backward(p, X, Y): return {}", "dW2 missing"),
    "leaves": ("raise SystemExit", "ended without an answer"),
    "dies": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
    "shape": (RIGHT.replace('"dW1": dW1', '"dW1": dW1.ravel()'), "dW1 wrong shape (8,)"),
    "nan": (RIGHT.replace('"db1": db1', '"db1": db1 * np.nan'), "db1 not finite"),
}


def test_a_crash_is_a_line(tmp_path):
    found = lines(tmp_path, {name: text for name, (text, _) in CRASHES.items()})
    for name, (_, words) in CRASHES.items():
        assert found[name]["passed"] == "no"
        assert words in found[name]["diagnosis"]


def test_an_endless_loop_is_a_line_and_a_missing_file_too(tmp_path):
    found = lines(tmp_path, {"loop": "while True: pass"}, limit=0.5)
    assert found["loop"]["diagnosis"] == "no answer in 0.5 seconds"
    (verdict,) = student.examine((tmp_path / "absent.py",), seed=0, limit=1.0)
    assert verdict.line["diagnosis"] == "no such file"


def test_a_file_ends_soon_after_its_limit_without_anyone_to_stop_it(tmp_path):
    (tmp_path / "loop.py").write_text("import time\nwhile True: time.sleep(0.1)")
    numbers = {name: [0.0] for name in ("W1", "b1", "W2", "b2", "X", "Y")}
    np.savez(tmp_path / "task.npz", **numbers)
    paths = (str(tmp_path / name) for name in ("loop.py", "task.npz", "out.npz"))
    command = [sys.executable, "-c", student.CHILD, *paths, "0.1"]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGALRM


def test_it_prints_a_certificate_for_one_and_csv_for_many(tmp_path, capsys):
    (tmp_path / "right.py").write_text(RIGHT)
    student.main(student.Config(files=(student.TEMPLATE,)))
    text = capsys.readouterr().out
    assert "no_derivative in layer 1 (dZ1)" in text
    both = (student.TEMPLATE, tmp_path / "right.py")
    student.main(student.Config(files=both, csv=True, out=tmp_path))
    header, first, second = capsys.readouterr().out.strip().splitlines()
    assert header == "name,passed,first wrong step,diagnosis"
    assert first == f"{student.TEMPLATE},no,dZ1,no_derivative"
    assert second == f"{tmp_path / 'right.py'},yes,,"
    assert (tmp_path / "student.csv").read_text().strip().splitlines() == [header, first, second]
    with pytest.raises(ValueError, match="limit"):
        student.main(student.Config(limit=0.0))
