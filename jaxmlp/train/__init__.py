"""Training on any optax optimiser.

| module | what it does |
|---|---|
| optimizers | what may stand for an optimiser, and what optax is told at a step |
| step | one update of the parameters, jitted, and what it reports |
| loop | many of them as a pure, compiled function: state -> state |
| host | chunks of the loop, with a clock; nothing of them is lost |
| fit | epochs of steps: checks, progress, records, history |
| many | the same for many networks at once, in threads or mapped |
"""

from jaxmlp.train.fit import fit
from jaxmlp.train.host import History
from jaxmlp.train.many import fit_many
from jaxmlp.train.step import Metrics, train_step

__all__ = ["History", "Metrics", "fit", "fit_many", "train_step"]
