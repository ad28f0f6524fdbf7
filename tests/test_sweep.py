"""depth_sweep: its networks are those of MLP, its numbers those of gradient_flow."""

import csv
import functools
import logging
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import jaxmlp
from jaxmlp.flow import FlowStatus, GradientFlow
from jaxmlp.initializers import gaussian
from jaxmlp.sweep import SweepTable, engine, plan, verdict, workers
from jaxmlp.sweep.table import MOST_NETWORKS

(DIGITS,) = jaxmlp.datasets.standardize(jaxmlp.datasets.digits())
DATA = {"X": DIGITS.X[:32], "Y": DIGITS.Y[:32]}
K = int(DATA["Y"].max()) + 1


def sweep(**options):
    grid = {"activations": ("tanh",), "inits": ("lecun",), "depths": (1, 4), "width": 12}
    return jaxmlp.depth_sweep(**(grid | DATA | options))


@functools.cache  # each sweep is compiled anew
def tanh_sweep():
    return sweep(seeds=(0, 1, 2))


PROGRAMS = "backward", "draw_layers", "draw_output", "forward"
INITS = {"glorot": "glorot", "orthogonal": "orthogonal", "gaussian": gaussian(1.5, 0.1)}


@functools.cache  # drawing is compiled for each initialisation and depth
def drawn(init, depth, seed):
    return jaxmlp.MLP((64, *[12] * depth, K), hidden="prelu").init(jax.random.key(seed), init)


def test_every_record_is_that_of_gradient_flow_on_the_network_it_names():
    inits, acts = tuple(INITS.values()), ("relu", "prelu")
    table = sweep(activations=acts, inits=inits, depths=(1, 34), seeds=(0, 7))
    assert len(table.summary()) == 24
    for row in table.summary():
        init = next(i for i in inits if getattr(i, "name", i) == row["init"])
        mlp = jaxmlp.MLP((64, *[12] * row["depth"], K), hidden=row["activation"])
        params = drawn(init, row["depth"], row["seed"])
        if row["activation"] == "relu":
            params = tuple(layer._replace(slope=None) for layer in params)
        flow = jaxmlp.gradient_flow(jaxmlp.Objective(mlp, "cross_entropy"))(params, **DATA)
        names = ("activation", "init", "depth", "seed")
        own = table.select(**{name: row[name] for name in names}).columns()
        for field in GradientFlow._fields:
            np.testing.assert_allclose(own[field], getattr(flow, field), atol=2e-5, rtol=0)


def test_several_widths_are_several_networks_and_one_value_is_a_list_of_one():
    table = sweep(activations="tanh", inits="he", depths=2, seeds=[1], width=(6, 9))
    assert sorted({row["width"] for row in table.records()}) == [6, 9]
    assert [row["seed"] for row in table.summary()] == [1, 1]


