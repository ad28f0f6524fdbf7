"""The command lines: refusals in one sentence, and what a run leaves on disk, however it ends."""

import csv
import dataclasses
import importlib
import io
import json
import math
import signal
import subprocess
import sys
import types
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from experiments import common, equivalence
from experiments.common import told
from jaxmlp import checks

ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/__main__.py"))
ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def experiment(name):
    """Its options and its main."""
    folder = f"experiments.{name}.__main__"
    module = equivalence if name == "equivalence" else importlib.import_module(folder)
    return module.Config, module.main


def said(monkeypatch, capsys, name, *words):
    """Return exit status and output of an experiment called with these words."""
    config, main = experiment(name)
    monkeypatch.setattr(sys, "argv", [name, *words])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        common.run(main, common.parse(config, None))
    return ended.value.code, capsys.readouterr().err


# --- options --------------------------------------------------------------------------------------

WRONG = [
    ("depth_sweep", "--width", "Missing value for argument '--width'"),
    ("depth_sweep", "--depths", "Missing value for argument '--depths'"),
    ("depth_sweep", "--activations --seed 3", "Missing value for argument '--activations'"),
    ("activations", "--activations", "Missing value for argument '--activations'"),
    ("benchmark", "--parts", "Missing value for argument '--parts'"),
    ("spiral", "--out", "Missing value for argument '--out'"),
    ("depth_sweep", "--widht 3", "Unrecognized options: --widht, 3; did you mean --width?"),
    ("depth_sweep", "--width x", "Error parsing --width: invalid literal for int()"),
    ("benchmark", "--parts foo", "invalid choice 'foo' for argument '--parts'"),
    ("depth_sweep", "--num-samples 1", "num_samples must lie in 2..1797, got 1"),
    ("depth_sweep", "--num-samples -5", "num_samples must lie in 2..1797, got -5"),
    ("depth_sweep", "--num-samples 100000", "num_samples must lie in 2..1797, got 100000"),
    ("trainability", "--depths 10 5", "depths must ascend, got 10, 5"),
    ("trainability", "--sigma-w2s -1 1", "sigma_w2s must be finite and above 0, got -1.0"),
    ("ten_thousand_layers", "--num-samples 1", "num_samples must lie in 2..1797, got 1"),
    ("vanishing", "--num-samples 1", "num_samples must lie in 2..1797, got 1"),
    ("vanishing", "--num-samples 100000", "num_samples must lie in 2..1797, got 100000"),
    ("vanishing", "--step-depths 5 0", "step_depths must be at least 1, got 0"),
    ("vanishing", "--race-rates nan", "race_rates must be finite and above 0, got nan"),
    ("depth_sweep", "--activations rleu", "unknown activation 'rleu'; did you mean 'relu'?"),
    ("depth_sweep", "--activations linear:1:2:3", "activation 'linear:1:2:3'"),
    (
        "depth_sweep",
        "--activations relu,tanh",
        "--activations takes words with spaces between them: relu tanh",
    ),
    ("depth_sweep", "--inits xavier", "unknown initializer 'xavier'"),
    ("depth_sweep", "--residuals -1", "residual must be finite and above 0, got -1.0"),
    ("depth_sweep", "--residuals reszero", "unknown residual 'reszero'; did you mean 'rezero'?"),
    ("depth_sweep", "--norms batch", "batch normalisation couples the samples"),
    ("depth_sweep", "--workers -1", "workers must be at least 0, got -1"),
    ("depth_sweep", "--workers 2 --dask tcp://x", "give --workers or --dask, not both"),
    ("depth_sweep", "--theory-nets 1", "theory_nets must be at least 2, got 1"),
    ("depth_sweep", "--vanishing 10 --exploding 1", "expected 0 < vanishing < exploding"),
    (
        "activations",
        "--activations relu:nan",
        "activation 'relu:nan': threshold must be finite",
    ),
    ("activations", "--range inf", "range must be finite and above 0, got inf"),
    ("spiral", "--activation rleu", "unknown activation 'rleu'"),
    ("spiral", "--num-steps -5", "num_steps must be at least 10, got -5"),
    ("remedies", "--cures layer", "unknown cure 'layer'; did you mean 'layer norm'?"),
    ("remedies", "--width 2", "width must be at least 3, got 2"),
    ("jacobian", "--depths 1", "depths must be at least 2, got 1"),
    ("jacobian", "--activations rleu", "unknown activation 'rleu'; did you mean 'relu'?"),
    ("trainability", "--num-seeds 0", "num_seeds must be at least 1, got 0"),
    ("ten_thousand_layers", "--depth 0", "depth must be at least 1, got 0"),
    ("phase_diagram", "--dots 0", "dots must be at least 1, got 0"),
    (
        "phase_diagram",
        "--activation relu:nan",
        "activation 'relu:nan': threshold must be finite",
    ),
    ("benchmark", "--rounds 0", "rounds must be at least 1, got 0"),
    ("benchmark", "--activation rleu", "unknown activation 'rleu'"),
    ("neuron", "--rounds 0", "rounds must be at least 1, got 0"),
    ("neuron", "--learning-rate 0", "learning_rate must be finite and above 0"),
    ("chain_rule", "--hidden rleu", "unknown activation 'rleu'"),
    ("per_sample", "--width 0", "width must be at least 1, got 0"),
    ("any_model", "--width 6", "width must be a multiple of 4"),
    ("papers", "--papers heh", "unknown paper 'heh'"),
    ("equivalence", "--depths 0", "depths must be at least 1, got 0"),
    ("student", "--sizes 3", "sizes must name two layers or more, got (3,)"),
    ("student", "--limit nan", "limit must be finite and above 0, got nan"),
    ("depth_sweep", "--seed 4294967296", "seed must lie in 0..4294967295, got 4294967296"),
    ("phase_diagram", "--seed -1", "seed must be at least 0, got -1"),
]


