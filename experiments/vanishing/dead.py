"""H3: units with z <= -1 on all samples, with ReLU and with leaky ReLU."""

import numpy as np

import jaxmlp
from experiments.vanishing.networks import digits, draw, network
from experiments.vanishing.options import Config
from experiments.vanishing.steps import same_bits

UNITS = ("relu", "leaky_relu:0.01", "leaky_relu:0.1")
DEAD, LIVE = slice(0, 4), slice(4, 8)  # of 8 hidden units


def half_dead(config: Config, hidden: str):
    """Return a network and parameters with which half its units have z <= -1 on all samples."""
    X, _ = digits(config)
    J = network(X, 1, 8, hidden)
    first, last = draw(J, "he", config.seed)
    b = first.b.at[DEAD].set(-1 - largest_z((first, last), X))
    return J, (first._replace(b=b), last)


def largest_z(params, X, Y=None):
    """Return the largest z over the samples of each unit that starts dead."""
    return (X @ params[0].W[:, DEAD] + params[0].b[DEAD]).max(axis=0)


def dead_units(config: Config, hidden: str) -> tuple[dict, tuple]:
    """Train dead units beside live ones; return a row and `(steps, largest z)`.

    The row has the largest magnitudes of their gradient, and how many come to life.
    """
    (X, Y), (J, params) = digits(config), half_dead(config, hidden)
    every = max(1, config.num_steps // 50)
    trained, history = jaxmlp.fit(
        J, params, X, Y, optimizer=config.learning_rate, epochs=config.num_steps,
        record=largest_z, every=every,
    )  # fmt: skip
    start, end = (jaxmlp.trace(J)(p, X, Y)[0] for p in (params, trained))
    same = [same_bits(getattr(params[0], n), getattr(trained[0], n))[..., DEAD] for n in "Wb"]
    Z = np.vstack([largest_z(params, X), history.record])
    sizes = {"dA": start.dA[:, DEAD], "dW": start.dW[:, DEAD], "db": start.db[DEAD],
             "dW_live": start.dW[:, LIVE], "dW_at_end": end.dW[:, DEAD]}  # fmt: skip
    row = {
        "hidden": hidden,
        **{name: float(abs(x).max()) for name, x in sizes.items()},
        "unchanged": float(np.vstack(same).mean()),
        "revived": int((largest_z(trained, X) > 0).sum()),
    }
    return row, (every * np.arange(len(Z)), Z)
