"""`python -m jaxmlp show`: every row has its line on the page, and numbers that are computed."""

import re
from pathlib import Path

import numpy as np
import pytest

from jaxmlp import lecture
from jaxmlp.__main__ import show

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "experiments" / "LECTURE.md").read_text()
# Those of the notes
KEYS = [
    f"{letter}{number}"
    for letter, count in {"A": 5, "B": 6, "C": 3, "D": 14, "E": 6, "F": 3, "G": 4, "H": 4}.items()
    for number in range(1, count + 1)
] + ["I"]


def test_every_row_of_the_lecture_is_there_with_a_command_and_a_figure_that_exist():
    assert list(lecture.ROWS) == KEYS
    for row in lecture.ROWS.values():
        experiments = ROOT / "experiments"
        assert (experiments / row.command).is_dir() or (experiments / f"{row.command}.py").exists()
        assert not row.figure or (experiments / "figures" / f"{row.figure}.png").exists()


def test_the_page_lists_the_rows_as_they_are():
    lines = [re.split(r" (?<!\\)\| ?", line) for line in PAGE.splitlines() if line[:2] == "| "]
    found = {cells[0].removeprefix("| "): cells[1:] for cells in lines}
    for row in lecture.ROWS.values():
        title, formula, measured, command, *_ = found[row.key]
        assert (title, formula, command) == (row.title, f"`{row.formula}`", f"`{row.command}`")
        assert measured
    assert lecture.LETTERS in PAGE


def numbers(key):
    return lecture.row(key).numbers()


def test_rows_compute_the_numbers_of_the_notes():
    bits = list(numbers("B4").values())
    assert bits == pytest.approx([0.795, 1.42], abs=5e-3)  # as many digits as the notes print
    assert list(numbers("F1").values())[:2] == [1192, 298]
    np.testing.assert_allclose(numbers("B6")["a - y"], [-0.3, 0.2, 0.1])
    assert numbers("E1")["parameters"] == 27
    chain = numbers("E6")
    assert chain["their product, dE/dV11"] == pytest.approx(-0.03834, abs=1e-5)
    assert chain["dV11 by jaxmlp.trace"] == pytest.approx(chain["their product, dE/dV11"], rel=1e-5)
    *_, reduced, column = numbers("E3").values()
    np.testing.assert_allclose(reduced, column, rtol=1e-5)
    assert np.any(column)


def test_show_prints_rows_their_list_and_refuses_others():
    text = show("A2", "f2")
    assert text.startswith("A2  Binary cross-entropy\n\n    J = -(y log a")
    assert "python -m experiments.neuron" in text
    assert "(0.4 - 0)^2  0.16" in text
    assert [line.split()[0] for line in show().splitlines()[-len(KEYS) :]] == KEYS
    with pytest.raises(ValueError, match="unknown row 'H9'"):
        show("H9")