def test_records_columns_and_csv_hold_the_same(tmp_path):
    table = tanh_sweep()
    records, columns = table.records(), table.columns()
    assert len(records) == 3 * (2 + 5)
    assert [row["layer"] for row in records[:2]] == [1, 2]
    assert [row["distance"] for row in records[:2]] == [1, 0]
    for i, row in enumerate(records):
        np.testing.assert_equal(row, {name: column[i] for name, column in columns.items()})
    with table.to_csv(tmp_path / "sweep.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [float(row["log10_delta"]) for row in read] == pytest.approx(columns["log10_delta"])


def test_the_summary_measures_from_the_last_hidden_layer_to_the_first():
    table = tanh_sweep().select(depth=4, seed=0)
    delta = table.columns()["log10_delta"]
    (row,) = table.summary()
    assert row["log10_change"] == pytest.approx(delta[0] - delta[3], abs=1e-6)
    assert row["factor_per_layer"] == pytest.approx(10 ** ((delta[0] - delta[3]) / 3), rel=1e-4)


def test_over_seeds_the_summary_is_the_median():
    table = tanh_sweep().select(depth=4)
    (row,) = table.summary(over_seeds=True)
    each = [r["log10_first"] for r in table.summary()]
    assert row["log10_first"] == pytest.approx(np.median(each))
    assert "seed" not in row


@pytest.mark.parametrize(
    ("change", "steps", "expected"),
    [(-2.1, 2, "vanishing"), (-1.9, 2, "healthy"), (1.9, 2, "healthy"), (2.1, 2, "exploding"),
     (-4.3, 999, "healthy"), (-14, 999, "vanishing"), (18.7, 999, "exploding"), (0.0, 0, "healthy"),
     (-np.inf, 9, "vanishing"), (np.nan, 9, "not finite"), (np.inf, 9, "not finite")],
)  # fmt: skip
def test_verdicts_are_by_the_factor_a_layer_of_what_changes_by_two_decades(change, steps, expected):
    assert verdict(change, steps) == expected


def test_over_seeds_the_summary_says_how_the_networks_differ():
    table = tanh_sweep().select(depth=4)
    (row,) = table.summary(over_seeds=True)
    changes = [r["log10_change"] for r in table.summary()]
    assert row["networks"] == 3
    assert row["change_sd"] == pytest.approx(np.std(changes, ddof=1))
    assert (row["change_q25"], row["change_q75"]) == pytest.approx(
        np.quantile(changes, (0.25, 0.75))
    )
    assert np.isnan(table.select(seed=1).summary(over_seeds=True)[0]["change_sd"])


def test_a_sum_of_tables_holds_the_networks_of_both_and_none_twice():
    table = tanh_sweep()
    parts = table.select(seed=2), table.select(seed=[0, 1])
    both = parts[0] + parts[1]
    assert len(both) == len(table) == 21 == len(table.records())
    assert both.select(depth=4, seed=[0, 1]).summary() == table.select(depth=4).summary()[:2]
    with pytest.raises(ValueError, match=r"both tables hold the network .*'seed': 1"):
        both + table.select(seed=1, layer=1)
    with pytest.raises(ValueError, match="different columns: z in one only"):
        SweepTable(table.columns() | {"z": np.zeros(21)}) + table


def test_theory_stands_beside_each_layer_of_a_matched_problem():
    X, grid = DATA["X"][:1], {"inits": ("lecun", "orthogonal"), "depths": (1, 4), "theory": True}
    table = sweep(X=X, Y=np.zeros((1, 1)), loss="half_squared_error", seeds=(0, 1), **grid)
    of = jaxmlp.meanfield.predict("tanh", 1.0, 0.0, 4, float((X**2).mean()), width=12)
    own = table.select(init="lecun", depth=4, seed=1).columns()
    np.testing.assert_allclose(own["predicted"], of.mean, rtol=1e-6)
    np.testing.assert_allclose(own["sd"], of.sd, rtol=1e-6)
    off = own["log10_stream"] - own["log10_stream"][-1] - of.mean
    np.testing.assert_allclose(own["z"][:-1], off[:-1] / of.sd[:-1], rtol=1e-4)
    assert own["z"][-1] == 0
    assert np.isnan(table.select(init="orthogonal").columns()["predicted"]).all()
    lecun, orthogonal = table.select(depth=4).summary(over_seeds=True)
    assert lecun["predicted"] == pytest.approx(of.mean[0] - of.mean[3])
    error = np.sqrt((of.sd[0] ** 2 - of.sd[3] ** 2) / 2)  # of the mean of two
    assert lecun["z"] == pytest.approx((lecun["log10_change"] - lecun["predicted"]) / error)
    assert lecun["verdict"] == "healthy, as predicted for width 12"
    assert orthogonal["verdict"] == "healthy"
    with pytest.raises(ValueError, match="got 32 samples and 10 outputs"):
        sweep(theory=True)


def test_a_number_of_seeds_is_no_seed():
    with pytest.raises(TypeError, match=r"seeds must be a sequence of seeds, got 100.*num_seeds"):
        sweep(seeds=100)


def test_select_takes_lists_and_refuses_what_does_not_occur():
    table = tanh_sweep()
    both = table.select(depth=4, seed=[0, 2])
    assert [row["seed"] for row in both.summary()] == [0, 2]
    assert len(both.columns()["layer"]) == 10
    with pytest.raises(ValueError, match="no row has depth = 5; it holds 1, 4"):
        table.select(depth=5)
    with pytest.raises(ValueError, match="no row has seed = 9"):
        table.select(seed=[0, 9])


@pytest.mark.parametrize("layer", [1, 3, (1, 2)])
def test_networks_that_lack_layers_are_incomplete(layer):
    part = tanh_sweep().select(depth=4, layer=layer)
    rows = part.summary()
    assert [row["verdict"] for row in rows] == ["incomplete"] * 3
    assert np.isnan([row["log10_change"] for row in rows]).all()
    assert "incomplete" in part._repr_html_()
    assert repr(part).startswith("SweepTable: 3 networks")


def test_a_network_that_leaves_the_range_does_not_vanish():
    table = sweep(activations=("squared_relu",), inits=(gaussian(8.0),), depths=(12,))
    (row,) = table.summary()
    assert row["verdict"] == "not finite"
    assert (table.columns()["status"] == FlowStatus.NOT_FINITE).any()


def test_the_number_of_classes_does_not_depend_on_the_batch():
    few = sweep(num_classes=10, Y=0 * DATA["Y"], seeds=(0,))
    assert np.isfinite(few.columns()["log10_delta"]).all()


def test_a_cell_that_a_spreadsheet_would_run_is_quoted(tmp_path):
    named = jaxmlp.Activation("=1+1", jax.numpy.tanh, lambda Z, A: 1 - A**2)
    text = sweep(activations=(named,)).to_csv(tmp_path / "sweep.csv").read_text()
    assert "'=1+1" in text
    assert float(text.splitlines()[1].split(",")[7]) < 0  # a negative number stays one


def test_initialisers_made_by_one_factory_are_two_networks():
    made = [jax.nn.initializers.he_normal(), jax.nn.initializers.lecun_normal()]
    one, other = sweep(inits=made, depths=(4,)).summary()
    assert one["init"] != other["init"]
    assert one["log10_change"] != other["log10_change"]


def test_html_and_repr_are_readable():
    table = tanh_sweep()
    assert "<td>tanh</td>" in table._repr_html_()
    assert repr(table) == "SweepTable: 6 networks, 21 rows"
    assert len(table._repr_html_().split("<tr>")) == 2 + 6


def test_a_notebook_shows_the_first_networks_of_many():
    columns = {name: np.tile(x, 10) for name, x in tanh_sweep().columns().items()}
    columns["seed"] = np.repeat(np.arange(10), 21) + 10 * columns["seed"]
    page = SweepTable(columns)._repr_html_()
    assert len(page.split("<tr>")) == 2 + MOST_NETWORKS
    assert "SweepTable: 60 networks, 210 rows, the first 20 networks" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (0,)}, "depth must be at least 1, got 0"),
        ({"activations": ["tanh", "tanh"]}, "activations must have different names, but 'tanh'"),
        ({"inits": ["he", jaxmlp.initializers.get("he")]}, "inits must have different names"),
        ({"activations": []}, "activations must name at least one"),
        ({"inits": []}, "inits must name at least one"),
        ({"seeds": (0,), "num_seeds": 2}, "seeds or num_seeds, not both"),
        ({"num_classes": 1}, "num_classes must be at least 2"),
        ({"num_classes": 3}, "label . at index ., but the model has 3 classes"),
        ({"Y": 0 * DATA["Y"]}, "all labels are 0, which is one class: give num_classes="),
        ({"Y": DATA["X"][:, :2], "loss": "mse", "num_classes": 2}, "num_classes is for labels"),
        ({"depths": ()}, "depths must be one or more different numbers"),
        ({"seeds": (2**32,)}, "seed must lie in"),
        ({"width": 0}, "width must be at least 1"),
        ({"activations": ("rleu",)}, "did you mean 'relu'"),
        ({"inits": ("hee",)}, "did you mean 'he'"),
        ({"loss": "mesa"}, "unknown loss"),
        ({"X": DIGITS.X[:31]}, "X has 31 samples but Y has 32"),
    ],
)
def test_bad_grids_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sweep(**options)


