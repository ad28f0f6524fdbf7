"""The pages that experiments write, and the report that gathers what they left."""

import dataclasses
import json

import numpy as np
import pytest

import jaxmlp
from experiments import common, report
from experiments.chain_rule import html, lecture, networks
from experiments.trainability import measured
from experiments.trainability.options import Config as Maps


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    """What two runs left, one of them with a name that is no text."""

    @dataclasses.dataclass(frozen=True)
    class Other(common.Options):
        pass

    monkeypatch.setattr("sys.argv", ["experiment"])
    with common.Results("neuron", Other(out=tmp_path)) as results:
        results.csv([{"activation": "<script>", "size": -1.5, "formula": "-Y / A"}] * 150)
        with results.path(".html") as path:
            path.write_text("a page")
    (tmp_path / "strange.json").write_text(json.dumps({"files": ["../secret.csv", 3]}))
    (tmp_path / "broken.json").write_text("{")
    return tmp_path


def test_the_report_gathers_tables_links_and_what_made_them(folder, capsys):
    report.main(report.Config(out=folder))
    text = (folder / "report.html").read_text()
    assert '<a href="#neuron">neuron</a>' in text
    assert '<a href="neuron.html">neuron.html</a>' in text
    assert "What can one neuron learn" in text or "neuron" in text
    assert text.count("<td>&lt;script&gt;</td>") == report.MOST_ROWS
    assert '<td class="number">−1.5</td>' in text
    assert "<td>-Y / A</td>" in text
    assert "100 of 150 rows." in text
    assert "secret" not in text
    assert "<dt>command</dt>" in text


def test_the_report_shows_vector_figures_and_links_pdfs(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["experiment"])
    files = {"fake.svg": "<svg/>", "fake_large.pdf": "%PDF"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "fake.json").write_text(json.dumps({"files": [*files], "state": "finished"}))
    report.main(report.Config(out=tmp_path))
    text = (tmp_path / "report.html").read_text()
    assert 'alt="Figure fake" src="data:image/svg+xml;base64,PHN2Zy8+"' in text
    assert 'A figure: <a href="fake_large.pdf">' in text


def test_an_empty_folder_is_a_page_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["experiment"])
    report.main(report.Config(out=tmp_path))
    assert "There are no results yet." in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("way", "sentence"),
    [
        ({"m": 2}, "the page shows one sample"),
        ({"hidden": "gelu"}, "the page knows hidden relu, sigmoid, tanh, linear; output softmax"),
        ({"loss": "norm", "output": "linear"}, "the page knows hidden"),
        ({"sizes": (2, 9, 3)}, "too large for the page: at most 8 units"),
    ],
)
def test_a_page_refuses_networks_that_its_script_does_not_know(way, sentence):
    way = {"m": 1, "loss": "cross_entropy", "sizes": (2, 4, 3)} | way
    X, sizes, loss = np.zeros((way.pop("m"), 2)), way.pop("sizes"), way.pop("loss")
    J = jaxmlp.Objective(jaxmlp.MLP(sizes, **way), loss)
    with pytest.raises(ValueError, match=sentence):
        html.described(networks.Problem(J, None, X, None, [], [], []))


def test_a_page_holds_the_gradient_of_trace_and_jax():
    p = lecture.chain_of("W11").p
    told = html.described(p)
    for l, (W, dW) in enumerate(zip(told["auto"], told["trace"], strict=True)):
        assert W.shape == dW.shape == (told["sizes"][l], told["sizes"][l + 1])


# --- trainability ---------------------------------------------------------------------------------


def column(accuracies, kind="tanh", w2=1.0, depths=(5, 10, 20, 40, 60)):
    return [{"map": kind, "sigma_w2": w2, "depth": d, "accuracy": a}
            for d, a in zip(depths, accuracies, strict=False)]  # fmt: skip


def test_half_accuracy_is_interpolated_between_depths():
    assert measured.half_depth(column((0.9, 0.7, 0.3, 0.1))) == 15
    assert measured.half_depth(column((0.9, 0.4, 0.8, 0.2))) == 30  # the last time
    assert measured.half_depth(column((0.9, 0.9))) == float("inf")
    assert measured.half_depth(column((0.4, 0.1))) == 0


def test_claims_are_judged_by_the_numbers_and_left_out_of_other_grids():
    w2s = (1.0, 1.25, 1.5, 1.76, 2.0, 2.5, 3.0, 3.5, 4.0)
    config = Maps(sigma_w2s=w2s, depths=(5, 10, 20, 40, 60))
    good = [
        row
        for w2 in w2s
        for row in column(
            [0.9 if d < 6 * measured.xi_c("tanh", w2) else 0.1 for d in config.depths], w2=w2
        )
    ]
    held = measured.claims(good, measured.scales(config, good))
    assert [row["holds"] for row in held if row["what"].startswith("accuracy")] == ["True"] * 3
    bad = [{**row, "accuracy": 0.9 if row["sigma_w2"] == 4 else 0.1} for row in good]
    worse = measured.claims(bad, measured.scales(config, bad))
    assert [row["holds"] for row in worse if row["what"].startswith("accuracy")] == [
        "False", "True", "False"]  # fmt: skip
    few = [row for row in good if row["sigma_w2"] != 3.5]
    assert measured.claims(few, measured.scales(Maps(sigma_w2s=w2s[:7]), few)) == []
