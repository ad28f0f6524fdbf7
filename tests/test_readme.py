"""The README tells the truth."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RECIPES = (ROOT / "experiments" / "RECIPES.md").read_text()


def examples(page):
    """Return the blocks of code of a page, each with the output that the page shows."""
    found = re.findall(
        r"^```python\n(.*?)^```\n\nprints\n\n```\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE
    )
    assert len(found) == page.count("```python") > 0, "an example goes untested"
    return found


@pytest.mark.parametrize(("example", "output"), examples(README) + examples(RECIPES))
def test_each_example_prints_what_its_page_says(example, output, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "example", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == output


@pytest.mark.parametrize(
    "path", re.findall(r"\]\(([^)#:]+)\)|`((?:jaxmlp|experiments)/[\w./]+)`", README)
)
def test_every_path_in_the_readme_exists(path):
    assert (ROOT / "".join(path)).exists()


def test_every_experiment_is_in_the_table():
    experiments = ROOT / "experiments"
    scripts = {path.stem for path in experiments.glob("*.py")} - {"__init__", "common"}
    scripts |= {path.parent.name for path in experiments.glob("*/__main__.py")}
    assert scripts == set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE))


def test_every_picture_of_the_gallery_exists_and_every_picture_is_shown():
    folder = ROOT / "experiments"
    shown = set(re.findall(r"\]\((figures/\w+\.png)\)", (folder / "README.md").read_text()))
    assert shown == {f"figures/{path.name}" for path in (folder / "figures").glob("*.png")}