def test_regression_targets_work_too():
    table = sweep(Y=DATA["X"][:, :2], loss="mse")
    assert np.isfinite(table.columns()["log10_delta"]).all()


# --- remedies, executors, stores ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("residuals", "norm"),
    [(("rezero", 0.5), None), (("rezero", "1/sqrt(depth)"), "rms")],
)
def test_rows_of_networks_with_remedies_are_those_of_gradient_flow(residuals, norm):
    table = sweep(inits=("he",), depths=(1, 5), residuals=residuals, norms=norm)
    assert len(table.summary()) == 2 * len(residuals)
    for row in table.select(depth=5).summary():
        remedy = {name: row[name] for name in ("residual", "norm")}
        mlp = jaxmlp.MLP((64, *[12] * 5, K), hidden="tanh", stack_from=2, **remedy)
        flow = jaxmlp.gradient_flow(jaxmlp.Objective(mlp, "cross_entropy"))
        flow = flow(mlp.init(jax.random.key(0), "he"), **DATA)
        own = table.select(depth=5, **remedy).columns()
        for field in GradientFlow._fields:
            np.testing.assert_allclose(own[field], getattr(flow, field), atol=2e-5, rtol=0)
        change = flow.log10_stream[0] - flow.log10_stream[-2]
        assert row["log10_change"] == pytest.approx(float(change), abs=4e-5)


def assert_same_bits(one, other):
    one, other = one.columns(), other.columns()
    assert list(one) == list(other)
    for name, column in one.items():
        np.testing.assert_array_equal(column, other[name], err_msg=name)
        assert column.dtype == other[name].dtype


GRID = {"activations": ("tanh", "relu"), "depths": (1, 4), "seeds": (0, 1)}


@functools.cache
def two_activations():
    return sweep(**GRID)


