"""The gradient flow at birth, measured and predicted."""

import contextlib
from typing import Any, NamedTuple

import numpy as np

import jaxmlp
from experiments import common
from experiments.remedies.kinds import Kind
from experiments.remedies.options import Config
from jaxmlp import meanfield


class Born(NamedTuple):
    """Hold networks at birth.

    measured: `(num_nets, L)`, log10 of |dS[l]| / |dS[L]|. predicted: None for weights that the
    theory does not know.
    """

    kind: Kind
    measured: np.ndarray
    predicted: Any

    @property
    def change(self) -> float:
        """Return the decades from the last hidden layer to the first, as a mean of networks."""
        mean = self.measured.mean(axis=0)
        return float(mean[0] - mean[-2])

    @property
    def z(self) -> np.ndarray:
        """Return the networks' mean minus prediction in standard errors, for hidden layers."""
        error = self.predicted.sd[:-1] / np.sqrt(len(self.measured))
        return (self.measured.mean(axis=0) - self.predicted.mean)[:-1] / error


def born(config: Config, kind: Kind) -> Born:
    """Measure networks of a kind, and predict them.

    There is one input, because a root mean square over a batch has another mean. There is one
    output, so that the direction of the last dS does not depend on the weights.
    """
    X, Y = np.asarray(common.digits(2)[0][:1], np.float32), np.zeros((1, 1), np.float32)
    sizes = (X.shape[1], *[config.width] * config.depth, 1)
    J = jaxmlp.Objective(kind.mlp(sizes, "linear"), "half_squared_error")
    measure = jaxmlp.gradient_flow(J, statistics=False)
    networks = kind.draw(sizes, common.seeds(config, config.num_nets))
    measured = np.array([measure(params, X, Y).log10_stream for params in networks], np.float64)
    predicted = None
    with contextlib.suppress(ValueError):  # orthogonal weights
        variances = meanfield.variances(kind.init, sizes)
        predicted = meanfield.predict(
            kind.activation, *variances, config.depth, float(np.mean(X**2)), c0=1.0,
            width=config.width, num_nets=config.num_nets, residual=kind.residual, norm=kind.norm,
        )  # fmt: skip
    return Born(kind, measured - measured[:, -1:], predicted)


def rows(found: list[Born]) -> common.Rows:
    """Yield a row for each kind and layer."""
    return [
        {
            "activation": b.kind.activation, "init": b.kind.init, "cure": b.kind.cure,
            "layer": l + 1, "measured": b.measured[:, l].mean(),
            "sd_measured": b.measured[:, l].std(ddof=1),
            "predicted": b.predicted.mean[l] if b.predicted else None,
            "sd_predicted": b.predicted.sd[l] if b.predicted else None,
            "infinite_width": b.predicted.log10_stream[l] if b.predicted else None,
        }
        for b in found
        for l in range(b.measured.shape[1])
    ]  # fmt: skip


def summary(b: Born) -> dict[str, Any]:
    """Return the numbers of one kind."""
    predicted = b.predicted.mean if b.predicted else [np.nan] * 2
    return {
        "activation": b.kind.activation,
        "init": b.kind.init,
        "cure": b.kind.cure,
        "decades at birth": b.change,
        "predicted": float(predicted[0] - predicted[-2]),
        "largest |z|": float(np.abs(b.z).max()) if b.predicted else np.nan,
    }
