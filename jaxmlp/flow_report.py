"""The result of a gradient flow: numbers, a status for each layer, and a sentence of advice."""

import enum
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int8

from jaxmlp import report


class FlowStatus(enum.IntEnum):
    """Say whether a layer's numbers are magnitudes, or why they are not."""

    OK = 0
    GATES_CLOSED = 1
    """act' is 0 for every unit and sample. If it is so in this layer or one above, dZ is exactly
    zero; if in the layer below, dW is"""
    LOSS_GRADIENT_ZERO = 2
    """the derivative of the loss is exactly zero for every sample"""
    FORWARD_BELOW_RANGE = 3
    """the layer's input A[l-1] or its output A[l] is all 0 in this precision"""
    NOT_FINITE = 4
    """NaN or infinity on the way forward or back"""
    FORWARD_ABOVE_RANGE = 5
    """the samples of a layer do not fit one exponent. Every layer then has this status, and all
    magnitudes are NaN"""
    RESIDUAL_GATE_ZERO = 6
    """alpha is 0: dZ is exactly zero, but the stream's derivative dS is not"""
    WEIGHTS_ZERO = 7
    """the weights of a layer above are all 0: dZ is exactly zero"""


class GradientFlow(NamedTuple):
    """Hold the magnitudes of every layer as log10, layer 1 first; -inf for an exact zero.

    log10_delta: of the norm of each sample's own `dZ[l]`, root mean square over the samples.
    log10_grad_W, log10_grad_b: of the Frobenius norm of the gradient of the mean loss. The second
    is NaN without biases.
    log10_activation: of the norm of `A[l]`, root mean square over the samples.
    correlation: the mean cosine between `S[l]` (Z[l] in a plain network) of two samples, over all
    pairs; NaN unless two samples are not zero.
    saturated: the share of (sample, unit) with |act'| at most 1% of its largest; NaN for softmax.
    dead: the share of units with act' = 0 on all samples; NaN for softmax.
    status: a `FlowStatus` for each layer.
    log10_stream: like log10_delta, of `dS[l]`; the same if the layer has no residual.
    correlation, saturated and dead are NaN if they were not asked for.
    """

    log10_delta: Float[Array, " L"]
    log10_grad_W: Float[Array, " L"]
    log10_grad_b: Float[Array, " L"]
    log10_activation: Float[Array, " L"]
    correlation: Float[Array, " L"]
    saturated: Float[Array, " L"]
    dead: Float[Array, " L"]
    status: Int8[Array, " L"]
    log10_stream: Float[Array, " L"]

    def __repr__(self):
        return report.text_of(self, shown)

    def _repr_html_(self):
        return report.html_of(self, shown)


# --- in words -------------------------------------------------------------------------------------

ROOM = 2.0  # chosen: the decades between first and last layer with which one learning rate copes
STUCK = {
    FlowStatus.NOT_FINITE: "numbers are not finite there: make the weights, or X, smaller",
    FlowStatus.FORWARD_ABOVE_RANGE: "the activations leave every range: make the weights smaller",
    FlowStatus.FORWARD_BELOW_RANGE: (
        "the activations are zero in this precision: make the weights larger, or add biases"
    ),
    FlowStatus.LOSS_GRADIENT_ZERO: (
        "the loss's own derivative is exactly zero for every sample, so nothing has to be learned"
    ),
    FlowStatus.GATES_CLOSED: (
        "the derivative of the activation is zero for every unit and sample there, so that nothing "
        "below learns: take smaller weights if they are saturated, other biases if they are dead"
    ),
    FlowStatus.WEIGHTS_ZERO: (
        "the weights above are all zero: draw them, as with he, glorot or orthogonal"
    ),
    FlowStatus.RESIDUAL_GATE_ZERO: (
        "the gates alpha are zero, as ReZero's are at its start: the stream flows, and they open"
    ),
}


