"""Results print as short tables, as text and in a notebook, and never raise."""

import jax
import numpy as np
import pytest

import jaxmlp
from jaxmlp import report
from jaxmlp.backprop import LayerTrace
from jaxmlp.flow_report import FlowStatus
from jaxmlp.meanfield import Prediction

rng = np.random.default_rng(0)
L = 30


def falling(rows=L):
    """log10 of a gradient that vanishes."""
    return np.sort(rng.normal(size=rows) * 5).astype(np.float32)


# One of each kind, made of arrays: nothing is compiled
STREAM = falling()
RESULTS = {
    "flow": jaxmlp.GradientFlow(
        STREAM, falling(), falling(), *np.float32(rng.random((4, L))), np.zeros(L, np.int8), STREAM
    ),
    "trace": LayerTrace(
        *np.float32(rng.normal(size=(5, 7, 4))), np.ones((4, 4)), None, S=np.zeros((7, 4))
    ),
    "history": jaxmlp.History(rng.random(40), rng.random(40), record=np.zeros((2, 3, 4), "f4")),
    "prediction": Prediction(*rng.random((7, L))),
    "dataset": jaxmlp.datasets.spiral(),
}

LINES = {
    "flow": ["layer", "log10 dZ", "log10 dW", "saturated", "dead", "status"],
    "trace": ["name", "kind", "shape", "smallest", "largest", "rms"],
    "history": ["epoch", "loss", "accuracy"],
    "prediction": ["layer", "q", "chi_1", "correlation", "log10_stream", "mean", "sd"],
    "dataset": ["class", "samples"],
}


@pytest.mark.parametrize("kind", LINES)
def test_a_result_is_a_short_table_in_text_and_in_a_notebook(kind):
    result = RESULTS[kind]
    text, page = repr(result), result._repr_html_()
    assert str(result) == text
    assert len(text) < 1500
    assert max(map(len, text.splitlines())) <= 90
    heads = [line.split("  ") for line in text.splitlines()]
    assert LINES[kind] in [[word.strip() for word in line if word.strip()] for line in heads]
    assert [part.split("</th>")[0] for part in page.split('<th scope="col">')[1:]] == LINES[kind]
    assert 1 < page.count("<tr>") <= 2 + report.SHOWN


def test_the_numbers_are_those_of_the_arrays():
    flow, trace, history = (RESULTS[kind] for kind in ("flow", "trace", "history"))
    for line in repr(flow).splitlines()[1:13]:
        number, dZ, dW, *_ = line.replace("\N{MINUS SIGN}", "-").split()
        assert float(dZ) == pytest.approx(flow.log10_delta[int(number) - 1], abs=6e-3)
        assert float(dW) == pytest.approx(flow.log10_grad_W[int(number) - 1], abs=6e-3)
    (row,) = [row for row in report.arrays(trace._asdict()) if row["name"] == "dZ"]
    dZ = np.asarray(trace.dZ, float)
    assert (row["smallest"], row["largest"]) == (dZ.min(), dZ.max())
    assert row["rms"] == pytest.approx(np.sqrt((dZ**2).mean()))
    *_, last, _, record = repr(history).splitlines()
    assert last.split() == ["40", f"{history.loss[-1]:.3g}", f"{history.accuracy[-1]:.3g}"]
    assert record == "record: float32[2, 3, 4]"


def test_the_rms_of_what_is_extreme_is_in_range():
    for size in (1e-30, 1e30):
        (row,) = report.arrays({"x": np.full((2, 3), size, np.float64) * [1, -1, 1]})
        assert row["rms"] == pytest.approx(size)
    huge = report.arrays({"x": np.array([np.inf, 1.0]), "none": np.zeros((0, 2)), "skip": None})
    assert [row["name"] for row in huge] == ["x", "none"]


def test_a_stream_is_called_one_and_a_zero_says_why():
    status = np.full(L, FlowStatus.RESIDUAL_GATE_ZERO, np.int8)
    text = repr(RESULTS["flow"]._replace(log10_delta=np.full(L, -np.inf), status=status))
    assert "log10 dS" in text
    assert "residual gate zero" in text


def test_of_several_networks_a_history_is_by_network():
    history = jaxmlp.History(rng.random((3, 2)), rng.random((3, 2)), diverged=np.zeros(3, bool))
    line, head, *rows = repr(history).splitlines()
    assert line == "History of 3 networks, where each is after 2 epochs"
    assert head.split() == ["network", "loss", "accuracy", "diverged"]
    assert rows[2].split()[:2] == ["3", f"{history.loss[2, -1]:.3g}"]


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize(
    "way",
    {
        "batched": lambda result: jax.tree.map(lambda x: np.stack([x, x]), result),
        "shapes": lambda result: jax.tree.map(np.shape, result),
        "objects": lambda result: jax.tree.map(lambda x: object(), result),
        "of nothing": lambda result: jax.tree.map(lambda x: np.zeros(0), result),
        "specs": lambda result: jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(np.shape(x), np.float32), result
        ),
    }.items(),
    ids=lambda way: way[0],
)
def test_no_repr_raises_whatever_the_fields_hold(kind, way):
    result = RESULTS[kind]
    if kind == "dataset":
        result = result._replace(**dict.fromkeys(("feature_names", "class_names"), ()))
    changed = way[1](result)
    assert type(result).__name__ in repr(changed) or "layer" in repr(changed)
    assert changed._repr_html_()


@pytest.mark.parametrize("kind", ["flow", "trace"])
def test_a_result_prints_under_a_trace(kind):
    told = []

    def look(result):
        told.append(repr(result) + result._repr_html_())
        return result

    jax.make_jaxpr(look)(RESULTS[kind])
    assert "float32" in told[0]


def test_an_array_whose_buffer_is_gone_prints_too():
    flow = jax.tree.map(jax.numpy.array, RESULTS["flow"])
    flow.log10_stream.delete()
    assert repr(flow).startswith("GradientFlow(9 fields)")
