"""Training on any optax optimiser.

| module | what it does |
|---|---|
| optimizers | what may stand for an optimiser, and what optax is told at a step |
| step | one update of the parameters, jitted, and what it reports |
| loop | many of them as a pure, compiled function: state -> state |
| host | chunks of the loop, with a clock; nothing of them is lost |
| checkpoint | a training on disk: saved whole, refused if damaged or of another run |
| panel | a record for fit: what one walk says of every layer |
| fit | epochs of steps: checks, progress, records, history |
| many | the same for many networks at once, in threads or mapped |
"""

from jaxmlp.train.fit import fit
from jaxmlp.train.host import History
from jaxmlp.train.many import fit_many
from jaxmlp.train.panel import Panel, panel
from jaxmlp.train.step import Metrics, train_step

__all__ = ["History", "Metrics", "Panel", "fit", "fit_many", "panel", "train_step"]
