"""The clickable chain rule: the network, its numbers and their proof as one page."""

from pathlib import Path
from typing import Any

import numpy as np

import jaxmlp
from experiments.chain_rule.networks import Problem
from experiments.chain_rule.paths import autodiff
from jaxmlp.report import page

# What the page's own script knows
HIDDEN = ("relu", "sigmoid", "tanh", "linear")
ENDS = (
    ("softmax", "cross_entropy"), ("sigmoid", "sse"), ("sigmoid", "mse"),
    ("sigmoid", "half_squared_error"), ("sigmoid", "binary_cross_entropy"), ("linear", "sse"),
    ("linear", "mse"), ("linear", "half_squared_error"),
)  # fmt: skip
MOST_UNITS, MOST_LAYERS = 8, 4

BODY = """
<div class="controls" role="tablist" aria-label="Networks" id="tabs"></div>
<p class="note" id="net"></p>
<div class="charts">
<figure class="graph"><svg id="graph" role="group" aria-label="The network: every weight and every
unit is a button"></svg>
<figcaption>Line: width |W|, dashed where W &lt; 0; orange where dE/dW &gt; 0, blue where it is
below. Circle: the activation over dE/dZ, grey where the activation is 0. Click a weight or a unit,
or go there with the Tab key and press Enter.</figcaption></figure>
<section id="detail" aria-live="polite"></section>
</div>
<h2>Move an input or a weight</h2>
<div class="controls" id="sliders"></div>
<h2>The backward pass, line by line</h2>
<div class="controls"><button type="button" id="back">back</button>
<button type="button" id="next">next</button><span id="at"></span></div>
<div id="line" aria-live="polite"></div>
"""


def chain_rule_page(problems: dict[str, Problem], weight: str, provenance: dict[str, Any]) -> str:
    """Return the page. problems: its tabs by name. weight: the one that is lit at first."""
    data = {
        "networks": [{"name": name, **described(p)} for name, p in problems.items()],
        "weight": weight,
    }
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    return page("The chain rule", BODY, scripts=[script], data=data, provenance=provenance)


def described(p: Problem) -> dict[str, Any]:
    """Return the network, its sample, and the results of `jaxmlp.trace` and `jax.grad`."""
    mlp, loss = p.J.mlp, p.J.loss.name
    hidden = mlp.hidden[0].name if mlp.hidden else "linear"
    _refuse(p, hidden, mlp.output.name, loss)
    layers = jaxmlp.layers(p.params)
    auto = jaxmlp.layers(autodiff(p.J)(p.params, p.X, p.Y))
    biases = [None if layer.b is None else np.asarray(layer.b) for layer in layers]
    return {
        "title": str(p), "sizes": mlp.sizes, "hidden": hidden, "output": mlp.output.name,
        "loss": loss, "x": np.asarray(p.X)[0], "y": np.asarray(p.Y)[0], "W": p.W, "b": biases,
        "trace": [step.dW for step in p.steps], "auto": [np.asarray(layer.W) for layer in auto],
    }  # fmt: skip


def _refuse(p: Problem, hidden: str, output: str, loss: str) -> None:
    sizes, names = p.J.mlp.sizes, {act.name for act in p.J.mlp.hidden}
    if len(p.X) != 1:
        raise ValueError("the page shows one sample: give --sample its index")
    if hidden not in HIDDEN or len(names) > 1 or (output, loss) not in ENDS:
        ends = ", ".join(" with ".join(pair) for pair in ENDS)
        raise ValueError(f"the page knows hidden {', '.join(HIDDEN)}; output {ends}")
    if max(sizes) > MOST_UNITS or len(sizes) > MOST_LAYERS + 1:
        raise ValueError(
            f"a network {sizes} is too large for the page: at most {MOST_UNITS} units in a layer "
            f"and {MOST_LAYERS} layers"
        )
