"""Tables and pages: text from outside stays text, and a page holds what it should."""

import html.parser
import json
import math
import re
import sys

import numpy as np
import pytest

from jaxmlp import report
from jaxmlp.report import explore, pages, table

HOSTILE = ("<script>alert(1)</script>", "a&b", '"quoted"', "</script><img src=x onerror=alert(1)>")


class Cells(html.parser.HTMLParser):
    """The text of every cell, and every tag, as a browser would read them."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.tags, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        self.inside = tag in ("td", "th") or (self.inside and tag not in ("tr", "table"))

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_outside_are_text_in_a_table_and_in_a_page(name):
    read = Cells(report.as_html([{name: name}], name))
    assert read.cells == [name, name]
    assert set(read.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    text = report.page(name, "", data={name: name}, provenance={name: name})
    found = Cells(text)
    assert found.tags.count("script") == 3  # the data, what reads them, the page's own
    assert "img" not in found.tags
    (data,) = re.findall(r'application/json">(.*?)</script>', text)
    assert json.loads(data) == {name: name}


def test_numbers_are_written_alike_in_text_and_html():
    rows = [{"name": "he", "x": -1234.5, "n": 3, "none": None}, {"name": "lecun", "x": math.nan,
            "n": -1, "none": None}]  # fmt: skip
    assert table.as_text(rows).splitlines() == [
        "name              x   n  none",
        "he        −1.23e+03   3",
        "lecun  not a number  −1",
    ]
    assert Cells(report.as_html(rows)).cells[4:] == ["he", "−1.23e+03", "3", "", "lecun",
                                                     "not a number", "−1", ""]  # fmt: skip
    assert report.as_html([], "empty") == "<p>empty</p>"


def test_data_of_a_page_are_json_whatever_the_numbers():
    data = {"a": np.array([1.5, math.nan, math.inf, -math.inf]), 3: (np.int64(2), True, None)}
    assert json.loads(pages.text_of(data)) == {
        "a": [1.5, None, "inf", "-inf"],
        "3": [2, True, None],
    }


def test_the_page_forbids_every_request():
    text = report.page("t", "")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:", policy)


def test_a_large_sweep_is_thinned_with_a_note_and_a_small_one_is_not(monkeypatch):
    flows = [np.arange(n, dtype=float) for n in (11, 101, 1001)]
    layers, kept, note = explore.thinned(flows)
    assert note == ""
    assert all(np.array_equal(flow, own) for flow, own in zip(flows, kept, strict=True))
    monkeypatch.setattr(explore, "MOST_POINTS", 300)
    layers, kept, note = explore.thinned(flows)
    assert sum(map(len, kept)) <= 300
    assert "1,113 layers of networks the page holds a part" in note
    for flow, own in zip(flows, kept, strict=True):
        at = layers[len(flow)]
        assert (at[0], at[-1]) == (1, len(flow))
        np.testing.assert_array_equal(own, flow[at - 1])


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch):
    explore.vega.cache_clear()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ModuleNotFoundError, match=r"^the explorer needs more: pip install 'jaxmlp"):
        report.explorer([{"depth": 1, "log10_change": 0.0, "verdict": "healthy"}], [np.zeros(2)])
    explore.vega.cache_clear()
