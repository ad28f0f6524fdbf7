"""Predictions of mean-field theory for the networks of a sweep, if it covers their problem."""

import functools
from typing import Any

import numpy as np

from jaxmlp import meanfield
from jaxmlp.meanfield import Prediction
from jaxmlp.sweep.grid import Network

Columns = dict[str, np.ndarray]


def check_matched(X: Any, outputs: int, loss: str) -> None:
    """Refuse a problem that the theory does not cover.

    The theory is for one input, and assumes that the derivative at the output is independent of the
    weights.

    Raises:
      ValueError: for more than one sample, and for more outputs than the loss allows.
    """
    most = 2 if loss == "cross_entropy" else 1  # a softmax over two outputs depends on one number
    if len(X) != 1 or outputs > most:
        raise ValueError(
            "theory=True needs one sample and one output (two under cross_entropy), got "
            f"{len(X)} samples and {outputs} outputs: an rms over a batch has another mean, and "
            "of many outputs the derivative is not independent of the weights"
        )


def predicted(
    network: Network, features: int, outputs: int, q0: float, *, band: bool = True
) -> Prediction | None:
    """Return the prediction of mean field for a network; None if the theory does not cover it.

    band: for its width, and not only for infinite width; this takes milliseconds a layer.
    """
    sizes = (features, *[network.width] * network.depth, outputs)
    try:
        return meanfield.predict(
            network.activation, *meanfield.variances(network.init, sizes), network.depth, q0,
            c0=1.0,  # two equal inputs, because other correlations take long and are not needed
            width=network.width if band else None, residual=network.residual, norm=network.norm,
        )  # fmt: skip
    except ValueError:
        return None


def with_theory(columns: Columns, networks: list[Network], X: Any, outputs: int) -> Columns:
    """Return the columns with `predicted`, `sd` and `z` of log10_stream relative to the output.

    They are NaN for networks that the theory does not cover. z is 0 if measurement and prediction
    are equal, as at the output.

    Args:
      networks: in the order of the rows.
      X: the one sample.
    """
    # The predictions, one for all seeds of a network
    q0, known = float(np.mean(np.square(X, dtype=float))), functools.cache(predicted)
    means, sds = [], []
    for network in networks:
        of, L = known(network._replace(seed=0), X.shape[1], outputs, q0), network.depth + 1
        means.append(np.full(L, np.nan) if of is None else of.mean)
        sds.append(np.full(L, np.nan) if of is None else of.sd)
    mean, sd = np.concatenate(means), np.concatenate(sds)
    # The measurements, relative to each network's last row
    stream = np.asarray(columns["log10_stream"], float)
    ends = np.cumsum([network.depth + 1 for network in networks]) - 1
    at_output = np.repeat(stream[ends], [network.depth + 1 for network in networks])
    with np.errstate(invalid="ignore"):
        measured = stream - at_output
    return columns | {"predicted": mean, "sd": sd, "z": z_of(measured, mean, sd)}


def z_of(measured: np.ndarray, mean: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return `(measured - mean) / error`; 0 if both are equal, as at the output, or both -inf."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(measured == mean, 0.0, (measured - mean) / error)