def test_the_table_has_the_same_bits_from_one_thread_and_from_a_store_filled_in_parts(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        assert_same_bits(two_activations(), sweep(**GRID, executor=pool))
    store, done = tmp_path / "sweep.db", []
    sweep(**(GRID | {"depths": 4, "seeds": (1,)}), store=store)
    sweep(**(GRID | {"depths": 1}), store=store)
    with pytest.raises(KeyboardInterrupt):
        sweep(**GRID, store=store, progress=interrupt_at(7))
    table = sweep(**GRID, store=store, progress=lambda *at: done.append(at))
    assert_same_bits(two_activations(), table)
    assert done[0][0] >= 6  # what the store had
    again = sweep(**GRID, store=store, progress=lambda *at: done.append(at))
    assert done[-1] == (8, 8)
    assert_same_bits(two_activations(), pickle.loads(pickle.dumps(again)))
    # Read without the grid: sorted by names, or some of them
    read = jaxmlp.SweepTable.from_store(store, activation="relu", depth=[1, 4])
    assert_same_bits(two_activations().select(activation="relu", seed=0), read.select(seed=0))


def interrupt_at(number):
    def progress(done, total):
        if done >= number:
            raise KeyboardInterrupt

    return progress


def test_rows_do_not_depend_on_which_activations_are_swept_together():
    alone = sweep(**(GRID | {"activations": "relu"}))
    assert_same_bits(two_activations().select(activation="relu"), alone)


def test_a_network_is_measured_again_if_the_data_or_the_engine_are_others(tmp_path, monkeypatch):
    store = tmp_path / "sweep.db"

    def measured(**options):
        told = []
        sweep(**options, depths=1, store=store, progress=lambda *at: told.append(at))
        return SweepTable.from_store(store)

    measured()
    assert len(measured().summary()) == 1
    table = measured(X=DATA["X"] * 2)
    assert len({row["data"] for row in table.summary()}) == 2
    monkeypatch.setattr(engine, "VERSION", engine.VERSION + 1)
    table = measured()
    assert len(table.summary()) == 3
    assert {row["engine"] for row in table.summary()} == {engine.VERSION - 1, engine.VERSION}


def test_what_a_store_does_not_hold_is_said(tmp_path):
    store = tmp_path / "sweep.db"
    with pytest.raises(ValueError, match="there is no store"):
        SweepTable.from_store(store)
    sweep(depths=1, store=store)
    with pytest.raises(ValueError, match="has depth = 9"):
        SweepTable.from_store(store, depth=9)
    with pytest.raises(ValueError, match="unknown column 'dept'; did you mean 'depth'"):
        SweepTable.from_store(store, dept=1)


def test_functions_of_ones_own_stay_in_this_process(tmp_path):
    own = jaxmlp.Activation("own", jax.numpy.tanh, lambda Z, A: 1 - A**2)
    with pytest.raises(ValueError, match="activation 'own' is one's own: a store takes"):
        sweep(activations=own, store=tmp_path / "sweep.db")
    with pytest.raises(ValueError, match="is one's own: an executor of processes"):
        sweep(inits=jax.nn.initializers.he_normal(), executor=workers(1))
    assert not list(tmp_path.iterdir())


def test_parquet_without_a_library_for_it_is_a_sentence(monkeypatch, tmp_path):
    for name in ("polars", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match="to_parquet needs polars or pyarrow"):
        tanh_sweep().to_parquet(tmp_path / "sweep.parquet")


def test_a_plan_says_what_would_be_measured():
    network = jaxmlp.MLP((64, 12, 12, K))
    found = plan(activations="tanh", inits=("he", "lecun"), depths=2, width=12, **DATA)
    assert (found.networks, found.jobs, found.held) == (2, 2, 0)
    assert found.parameters == 2 * network.num_parameters


# --- last, because it forgets what the others compiled --------------------------------------------


@pytest.fixture
def every_compilation(caplog):
    """Have every compilation told, in every thread."""
    jax.config.update("jax_log_compiles", True)
    with caplog.at_level(logging.WARNING):
        yield caplog
    jax.config.update("jax_log_compiles", False)


def test_the_compilations_do_not_depend_on_depths_inits_or_seeds(every_compilation):
    def compilations(**grid):
        every_compilation.clear()
        sweep(**grid)
        told = [record.getMessage() for record in every_compilation.records]
        return sorted(line.split()[1] for line in told if line.startswith("Compiling"))

    tanh_sweep()  # what does not depend on the width is compiled
    few = compilations(width=7, inits=("he",), depths=(40,), seeds=(0,))
    many = compilations(
        width=9, inits=("lecun", "he", "glorot"), depths=(1, 2, 5, 40), seeds=(1, 2, 3)
    )
    assert many == few == [f"jit({name})" for name in PROGRAMS]
