"""What a sweep measures: networks, named by values, and jobs, which share a forward pass."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxmlp import activations, checks, edge, initializers, named, norms
from jaxmlp.activations import Activation
from jaxmlp.backprop import check_hand
from jaxmlp.initializers import Initializer
from jaxmlp.mlp import INVERSE_ROOT, MLP
from jaxmlp.objective import Objective


class Network(NamedTuple):
    """Name a network. It is a key in a dict, in a store and on another machine.

    activation, init: names of this package; or a user's Activation or Initializer itself, and then
    the network can only be measured in this process.
    """

    activation: str | Activation
    init: str | Initializer
    depth: int
    width: int
    seed: int
    residual: float | str | None
    norm: str | None
    loss: str

    @property
    def names(self) -> dict[str, Any]:
        """Return the fields as a table holds them: a user's Activation by its name too."""
        return {name: getattr(value, "name", value) for name, value in self._asdict().items()}

    def mlp(self, d_in: int, d_out: int) -> MLP:
        """Return the MLP; its parameters are drawn by `init(key(seed), init)`."""
        return MLP(
            (d_in, *[self.width] * self.depth, d_out), hidden=self.activation,
            output=OUTPUTS.get(self.loss, "linear"), residual=self.residual, norm=self.norm,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Job:
    """Name networks that differ in depth only, so that they share a forward pass.

    deepest: the largest depth of the grid; the compiled program has room for it.
    """

    network: Network
    depths: tuple[int, ...]
    deepest: int

    def __str__(self) -> str:
        names = self.network._replace(depth=0)._asdict() | {"depth": self.depths}
        return ", ".join(f"{name} {value}" for name, value in names.items() if value is not None)

    @property
    def networks(self) -> list[Network]:
        return [self.network._replace(depth=depth) for depth in self.depths]

    def only(self, missing: Iterable[Network]) -> "Job":
        """Return the job for those of its networks that are missing."""
        depths = [network.depth for network in self.networks if network in missing]
        return dataclasses.replace(self, depths=tuple(depths))


OUTPUTS = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}


class Grid(NamedTuple):
    """Hold the axes of a sweep, checked."""

    activations: list[Activation]
    inits: list[Initializer]
    depths: list[int]
    widths: list[int]
    seeds: list[int]
    residuals: list[Any]
    norms: list[str | None]
    loss: str

    @property
    def networks(self) -> list[Network]:
        """Return every network, in the order of the table."""
        axes = itertools.product(
            *(self.residuals, self.norms, map(_name_if_known, self.activations)),
            *(map(_name_if_known, self.inits), self.depths, self.widths, self.seeds),
        )
        return [
            Network(act, init, depth, width, seed, residual, norm, self.loss)
            for residual, norm, act, init, depth, width, seed in axes
        ]

    @property
    def jobs(self) -> list[Job]:
        """Return every job; jobs that share random numbers follow each other."""
        axes = itertools.product(
            *(self.widths, self.seeds, map(_name_if_known, self.inits)),
            *(map(_name_if_known, self.activations), self.residuals, self.norms),
        )
        found, deepest = [], max(self.depths)
        for width, seed, init, act, residual, norm in axes:
            network = Network(act, init, 0, width, seed, residual, norm, self.loss)
            # With alpha = 1/sqrt(depth) networks of two depths have no layer in common
            each = [(d,) for d in self.depths] if residual == INVERSE_ROOT else [(*self.depths,)]
            found += [Job(network, depths, deepest) for depths in each]
        return found


def _name_if_known(description: Any) -> Any:
    """Return the description's name if this package knows it by that, else the description."""
    get = activations.get if isinstance(description, Activation) else initializers.get
    return description.name if named.is_known(description, get) else description


