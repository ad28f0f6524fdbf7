"""Training on any optax optimiser.

step    one update of the parameters, jitted, and what it reports
loop    many of them as a pure, compiled function: state -> state
fit     the host around the loop: checks, progress, records, history
"""

from jaxmlp.train.fit import fit
from jaxmlp.train.host import History
from jaxmlp.train.step import Metrics, train_step

__all__ = ["History", "Metrics", "fit", "train_step"]