def shown(flow: GradientFlow) -> report.Shown:
    """Return a table of the flow, layer 1 first, and the sentence of `cause`."""
    plain = np.array_equal(flow.log10_stream, flow.log10_delta, equal_nan=True)
    columns = {
        f"log10 {'dZ' if plain else 'dS'}": flow.log10_stream,
        "log10 dW": flow.log10_grad_W,
        "saturated": flow.saturated,
        "dead": flow.dead,
    }
    rows = report.every_few(columns, "layer")
    for row in rows:
        status = FlowStatus(int(flow.status[row["layer"] - 1]))
        row["status"] = "" if status == FlowStatus.OK else status.name.lower().replace("_", " ")
    forms = dict.fromkeys(list(columns)[:2], ".2f") | {"saturated": ".0%", "dead": ".0%"}
    return report.Shown("", rows, forms, cause(flow))


def cause(flow: GradientFlow) -> str:
    """Return one sentence: what keeps the network from learning, or that nothing does.

    Example:
      >>> import jax, jaxmlp
      >>> mlp = jaxmlp.MLP((2, *[16] * 50, 3), hidden="sigmoid")
      >>> J = jaxmlp.Objective(mlp, "cross_entropy")
      >>> X, Y = jax.random.normal(jax.random.key(0), (9, 2)), np.arange(9) % 3
      >>> flow = jaxmlp.gradient_flow(J)(mlp.init(jax.random.key(1), "lecun"), X, Y)
      >>> print(cause(flow)[:50])
      The gradient vanishes: from layer 51 down to 1 dZ
    """
    stream, status = (np.asarray(x, float) for x in (flow.log10_stream, flow.status))
    L = len(stream)
    # A layer whose numbers are no magnitudes has a status that says why. The last such layer counts
    for i in reversed(range(L)):
        if status[i] in STUCK and not np.isfinite(stream[i] + np.asarray(flow.log10_delta)[i]):
            return f"Layer {i + 1} does not learn: {STUCK[FlowStatus(int(status[i]))]}."
    # Otherwise the decades between the last layer and the first count
    decades = float(stream[-1] - stream[0])
    if abs(decades) <= ROOM or L < 2:
        return _flat(flow, decades)
    verb = "vanishes" if decades > 0 else "explodes"
    way = "falls" if decades > 0 else "grows"
    text = (
        f"The gradient {verb}: from layer {L} down to 1 dZ {way} by {abs(decades):.1f} decades, "
        f"a factor {10 ** (-decades / (L - 1)):.3g} a layer"
    )
    return f"{text}; {_reason(flow, decades > 0)}."


def _reason(flow: GradientFlow, vanishes: bool) -> str:
    """Return the likely reason of the change, as a clause. The shares are chosen."""
    saturated, dead = (float(np.nanmean(np.append(np.asarray(x), 0))) for x in flow[5:7])
    if vanishes and dead > 0.5:
        return f"{100 * dead:.0f}% of the units are dead: act' is 0 for them on every sample"
    if vanishes and saturated > 0.75:  # not 0.5, because half of a healthy ReLU's gates are closed
        return (
            f"{100 * saturated:.0f}% of act' is below a hundredth of its largest: the units are "
            "saturated, so make the weights or X smaller"
        )
    if vanishes:
        return "act' times the weights is less than 1: draw larger weights, or take another act"
    return "act' times the weights is more than 1: draw smaller weights"


def _flat(flow: GradientFlow, decades: float) -> str:
    correlation = np.asarray(flow.correlation, float)
    # Chosen: at a cosine of 0.999 two samples of length 1 are 0.045 apart
    alike = np.flatnonzero(correlation > 0.999)
    text = f"The gradient reaches layer 1: dZ changes by {-decades:+.1f} decades on its way down"
    if len(alike) and alike[0] < len(correlation) - 1:
        return f"{text}, but from layer {alike[0] + 1} on all samples look alike."
    return f"{text}."
