"""The pages in a real browser: `pytest -m browser`; a Chromium and playwright are needed."""

import contextlib
import csv
import json
import math
import re
import shutil

import jax
import numpy as np
import pytest

import jaxmlp
from experiments.chain_rule import html, lecture, networks, paths
from experiments.chain_rule.options import Config
from jaxmlp import report

pytestmark = pytest.mark.browser
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


class Seen:
    """A page, and all that it asked for and complained of."""

    def __init__(self, page, path):
        self.page, self.path, self.requests, self.said = page, path, [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        self.open("")

    def open(self, fragment):
        self.page.goto("about:blank")
        self.page.goto(f"file://{self.path}{fragment}")
        self.drawn()

    def drawn(self):
        self.page.wait_for_function("document.documentElement.dataset.drawn")

    def wait(self):
        """Until what was changed is drawn."""
        self.page.wait_for_timeout(150)

    def fragment(self):
        return self.page.evaluate("location.hash")

    def in_peace(self):
        outside = [url for url in self.requests if not url.startswith(("file:", "about:", "data:"))]
        return outside == [] and self.said == []


@contextlib.contextmanager
def opened(browser, path):
    """The page at the size of a projector."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    yield Seen(page, path)
    page.close()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if not CHROMIUM:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


# --- the chain rule -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problems():
    with jax.enable_x64(True):
        return {"ours": paths.chain(networks.problem(Config()), "W1[0,0]"),
                "lecture": lecture.chain_of("W11")}  # fmt: skip


@pytest.fixture(scope="module")
def chain_page(written, problems):
    with jax.enable_x64(True):
        text = html.chain_rule_page(
            {name: chain.p for name, chain in problems.items()}, "W1[0,0]", {"command": "a test"}
        )
    (written / "chain.html").write_text(text, encoding="utf-8")
    return written / "chain.html"


@pytest.fixture
def chain(browser, chain_page):
    with opened(browser, chain_page) as seen:
        yield seen


def value(seen, identity):
    return float(seen.page.get_attribute(f"#{identity}", "data-value"))


def lit(seen):
    found = seen.page.query_selector_all(".edge:has(.glow)")
    return sorted(edge.get_attribute("data-weight") for edge in found)


def test_a_click_on_a_weight_lights_its_paths_and_adds_them_up(chain, problems):
    for name in ("W2[3,1]", "W1[0,0]"):
        chain.page.dispatch_event(f'[data-weight="{name}"]', "click")
        with jax.enable_x64(True):
            expected = paths.chain(problems["ours"].p, name)
        assert lit(chain) == sorted(
            {name, *(f"W2[{units[1]},{units[2]}]" for units, _ in expected.paths if len(units) > 2)}
        )
        products = chain.page.eval_on_selector_all(
            "#detail tbody tr td:last-child", "cells => cells.map(cell => cell.textContent)"
        )
        assert [float(text.replace("−", "-")) for text in products] == pytest.approx(
            [path.product for path in expected.paths], rel=1e-4
        )
        for own in ("sum", "own", "trace", "auto"):
            assert value(chain, own) == pytest.approx(expected.auto, rel=1e-12)
    assert chain.in_peace()


def test_sliders_agree_with_trace_at_a_dozen_settings(chain, problems):
    rng = np.random.default_rng(0)
    for tab, name in enumerate(problems):
        p = problems[name].p
        chain.page.click(f"#tab{tab}")
        for setting in range(6):
            layer = setting % len(p.W)
            i, j = (int(rng.integers(d)) for d in p.W[layer].shape)
            weight, X, W = f"W{layer + 1}[{i},{j}]", np.array(p.X), [np.array(w) for w in p.W]
            chain.page.click("#reset") if setting else None
            chain.page.dispatch_event(f'[data-weight="{weight}"]', "click")
            W[layer][i, j], X[0, 0] = rng.uniform(-4, 4, 2)
            for slider, number in ((weight, W[layer][i, j]), ("x0", X[0, 0])):
                chain.page.eval_on_selector(
                    f'input[data-name="{slider}"]',
                    "(input, value) => { input.value = value; "
                    "input.dispatchEvent(new Event('input')); }",
                    float(number),
                )
            now = chain.page.evaluate("numbers()")
            assert now["x"][0] == pytest.approx(X[0, 0])
            assert now["W"][layer][i][j] == pytest.approx(W[layer][i, j])
            with jax.enable_x64(True):
                layers = [
                    old._replace(W=new) for old, new in zip(jaxmlp.layers(p.params), W, strict=True)
                ]
                trace = jaxmlp.trace(p.J)(tuple(layers), X, np.asarray(p.Y))
            for l, step in enumerate(trace, start=1):
                for field in ("Z", "A", "dA", "dZ"):
                    np.testing.assert_allclose(now[field][l], getattr(step, field)[0], rtol=1e-6)
                np.testing.assert_allclose(now["dW"][l], step.dW, rtol=1e-6)
            assert value(chain, "sum") == pytest.approx(float(trace[layer].dW[i, j]), rel=1e-6)
            assert chain.page.query_selector("#auto") is None  # not of this setting
    assert chain.in_peace()


def test_a_click_on_a_unit_shows_its_numbers_and_keys_do_what_clicks_do(chain, problems):
    step = problems["ours"].p.steps[0]
    chain.page.focus('[data-node="1,2"]')
    chain.page.keyboard.press("Enter")
    rows = chain.page.eval_on_selector_all(
        "#detail tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [row[1] for row in rows] == ["X W1 + b1", "relu(Z1)", "dZ2 W2^T", "dA1 * relu'(Z1)"]
    told = [float(row[2].replace("−", "-")) for row in rows]
    assert told == pytest.approx(
        [float(getattr(step, name)[0, 2]) for name in ("Z", "A", "dA", "dZ")], rel=1e-4
    )
    assert chain.page.evaluate("document.activeElement.dataset.node") == "1,2"
    assert chain.fragment() == "#node=1%2C2"


def test_the_lines_of_the_backward_pass_are_stepped_through(chain):
    symbols = []
    while True:
        symbols.append(chain.page.text_content("#line .formula").split(" = ")[0])
        if chain.page.is_disabled("#next"):
            break
        chain.page.click("#next")
    assert symbols == ["Z1", "A1", "Z2", "A2", "E", "dA2", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1",
                       "db1", "dX"]  # fmt: skip


def test_a_link_restores_the_view(chain):
    chain.page.click("#tab1")
    chain.page.dispatch_event('[data-weight="W2[1,0]"]', "click")
    chain.page.click("#next")
    link, sum_ = chain.fragment(), value(chain, "sum")
    chain.open("")
    assert value(chain, "sum") != sum_
    chain.open(link)
    assert (value(chain, "sum"), chain.page.text_content("#at")) == (sum_, "line 2 of 12")
    chain.open("#tab=9&weight=W7[0,0]&node=x&moved=x0:y;:;W1&step=-3")  # nonsense does no harm
    assert chain.in_peace()


# --- the explorer ---------------------------------------------------------------------------------

NAMES = ("tanh", "<script>alert(1)</script>")


@pytest.fixture(scope="module")
def sweep_page(written):
    rng, found, flows, bands = np.random.default_rng(0), [], [], []
    for act in NAMES:
        for init in ("lecun", "he"):
            for depth in (2, 10, 100):
                mean = -0.1 * np.arange(depth + 1.0)[::-1]
                bands.append({"activation": act, "init": init, "depth": depth, "mean": mean,
                              "low": mean - 1, "high": mean + 1})  # fmt: skip
                for seed in range(2):
                    flow = mean + 0.01 * rng.normal(size=depth + 1)
                    change = float(flow[0] - flow[-2])
                    found.append({"activation": act, "init": init, "depth": depth, "seed": seed,
                                  "log10_change": change, "verdict": "healthy"})  # fmt: skip
                    flows.append(flow)
    flows[-1][0] = -math.inf
    text = report.explorer(found, flows, bands=bands, title="a <b> sweep", provenance={"by": "us"})
    (written / "sweep.html").write_text(text, encoding="utf-8")
    return written / "sweep.html"


@pytest.fixture
def sweep(browser, sweep_page):
    with opened(browser, sweep_page) as seen:
        yield seen


def lines(seen):
    """The lines of the first chart, as they are drawn."""
    return seen.page.eval_on_selector_all(
        "#flow .mark-line path", "paths => paths.map(path => path.getAttribute('d'))"
    )


def shown(seen):
    """What the charts were given, and the table."""
    given = seen.page.evaluate(
        "[views.flow.data('lines'), views.lost.data('rows')].map(rows => "
        "rows.map(({layer, depth, y, series}) => [layer, depth, y, series]))"
    )
    return given, seen.page.text_content("#networks tbody")


def test_menus_and_the_slider_change_what_is_drawn(sweep):
    first = lines(sweep)
    assert len(first) >= 2 * 2 + 2  # activations, seeds; a line of theory for each
    sweep.page.select_option("#menu-init", "he")
    sweep.wait()
    second = lines(sweep)
    assert second != first
    sweep.page.focus("#depth")
    sweep.page.keyboard.press("ArrowRight")
    sweep.wait()
    assert lines(sweep) != second
    assert "100 hidden layers" in sweep.page.text_content("#controls")
    assert "exactly 0" in sweep.page.text_content("#said")
    sweep.page.select_option("#menu-activation", "tanh")
    sweep.wait()
    assert "exactly 0" not in sweep.page.text_content("#said")
    assert sweep.page.text_content("#count") == "6 of 24 networks are chosen by the menus."
    assert sweep.in_peace()


def test_a_link_restores_menus_slider_and_order(sweep):
    sweep.page.select_option("#menu-init", "he")
    sweep.page.focus("#depth")
    sweep.page.keyboard.press("ArrowRight")
    for _ in range(2):  # ascending, then descending
        sweep.page.click('th[data-name="log10_change"] button')
    sweep.wait()
    view, link = shown(sweep), sweep.fragment()
    sweep.open("")
    assert shown(sweep) != view
    sweep.open(link)
    assert shown(sweep) == view
    assert sweep.page.get_attribute('th[data-name="log10_change"]', "aria-sort") == "descending"


def test_names_from_outside_are_text_there_too(sweep):
    assert sweep.page.text_content("h1") == "a <b> sweep"
    options = sweep.page.eval_on_selector_all("#menu-activation option", "o => o.map(x => x.text)")
    assert options == ["all", *NAMES]
    assert NAMES[1] in sweep.page.text_content("#networks tbody")
    assert sweep.in_peace()


def test_a_page_is_small_and_drawn_within_two_seconds(sweep, sweep_page):
    assert sweep_page.stat().st_size < 2e6
    assert float(sweep.page.evaluate("document.documentElement.dataset.drawn")) < 2000


def test_both_pages_are_light_and_dark(browser, chain_page, sweep_page):
    for path in (chain_page, sweep_page):
        shades = []
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme)
            seen = Seen(page, path)
            shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.click("#theme")
            shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert seen.in_peace()
            page.close()
        light, to_dark, dark, to_light = (sum(map(int, re.findall(r"\d+", s)[:3])) for s in shades)
        assert light == to_light > 3 * 200
        assert dark == to_dark < 3 * 60


def test_ten_thousand_networks_open(browser, written):
    found = [{"activation": f"a{i % 4}", "depth": 5 * (1 + i % 3), "seed": i, "verdict": "healthy",
              "log10_change": float(-i % 7)} for i in range(10_000)]  # fmt: skip
    flows = [np.linspace(-1, 0, row["depth"] + 1) for row in found]
    (written / "large.html").write_text(report.explorer(found, flows), encoding="utf-8")
    page = browser.new_page()
    seen = Seen(page, written / "large.html")
    assert "2500 of 10000" not in page.text_content("#count")
    assert "the first 500 are listed" in page.text_content("#count")
    assert seen.in_peace()
    assert json.loads(page.text_content("#data"))["note"] == ""
    page.close()


def test_the_map_of_trainability_shows_accuracy_beside_the_flow(browser, written):
    from experiments.trainability import __main__ as trainability
    from experiments.trainability.options import Config as Trainability

    small = {"depths": (2, 3), "sigma_w2s": (1.0, 1.76), "num_seeds": 1, "width": 8}
    trainability.main(Trainability(
        maps=("tanh",), num_steps=20, num_samples=64, html=True, out=written, **small
    ))  # fmt: skip
    with open(written / "trainability.csv") as file:
        trained = [float(row["accuracy"]) for row in csv.DictReader(file)]
    with opened(browser, written / "trainability.html") as seen:
        assert seen.page.input_value("#menu-init") == "all"  # the variances side by side
        drawn = seen.page.evaluate("views.accuracy.data('rows').map(row => row.y)")
        assert sorted(drawn) == pytest.approx(sorted(trained), abs=1e-3)
        assert seen.page.is_hidden("#loss")
        assert seen.page.is_visible("#accuracy")
        assert seen.in_peace()