@pytest.mark.parametrize(("name", "words", "sentence"), WRONG)
def test_what_cannot_be_met_is_one_sentence_before_anything_is_measured(
    name, words, sentence, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    status, told = said(monkeypatch, capsys, name, *words.split())
    assert status == 2
    assert told.startswith(f"error: {sentence}")
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_table_of_wrong_options_visits_every_experiment():
    assert {name for name, _, _ in WRONG} == {*FOLDERS, "equivalence"}


def test_small_runs_keep_the_options_that_are_typed(monkeypatch):
    config, _ = experiment("spiral")
    for words, expected in (
        ([], (10_000, 100)),
        (["--smoke"], (200, 20)),
        (["--smoke", "--width", "7"], (200, 7)),
        (["--smoke", "--num_steps=300"], (300, 20)),
    ):
        monkeypatch.setattr(sys, "argv", ["spiral", *words])
        found = common.parse(config, None, num_steps=200, width=20)
        assert (found.num_steps, found.width) == expected


def test_seeds_go_on_from_zero_after_the_last():
    assert common.seeds(common.Options(seed=2**32 - 1), 3) == [4294967295, 0, 1]
    assert common.seeds(common.Options(seed=5), 2) == [5, 6]


HEAVY = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print([name for name in ("numpy", "jax", "matplotlib", "sklearn", "scipy") if name in sys.modules])
"""


def test_what_help_needs_imports_nothing_heavy():
    names = [f"experiments.{name}.__main__" for name in FOLDERS]
    names += ["experiments.equivalence"]
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# --- the folder -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Fake(common.Options):
    pass


def results(folder):
    return common.Results("fake", Fake(out=folder))


def about(folder):
    return json.loads((folder / "fake.json").read_text())


class Told(Exception):
    pass


@pytest.mark.parametrize(
    "name", [name for name in FOLDERS if name not in ("chain_rule", "student")]
)
def test_the_folder_is_made_before_anything_is_measured(name, monkeypatch, tmp_path):
    def enter(self):
        raise Told

    config, main = experiment(name)
    monkeypatch.setattr(common.Results, "__enter__", enter)
    with pytest.raises(Told):
        main(config(out=tmp_path))


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("file", "is a file, expected a folder"),
        ("file/below", "Not a directory"),
        ("full", "No space left on device"),
        ("denied", "Permission denied"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_refused(out, reason, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".fake.running").symlink_to("/dev/full")
    if out == "denied":  # root may write anywhere

        def denied(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(ValueError, match=reason), results(tmp_path / out):
        pass
    assert not common.Results.entered


def test_a_disk_that_fills_up_is_a_sentence_and_keeps_what_was_whole(tmp_path):
    def fill():
        with results(tmp_path) as run:
            run.csv(ROWS)
            (tmp_path / ".fake_late.csv.part").symlink_to("/dev/full")
            run.csv([{"a": "x" * 10_000}], "_late")

    with pytest.raises(ValueError, match=r"cannot write .*fake_late.csv: No space left on device"):
        fill()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake.csv", "fake.json"]
    assert about(tmp_path)["state"].startswith("failed: cannot write")
    assert about(tmp_path)["files"] == ["fake.csv"]


def test_every_table_is_there_as_soon_as_it_is_written_with_what_made_it(tmp_path, capsys):
    figure = plt.figure(figsize=(1, 1))
    with results(tmp_path) as run:
        assert not (tmp_path / "fake.json").exists()
        run.csv(ROWS)
        assert (tmp_path / "fake.csv").read_text() == "a,b\n1,x\n2,y\n"
        assert (about(tmp_path)["state"], about(tmp_path)["files"]) == ("running", ["fake.csv"])
        grown = [path.read_text() for row in [ROWS] for path in grow(run, row, tmp_path)]
        assert grown == ["a,b\n1,x\n", "a,b\n1,x\n2,y\n"]
        run.figure(figure)
    plt.close(figure)
    names = ["fake.csv", "fake_grown.csv", "fake.png"]
    assert (about(tmp_path)["state"], about(tmp_path)["files"]) == ("finished", names)
    assert {path.name for path in tmp_path.iterdir()} == {*names, "fake.json"}
    assert capsys.readouterr().out.split()[1:] == [str(tmp_path / n) for n in [*names, "fake.json"]]
    options = {"seed": 0, "smoke": False, "format": "png", "large": False}
    assert about(tmp_path)["options"] == options


def grow(run, rows, folder):
    """Yield the path after each row, as it stands then."""
    taken = []

    def coming():
        for row in rows:
            yield row
            taken.append((folder / "fake_grown.csv").read_text())

    run.grow(coming(), "_grown")
    for text in taken:
        copy = folder.parent / "copy.csv"
        copy.write_text(text)
        yield copy


def test_a_second_run_replaces_the_first_as_a_whole_and_nothing_else(tmp_path):
    (tmp_path / "fake_of_mine.csv").write_text("mine")
    with results(tmp_path) as first:
        first.csv(ROWS)
        first.csv(ROWS, "_only_of_the_first")
    with results(tmp_path) as second:
        assert (tmp_path / "fake_only_of_the_first.csv").exists()  # until there is something new
        second.csv(ROWS[:1], "_new")
        assert not (tmp_path / "fake.csv").exists()
    names = {"fake.json", "fake_new.csv", "fake_of_mine.csv"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert about(tmp_path)["files"] == ["fake_new.csv"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"files": 3}', '{"files": ["../other", "/other", "other", 3]}', "\xff"]
)
def test_an_earlier_json_takes_nothing_else_away(text, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for path in (tmp_path / "other", folder / "other"):
        path.touch()
    (folder / "fake.json").write_text(text, encoding="latin-1")
    with results(folder) as run:
        run.csv(ROWS)
    assert (tmp_path / "other").exists()
    assert (folder / "other").exists()


def test_two_runs_at_a_time_are_refused_and_a_run_that_fails_gives_way(tmp_path):
    with results(tmp_path) as first:
        with pytest.raises(ValueError, match="another run is writing to --out"), results(tmp_path):
            pass
        first.csv(ROWS)
        with common.Results("other", Fake(out=tmp_path)):  # of another experiment
            pass
    with pytest.raises(RuntimeError), results(tmp_path):
        raise RuntimeError
    assert about(tmp_path)["state"] == "finished"  # the failed one wrote nothing
    with results(tmp_path):
        pass
    assert about(tmp_path)["files"] == []


STOPPED = """
import sys, time
from pathlib import Path
from experiments import common
from jaxmlp import checks  # before the clock runs

def main(config):
    with common.Results("fake", config, "go on with: fake") as results:
        if config.seed:
            results.csv([{"a": 1}])
        with results.path("_half.csv") as path:
            path.write_text("half")
            print("ready", flush=True)
            time.sleep(60)

common.run(main, common.Options(out=Path(sys.argv[1]), seed=int(sys.argv[2])))
"""


def test_an_interrupt_leaves_what_was_measured_and_says_so_in_one_line(tmp_path):
    cases = {"SIGTERM": 1, "SIGINT": 0}
    runs = {
        name: subprocess.Popen(
            [sys.executable, "-c", STOPPED, str(tmp_path / name), str(seed)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name, seed in cases.items()
    }  # fmt: skip
    for name, run in runs.items():
        with run:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
            run.send_signal(getattr(signal, name))
            _, told = run.communicate(timeout=30)
        assert run.returncode == 128 + getattr(signal, name)
        assert told.startswith(f"interrupted by {name}")
        assert told.endswith("; go on with: fake\n")
        assert told.count("\n") == 1
    kept, nothing = tmp_path / "SIGTERM", tmp_path / "SIGINT"
    assert {path.name for path in kept.iterdir()} == {"fake.csv", "fake.json"}
    assert about(kept)["state"] == "interrupted by SIGTERM"
    assert about(kept)["files"] == ["fake.csv"]
    assert list(nothing.iterdir()) == []


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_a_figure_is_in_the_format_asked_for_and_the_same_each_time(kind, start, tmp_path):
    def drawn(folder):
        with common.Results("fake", Fake(out=folder, format=kind)) as run:
            figure, ax = plt.subplots(figsize=(2, 1))
            ax.plot([1, 2])
            run.figure(figure, "_line")
        plt.close(figure)
        return (folder / f"fake_line.{kind}").read_bytes()

    first, again = drawn(tmp_path / "a"), drawn(tmp_path / "b")
    assert first.startswith(start)
    assert first == again


@pytest.mark.parametrize(("large", "points", "inches"), [(False, 10, 8), (True, 16, 10)])
def test_letters_and_width_are_those_of_a_readme_or_of_a_hall_and_titles_fit(
    large, points, inches, tmp_path
):
    before = plt.rcParams["font.size"]
    with common.Results("fake", Fake(out=tmp_path, large=large)) as run:
        figure, axes = plt.subplots(1, 2, figsize=(9.6, 3), layout="constrained")
        figure.suptitle("What is said of both of these panels is far too long for one line " * 2)
        for ax in axes:
            ax.set_title("A sentence that is longer than its panel: $10^{-3}$ and $10^{-4}$, " * 2)
        run.figure(figure)
        assert axes[0].xaxis.label.get_size() == points
        assert figure.get_figwidth() == inches
        figure.draw_without_rendering()
        boxes = [ax.title.get_window_extent() for ax in axes]
        assert boxes[0].x1 < boxes[1].x0
        assert figure.bbox.x0 <= boxes[0].x0
        assert boxes[1].x1 <= figure.bbox.x1
        lines = figure.get_suptitle().splitlines()
        assert len(lines) > 1
        assert min(map(len, lines)) > 0.7 * max(map(len, lines))  # no word stands alone
    plt.close(figure)
    assert plt.rcParams["font.size"] == before


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "-1e5x", "-"])
def test_text_that_a_spreadsheet_would_run_is_quoted(text):
    file = io.StringIO(newline="")
    common.write_csv(file, [{"name": text, "n": -1.5}])
    file.seek(0)
    assert list(csv.DictReader(file)) == [{"name": f"'{text}", "n": "-1.5"}]


@pytest.mark.parametrize("value", ["-1.5", "+3", "-inf", "-1e-300", "", "a=b", "'", -3, None, 0.5])
def test_numbers_and_other_text_are_left_as_they_are(value):
    assert checks.csv_cell(value) is value


def test_a_table_prints_brackets_as_they_are(capsys):
    common.table("[b]title", [{"[/i]": "[/oops] [red]x"}])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["[b]title"], ["[/i]"], ["[/oops]", "[red]x"],
    ]  # fmt: skip


def test_a_file_of_a_student_with_a_formula_for_a_name_is_quoted(tmp_path, capsys):
    absent = Path("=cmd.py"), Path("other.py")
    config, main = experiment("student")
    main(config(files=absent, csv=True, out=tmp_path))
    for text in (capsys.readouterr().out, (tmp_path / "student.csv").read_text()):
        assert text.splitlines()[1] == "'=cmd.py,no,,,no such file"


# --- single experiments ---------------------------------------------------------------------------


def test_the_depth_sweep_leaves_theory_out_for_orthogonal_weights(monkeypatch, tmp_path, capsys):
    from experiments.depth_sweep import figures, measured

    class Table:
        def to_csv(self, path):
            path.write_text("layer\n1\n")

        def summary(self, *_, **__):
            names = ("activation", "init", "depth", "residual", "norm", "verdict")
            row = dict(zip(names, ("tanh", "orthogonal", 9, None, None, "healthy"), strict=True))
            return [row | {"log10_change": -0.5, "factor_per_layer": 0.9}]

    monkeypatch.setattr(measured, "measure", lambda _: Table())
    monkeypatch.setattr(measured, "statements", lambda _: [])
    for name in ("lost", "decades", "histograms"):
        monkeypatch.setattr(figures, name, lambda *_: plt.figure(figsize=(1, 1)))
    config, main = experiment("depth_sweep")
    main(config(inits=("orthogonal",), num_samples=2, out=tmp_path))
    assert "Left out of the theory, which needs independent weights: orthogonal" in (
        capsys.readouterr().out
    )
    suffixes = (".csv", ".json", "_lost.png", "_decades.png", "_histograms.png")
    assert {p.name for p in tmp_path.iterdir()} == {f"depth_sweep{end}" for end in suffixes}
    plt.close("all")


def test_a_small_question_takes_a_part_of_the_depth_sweep(monkeypatch, tmp_path):
    from experiments.depth_sweep import figures, measured

    monkeypatch.setattr(measured, "measure", None)  # not called
    monkeypatch.setattr(figures, "histograms", lambda _: plt.figure(figsize=(1, 1)))
    config, main = experiment("depth_sweep")
    main(config(only=("histograms",), num_samples=2, out=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {
        "depth_sweep.json", "depth_sweep_histograms.png",
    }  # fmt: skip
    plt.close("all")


def test_a_network_that_overflows_in_float64_too_decides_nothing(monkeypatch):
    found = {
        "float64": {"W1": (1e-16, 1.0), "W2": (1e-15, 1e-40), "W3": (math.nan, math.nan)},
        "float32": {"W1": (1e-7, 1.0), "W2": (1.0, 0.0), "W3": (math.nan, math.nan)},
    }
    monkeypatch.setattr(equivalence, "_leaves", lambda *_: found["float64" if x64() else "float32"])
    rows = equivalence.compare("relu", "mse", "linear", 1, width=2, seed=0)
    decided = {(row["dtype"], row["leaf"]): row["decided_in"] for row in rows}
    assert decided == {
        ("float64", "W1"): "float64", ("float64", "W2"): "float64", ("float64", "W3"): "neither",
        ("float32", "W1"): "float32", ("float32", "W2"): "float64", ("float32", "W3"): "neither",
    }  # fmt: skip
    (line,) = equivalence.worst(rows)
    assert (line["float64"], line["float32"]) == ("1.0e-15", "1.0e-07")
    assert line["decided in float64"] == 1
    wrong = [*rows, rows[0] | {"difference": math.nan}]  # NaN by hand alone
    assert equivalence.worst(wrong)[0]["float64"] == "nan"


def x64():
    import jax

    return jax.config.jax_enable_x64


def test_progress_says_how_fast_it_goes_and_how_long_it_takes_still(monkeypatch, capsys):
    times = iter([100.0, 110.0])
    monkeypatch.setattr(told, "time", types.SimpleNamespace(monotonic=lambda: next(times)))
    with common.progress("networks") as report:
        report(100, 400)  # those that a store held
        report(150, 400)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "networks: 100 of 400"
    assert second == "networks: 150 of 400, 5 a second, 0:00:50 left"
