"""Predictions of mean-field theory beside measurements."""

import contextlib
import math
from typing import Any, NamedTuple

import numpy as np

import jaxmlp
from experiments import common
from experiments.depth_sweep.options import Config
from jaxmlp import activations, initializers, meanfield
from jaxmlp.sweep.summary import PREDICTED, judged
from jaxmlp.sweep.theory import predicted, z_of

Kind = tuple[str, str]


class Compared(NamedTuple):
    """Hold prediction and measurement of networks of one activation and initialisation.

    measured `(nets, L)`: log10 of |dz[l]| over |dz[L]|; correlation `(nets, L)`: of two inputs.
    """

    activation: str
    init: str
    predicted: Any
    measured: Any
    correlation: Any

    @property
    def z(self):
        """Return the networks' mean minus the prediction, in standard errors of the prediction."""
        error = self.predicted.sd / math.sqrt(len(self.measured))
        return z_of(self.measured.mean(axis=0), self.predicted.mean, error).tolist()

    @property
    def sd(self):
        """Return the standard deviation of the measured; NaN if a gradient is exactly 0."""
        with np.errstate(invalid="ignore"):
            return self.measured.std(axis=0, ddof=1)

    @property
    def factor(self):
        """What a layer leaves of dz on average, from the output to the first layer."""
        return 10 ** (self.measured[:, 0].mean() / (self.measured.shape[1] - 1))


def known(config: Config) -> list[str]:
    """Return the initialisations whose variances the theory knows; orthogonal is not one."""
    found = []
    for init in config.inits:
        with contextlib.suppress(ValueError):
            meanfield.variances(init, (config.width, config.width))
            found.append(init)
    return found


def two_digits(config: Config):
    """Two digits of the same length."""
    X = np.array(common.digits(config.num_samples)[0][:2])
    X[1] *= np.linalg.norm(X[0]) / np.linalg.norm(X[1])
    return X


def sweep(config: Config, num_inputs: int):
    """The networks that are compared, on one digit or on two; None if the theory knows none.

    One input, since an rms over a batch has another mean; one output, so that the direction of the
    last dz is not that of the weights. Correlations are those of two digits.
    """
    if not (inits := known(config)):
        return None
    return jaxmlp.depth_sweep(
        activations=config.activations, inits=inits, X=two_digits(config)[:num_inputs],
        Y=np.zeros((num_inputs, 1)), depths=config.theory_depth, width=config.width,
        loss="half_squared_error", seeds=common.seeds(config, config.theory_nets),
    )  # fmt: skip


def against_theory(config: Config, of_one: Any = None, of_two: Any = None) -> list[Compared]:
    """Every activation with every initialisation that the theory knows.

    of_one, of_two: what `sweep` returns for one and for two digits, if that is there already.
    """
    of_one, of_two = of_one or sweep(config, 1), of_two or sweep(config, 2)
    X, found = two_digits(config), []
    q0, c0 = float((X[0] ** 2).mean()), float(X[0] @ X[1] / (X[0] @ X[0]))
    sizes = (X.shape[1], *[config.width] * config.theory_depth, 1)
    for act in config.activations:
        for init in known(config):
            of = meanfield.predict(
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
            correlation[:, -1] = np.nan  # of one output the cosine is a sign
            found.append(Compared(act, own["init"], of, delta - delta[:, -1:], correlation))
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
        "correlation_predicted": c.predicted.correlation,
        "correlation_measured": c.correlation.mean(axis=0),
    }  # fmt: skip
    return [
        {"activation": c.activation, "init": c.init, "layer": l}
        | dict(zip(columns, row, strict=True))
        for l, row in enumerate(zip(*columns.values(), strict=True), start=1)
    ]


# --- by depth -------------------------------------------------------------------------------------


class Lost(NamedTuple):
    """Decades that depths 1, 2, ... lose from the last hidden layer to the first: mean and sd."""

    mean: Any
    sd: Any


def lost_by_depth(config: Config, width: int | None = None) -> dict[Kind, Lost]:
    """What networks of every depth lose, of each kind without remedies that the theory knows.

    The first d layers of the deepest network are those of a network of depth d.
    """
    X, _ = common.digits(config.num_samples)
    q0, found = float((X**2).mean()), {}
    for act in config.activations:
        for init in known(config):
            network = jaxmlp.sweep.Network(
                act, init, max(config.depths), width or config.width, 0, None, None, "cross_entropy"
            )
            of = predicted(network, X.shape[1], 10, q0)
            if of is None or of.mean is None or of.sd is None:
                continue
            if np.isfinite(of.mean).all():
                sd = np.sqrt(np.maximum(of.sd[0] ** 2 - of.sd[:-1] ** 2, 0))
                kind = activations.get(act).name, initializers.get(init).name
                found[kind] = Lost(of.mean[:-1] - of.mean[0], sd)
    return found


def judge(rows: common.Rows, lost: dict[Kind, Lost]) -> common.Rows:
    """Put the prediction beside each row of a summary, and into its verdict if it came true."""
    found = []
    for row in rows:
        of = lost.get((row["activation"], row["init"]))
        remedied = (row["residual"], row["norm"]) != (None, None)
        if of is None or remedied or row["depth"] == 1:
            found.append(row | {"predicted": None, "sd": None})
            continue
        mean, sd = (float(x[row["depth"] - 1]) for x in of)
        as_told = abs(row["log10_change"] + mean) <= PREDICTED * sd
        found.append(row | {"predicted": -mean, "sd": sd, "verdict": judged(row, as_told)})
    return found
