"""The README tells the truth."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


EXAMPLES = re.findall(
    r"^```python\n(.*?)^```\n\nprints\n\n```\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize(("example", "output"), EXAMPLES)
def test_each_example_prints_what_the_readme_says(example, output):
    printed = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert printed == output


def test_no_example_goes_untested():
    assert len(EXAMPLES) == README.count("```python") > 1


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
