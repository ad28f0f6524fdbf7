"""Predictions of mean-field theory beside measurements."""

import contextlib
import math
from typing import Any, NamedTuple

import numpy as np

import jaxmlp
from experiments import common
from experiments.depth_sweep.options import Config
from jaxmlp import activations, initializers, meanfield


class Compared(NamedTuple):
    """Hold prediction and measurement of networks of one activation and initialisation.

    measured: `(nets, L)`, log10 of |dz[l]| / |dz[L]|. correlation: `(L,)`, mean over networks.
    """

    activation: str
    init: str
    predicted: Any
    measured: Any
    correlation: Any

    @property
    def z(self):
        """Return the networks' mean minus the prediction, in standard errors of the prediction.

        It is 0 if both are equal, as at the output, or both -inf.
        """
        measured = self.measured.mean(axis=0)
        error = self.predicted.sd / math.sqrt(len(self.measured))
        with np.errstate(invalid="ignore", divide="ignore"):
            z = (measured - self.predicted.mean) / error
        return np.where(measured == self.predicted.mean, 0.0, z).tolist()

    @property
    def sd(self):
        """Return the standard deviation of the measured; NaN if a gradient is exactly 0."""
        with np.errstate(invalid="ignore"):
            return self.measured.std(axis=0, ddof=1)


def known(config: Config) -> list[str]:
    """Return the initialisations whose variances the theory knows; orthogonal is not one."""
    found = []
    for init in config.inits:
        with contextlib.suppress(ValueError):
            meanfield.variances(init, (config.width, config.width))
            found.append(init)
    return found


def against_theory(config: Config) -> list[Compared]:
    """Yield every activation with every initialisation that the theory knows, on one digit.

    There is one input, because a root mean square over a batch has another mean. There is one
    output, so that the direction of the last dz does not depend on the weights. Correlations are
    those of two digits of the same length.
    """
    X = np.array(common.digits(config.num_samples)[0][:2])
    X[1] *= np.linalg.norm(X[0]) / np.linalg.norm(X[1])
    q0, c0 = float((X[0] ** 2).mean()), float(X[0] @ X[1] / (X[0] @ X[0]))
    sizes = (X.shape[1], *[config.width] * config.theory_depth, 1)
    grid: dict = {
        "depths": config.theory_depth, "width": config.width, "loss": "half_squared_error",
        "seeds": common.seeds(config, config.theory_nets),
    }  # fmt: skip
    inits, found = known(config), []
    if not inits:
        return []
    of_one, of_two = (
        jaxmlp.depth_sweep(
            activations=config.activations, inits=inits, X=X[:m], Y=np.zeros((m, 1)), **grid
        )
        for m in (1, 2)
    )
    for act in config.activations:
        for init in inits:
            predicted = meanfield.predict(
                act, *meanfield.variances(init, sizes), config.theory_depth, q0, c0=c0,
                width=config.width, num_nets=config.theory_nets,
            )  # fmt: skip
            own = {
                "activation": activations.get(act).name,
                "init": initializers.get(init).name,
            }
            delta, correlation = (
                table.select(**own).columns()[field].reshape(config.theory_nets, -1)
                for table, field in ((of_one, "log10_delta"), (of_two, "correlation"))
            )
            relative = delta - delta[:, -1:]
            correlation[:, -1] = np.nan  # of one output the cosine is a sign
            found.append(Compared(act, own["init"], predicted, relative, correlation.mean(axis=0)))
    return found


def first_layer(c: Compared) -> dict:
    """Return the numbers of the first layer, and the largest |z|."""
    return {
        "activation": c.activation,
        "init": c.init,
        "predicted": float(c.predicted.mean[0]),
        "measured": float(c.measured[:, 0].mean()),
        "sd predicted": float(c.predicted.sd[0]),
        "sd measured": float(c.sd[0]),
        "z": c.z[0],
        "largest |z|": max(map(abs, c.z)),
    }


def all_layers(c: Compared) -> list[dict]:
    """Return one row for each layer."""
    columns = {
        "infinite_width": c.predicted.log10_delta, "predicted": c.predicted.mean,
        "sd_predicted": c.predicted.sd, "measured": c.measured.mean(axis=0),
        "sd_measured": c.sd, "z": c.z,
        "correlation_predicted": c.predicted.correlation, "correlation_measured": c.correlation,
    }  # fmt: skip
    return [
        {"activation": c.activation, "init": c.init, "layer": l}
        | dict(zip(columns, row, strict=True))
        for l, row in enumerate(zip(*columns.values(), strict=True), start=1)
    ]
