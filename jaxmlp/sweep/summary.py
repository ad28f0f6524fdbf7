"""The numbers of a summary: the change of a gradient, the spread of networks, a verdict."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmlp.flow_report import ROOM

VERDICTS = ("vanishing", "healthy", "exploding", "not finite", "incomplete")
PREDICTED = 3.0  # standard errors within which a network is as predicted: 99.7% of all are
UNKNOWN = (np.nan, np.nan)


def change_of(
    log10_stream: Sequence[float],
    predicted: Sequence[float] | None = None,
    sd: Sequence[float] | None = None,
) -> dict[str, float]:
    """Return the change of a norm from the last hidden layer to the first.

    Each argument is a pair, at the first hidden layer and at the last one; UNKNOWN if the table
    lacks layers.
    """
    first, last = log10_stream
    # If both are exact zeros, -inf, the change is -inf too
    change = first - last if not (first == last == -np.inf) else -np.inf
    found = {"log10_first": first, "log10_last": last, "log10_change": change}
    if predicted is None or sd is None:
        return found
    # The steps are nearly independent, so their variances add up
    variance = sd[0] ** 2 - sd[1] ** 2
    spread = math.sqrt(variance) if variance > 0 else 0.0 if variance <= 0 else np.nan
    return found | {"predicted": predicted[0] - predicted[1], "predicted_sd": spread}


def spread(changes: np.ndarray) -> dict[str, float]:
    """Return the spread of the networks of a cell; NaN if a gradient is exactly 0."""
    n, finite = len(changes), np.isfinite(changes).all()
    low, high = np.quantile(changes, (0.25, 0.75)) if finite else UNKNOWN
    sd = float(np.std(changes, ddof=1)) if finite and n > 1 else np.nan
    return {"networks": n, "change_sd": sd, "change_q25": float(low), "change_q75": float(high)}


def beside(row: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Return z of a summary's median of n networks, and the verdict, as predicted or not."""
    error = row["predicted_sd"] * median_error(n)
    off = row["log10_change"] - row["predicted"]
    with np.errstate(all="ignore"):
        z = 0.0 if off == 0 else float(np.divide(off, error))
    return {"z": z, "verdict": judged(row, abs(z) <= PREDICTED)}


def judged(row: Mapping[str, Any], as_predicted: bool) -> str:
    """Return the verdict of a row, and that it is as predicted, if it is."""
    return row["verdict"] + (f", as predicted for width {row['width']}" if as_predicted else "")


def median_error(n: int) -> float:
    """Return about the standard error of the median of n normal numbers, over their sd.

    The median of one or two is their mean. That of many has the variance pi / (2 n); between, this
    is a little too large.
    """
    return 1 / math.sqrt(n) if n <= 2 else math.sqrt(math.pi / (2 * n))


def verdict(
    log10_change: float, steps: int, vanishing: float = 0.97, exploding: float = 1.03
) -> str:
    """Return "vanishing", "healthy", "exploding", or "not finite" for NaN and inf.

    Args:
      log10_change: the change of the norm over `steps` steps from layer to layer; -inf is
        vanishing.
      vanishing, exploding: factors a layer. A network is healthy if its factor is between them, or
        if the norm changes by less than 2 decades in all.
    """
    if np.isnan(log10_change) or log10_change == np.inf:
        return VERDICTS[3]
    if abs(log10_change) < ROOM:
        return VERDICTS[1]
    a_layer = log10_change / steps
    if a_layer < np.log10(vanishing):
        return VERDICTS[0]
    return VERDICTS[1] if a_layer <= np.log10(exploding) else VERDICTS[2]
