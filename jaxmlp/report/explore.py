"""The page of a sweep, with menus, a slider and charts. It is one file that can be sent.

Vega-Lite draws the charts. Its scripts come with `vl-convert-python` and are put into the page, so
the page needs no network.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmlp.report.pages import page, source

MOST_POINTS = 200_000  # chosen: layers, over all networks, that a page holds; about two megabytes
FEWEST_LAYERS = 4  # chosen: the fewest layers shown of a network
MENUS = (
    "activation", "init", "remedy", "width", "loss", "objective", "optimizer", "learning_rate",
    "step",
)  # fmt: skip

BODY = """
<p id="what"></p>
<form class="controls" id="controls" aria-label="What is shown"></form>
<p id="said" role="status" class="note"></p>
<div class="charts">
<figure><div id="flow" role="img" aria-label="log10 of the gradient norm against the layer"></div>
<figcaption>Each line is a network, layer by layer; dashed with a band: mean-field theory at
birth, three standard deviations of a network of this width.</figcaption></figure>
<figure><div id="lost" role="img" aria-label="Decades lost against depth"></div>
<figcaption>Decades lost from the last to the first hidden layer; below 0 the gradient grows.
</figcaption></figure>
<figure id="learnt" hidden><div id="accuracy" role="img" aria-label="Accuracy against depth"></div>
<figcaption>Accuracy after training.</figcaption></figure>
<figure id="learnt-loss" hidden><div id="loss" role="img" aria-label="Loss against depth"></div>
<figcaption>Loss after training.</figcaption></figure>
</div>
<h2>Networks</h2>
<p class="note" id="count"></p>
<div class="scroll" tabindex="0" role="region" aria-label="Table of networks">
<table id="networks"><thead></thead><tbody></tbody></table></div>
"""


def explorer(
    networks: Sequence[Mapping[str, Any]],
    flows: Sequence[Any],
    *,
    bands: Sequence[Mapping[str, Any]] = (),
    beside: str = MENUS[0],
    title: str = "A sweep",
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Return the page.

    Args:
      networks: one dict for each network with `depth`, `log10_change`, `verdict`, some of the names
        of `MENUS`, and any other column of the table.
      flows: log10 of the norms of each network, layers 1..L.
      bands: predictions: dicts with the values of the menus, `depth`, and `mean`, `low`, `high`,
        arrays over the layers, relative to the output.
      beside: the menu whose values are shown side by side when the page opens; by default the
        first.
      provenance: what made the sweep.

    Raises:
      ModuleNotFoundError: if `vl-convert-python` is not installed.
    """
    menus = [name for name in MENUS if name in networks[0]]
    if "step" in menus:  # a training sweep, in which the loss is a number and not a name
        menus = [name for name in menus if name != "loss"]
    layers, flows, note = thinned(flows)
    data = {
        "menus": menus,
        "beside": beside,
        "networks": {name: [n.get(name) for n in networks] for name in networks[0]},
        "layers": layers,
        "flows": [np.round(np.asarray(flow, float), 3) for flow in flows],
        "bands": [],
        "note": note,
    }
    for band in bands:  # at the layers that are kept
        at = layers[len(band["mean"])] - 1
        curves = {name: np.round(np.asarray(band[name])[at], 3) for name in ("mean", "low", "high")}
        data["bands"].append({**band, **curves})
    return page(
        title, BODY, scripts=[vega(), source("explorer.js")], data=data, provenance=provenance
    )


def thinned(flows: Sequence[Any]) -> tuple[dict[int, Any], list, str]:
    """Return which layers are kept for each number of layers, the flows there, and a note."""
    lengths = sorted({len(flow) for flow in flows})
    total = sum(len(flow) for flow in flows)
    most, note = max(lengths), ""
    while sum(min(len(flow), most) for flow in flows) > MOST_POINTS and most > FEWEST_LAYERS:
        most = max(FEWEST_LAYERS, int(0.8 * most))  # chosen: a fifth fewer each time
    if most < max(lengths):
        note = (
            f"Of {total:,} layers of networks the page holds a part: at most {most} of each "
            "network, evenly spaced. The table's CSV holds all."
        )
    layers = {n: np.unique(np.round(np.linspace(1, n, min(n, most))).astype(int)) for n in lengths}
    return layers, [np.asarray(flow)[layers[len(flow)] - 1] for flow in flows], note


@functools.cache
def vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, `vegaEmbed` in the window."""
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the explorer needs more: pip install 'jaxmlp[html]'", name="vl_convert"
        ) from None
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(() => {{{bundle}}})();"  # a function, so that its names stay inside