def checked(
    *, activations: Any, inits: Any, depths: Any, seeds: Any, num_seeds: Any, width: Any,
    residuals: Any, norms: Any, loss: str,
) -> Grid:  # fmt: skip
    """Return the grid; refuse what cannot be measured. One value may stand for a list of one."""
    acts, inits = _described(activations, inits)
    numbers = {
        "depths": [checks.integer("depth", depth, at_least=1) for depth in several(depths)],
        "seeds": _checked_seeds(seeds, num_seeds),
        "widths": [checks.integer("width", w, at_least=1) for w in several(width)],
    }
    for name, given in numbers.items():
        if not given or len(set(given)) < len(given):
            raise ValueError(f"{name} must be one or more different numbers, got {given}")
    remedies = _checked_remedies(residuals, norms)
    depths, seeds, widths = numbers.values()
    return Grid(acts, inits, depths, widths, seeds, *remedies, loss)


def several(values: Any) -> list:
    """Return the values as a list; a single name or number is a list of one."""
    return (
        list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    )


def _checked_seeds(seeds: Any, num_seeds: int | None) -> list[int]:
    """Return the seeds, (0,) by default; refuse both arguments together."""
    if num_seeds is not None:
        if seeds is not None:
            raise ValueError("give seeds or num_seeds, not both")
        return list(range(checks.integer("num_seeds", num_seeds, at_least=1)))
    if seeds is None:
        return [0]
    if not isinstance(seeds, Iterable) or isinstance(seeds, str):
        raise TypeError(f"seeds must be a sequence of seeds, got {seeds!r}: for so many seeds give "
                        "num_seeds")  # fmt: skip
    return [checks.seed(seed) for seed in seeds]


def _described(acts: Any, inits: Any) -> tuple[list[Activation], list[Initializer]]:
    """Return the descriptions; refuse two of one name, and wrong derivatives."""
    acts = [activations.get(act) for act in several(acts)]
    inits = [initializers.get(init) for init in several(inits)]
    for kind, given in (("activations", acts), ("inits", inits)):
        names = [each.name for each in given]
        if not names:
            raise ValueError(f"{kind} must name at least one, got none")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"{kind} must have different names, but {twice[0]!r} stands twice: rows of the "
                "table are told apart by name"
            )
    for act in acts:  # the smallest network with the activation
        check_hand(Objective(MLP((1, 1, 1), hidden=act, output="linear"), "mse"))
    return acts, inits


def _checked_remedies(residuals: Any, given_norms: Any) -> tuple[list, list]:
    """Return residuals and norms as lists; refuse unknown ones, and one given twice."""
    residuals = [MLP((1, 1), residual=residual).residual for residual in several(residuals)]
    given_norms = several(given_norms)
    for norm in given_norms:
        norms.get(norm)
    for name, given in (("residuals", residuals), ("norms", given_norms)):
        if not given or len(set(given)) < len(given):
            raise ValueError(f"{name} must be one or more different ones, got {given}")
    return residuals, given_norms


def output_objective(loss: str, d_in: int, d_out: int) -> Objective:
    """Return the objective of the output layer alone, which is the same for all networks."""
    return Objective(MLP((d_in, d_out), output=OUTPUTS.get(loss, "linear")), loss)


def outputs(loss: str, Y: Any, num_classes: int | None) -> int:
    """Return K, the number of outputs. For labels it is num_classes, or the largest label + 1."""
    Y = edge.as_array("Y", Y)
    labels = loss == "cross_entropy" and Y.ndim == 1
    if num_classes is not None and not labels:
        raise ValueError(
            f"num_classes is for labels of the cross-entropy, got Y of shape {Y.shape}"
        )
    if num_classes is not None:
        return checks.integer("num_classes", num_classes, at_least=2)
    if not labels:
        return (*Y.shape, 1)[1]
    K = int(np.max(Y, initial=0)) + 1
    if K == 1:
        raise ValueError("all labels are 0, which is one class: give num_classes=")
    return K


def refuse_own(cells: Grid, where: str) -> None:
    """Refuse a user's functions: another process does not have them, and a store may have results
    of them before they were edited."""
    for kind, given in (("activation", cells.activations), ("initializer", cells.inits)):
        for description in given:
            if not isinstance(_name_if_known(description), str):
                raise ValueError(
                    f"{kind} {description.name!r} is one's own: {where} takes the library's only, "
                    "by name"
                )
