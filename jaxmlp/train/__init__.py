"""Training with any optax optimiser.

| module | what it does |
|---|---|
| optimizers | accepts an optax optimiser, a learning rate or a name; calls optax at a step |
| step | one update of the parameters, jitted, and its metrics |
| loop | many updates as a pure, compiled function: state -> state |
| host | runs the loop in chunks of a tenth of a second, and joins their results |
| checkpoint | saves a training on disk; refuses a file that is damaged or of another run |
| panel | a record for `fit`: the gradient and the update of every layer, from one walk |
| fit | trains for some epochs: checks, progress, records, history |
| many | trains many networks at once, in threads or under `jax.vmap` |
"""

from jaxmlp.train.fit import fit
from jaxmlp.train.host import History
from jaxmlp.train.many import fit_many
from jaxmlp.train.panel import Panel, panel
from jaxmlp.train.step import Metrics, train_step

__all__ = ["History", "Metrics", "Panel", "fit", "fit_many", "panel", "train_step"]
