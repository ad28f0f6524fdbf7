"""The kinds of networks, and drawing networks of a kind."""

from typing import NamedTuple

import jax

import jaxmlp
from experiments.remedies.options import CURES


class Kind(NamedTuple):
    """Hold a hidden activation, an initialisation, and a cure: its name and options of MLP."""

    activation: str
    init: str
    cure: str
    residual: float | str | None = None
    norm: str | None = None

    @property
    def name(self) -> str:
        return self.init if self.cure == "none" else self.cure

    def mlp(self, sizes, output: str) -> jaxmlp.MLP:
        options = {"residual": self.residual, "norm": self.norm}
        return jaxmlp.MLP(sizes, hidden=self.activation, output=output, **options)

    def draw(self, sizes, seeds) -> list:
        """Return the parameters at birth, one network for each seed.

        W and b depend only on the initialisation. So a plain network draws them for most kinds,
        and little is compiled.
        """
        plain = Kind("linear", self.init, "none")
        mlp = (self if self.residual == "rezero" else plain).mlp(sizes, "linear")
        return [mlp.init(jax.random.key(seed), self.init) for seed in seeds]


PLAIN = ("lecun", "he", "orthogonal")


def kinds_of(activations, cures) -> list[Kind]:
    """Return all kinds; with remedies, ReLU networks have he weights and others lecun."""
    found = []
    for act in activations:
        for cure in cures or CURES:
            inits = PLAIN if cure == "none" else ("he" if act.startswith("relu") else "lecun",)
            found += [Kind(act, init, cure, *CURES[cure]) for init in inits]
    return found
