"""What does an activation do to a number, and to a derivative?

Each activation with its derivative, and under it the difference between the derivative by hand and
autodiff, in float64. What is wanted of an activation (D13) is measured on a grid: its range,
steepness, symmetry, monotony, and where its derivative dies out or is exactly 0.
"""

import dataclasses
import itertools
import math
from typing import Any, NamedTuple

from experiments import common

NOTES = (  # D1-D12, in the order of the lecture
    "linear", "step", "sign", "piecewise_linear", "sigmoid", "tanh",
    "relu", "leaky_relu", "prelu", "elu", "softplus", "softmax",
)  # fmt: skip
ASIDE = 1e-9  # from a kink, to be on one side of it
FAR = 1e6  # "everywhere" is |z| up to here
SOFTMAX_Z = (1.1, 2.2, 0.2, -1.7)  # B1's example
NOTE = f"""
inf, sup, steepest: for |z| up to {FAR:g}, inf where they still grow there; mean: |z| up to 4;
hand - jax: largest difference of the derivatives over the steepest slope, |z| up to {{reach:g}}.
"""
TASKS = (
    "D13 output unit: linear for regression; sigmoid, tanh or softmax for classification "
    "(sigmoid for two classes\n    or several labels at once, softmax for one of many). "
    "Hidden units: sigmoid, tanh, ReLU."
)


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the activations."""

    activations: tuple[str, ...] = ()
    """which; with arguments as leaky_relu:0.1 (default: all)"""
    range: float = 4.0
    """draw and compare for |z| up to this"""


class Curve(NamedTuple):
    """An activation on a grid: A, its derivative by hand and by autodiff."""

    z: Any
    A: Any
    hand: Any
    auto: Any

    @property
    def difference(self):
        """|hand - autodiff| over the largest slope; inf where autodiff alone is 0 everywhere."""
        import numpy as np

        error, size = np.abs(self.hand - self.auto), np.abs(self.auto).max()
        return np.where(error == 0, 0, np.divide(error, size, where=size > 0, out=error + np.inf))


def main(config: Config) -> None:
    import jax
    import matplotlib

    matplotlib.use("Agg")
    from jaxmlp import checks

    reach = checks.positive_number("range", config.range)
    with jax.enable_x64(True):
        chosen = choose(config.activations)
        differences = {act: curve(act, grid(reach, act.kinks)) for act in chosen}
        rows = [
            {"activation": act.name} | properties(act) | {"hand - jax": float(c.difference.max())}
            for act, c in differences.items()
        ]
        common.table("D1-D13  What is wanted of an activation, measured", rows)
        print(NOTE.format(reach=reach))
        kinks = [row for act in chosen for row in at_kinks(act)]
        if kinks:
            common.table("At a kink: left | right, and by convention at z itself", kinks)
        print(*statements(reach), sep="\n")
        results = common.Results("activations", config)
        results.csv(rows)
        for suffix, acts in groups(chosen).items():
            results.figure(gallery({act: differences[act] for act in acts}, reach), suffix)
        results.close()


# --- computing ------------------------------------------------------------------------------------


def choose(names: tuple[str, ...]) -> list:
    """The activations of these names, else all: those of the lecture in its order, then the rest.

    Softmax, which is not elementwise, becomes its first output on (z, 0, 0).
    """
    from jaxmlp import activations

    beyond = tuple(n for n in activations.names() if n not in (*NOTES, "swish"))
    found = dict.fromkeys(activations.get(name) for name in names or NOTES + beyond)
    return [softmax_of_one() if act == activations.softmax else act for act in found]


def softmax_of_one():
    """s_1 of (z, 0, 0) as a function of z; its derivative is the Jacobian's s_1 (1 - s_1) (B2)."""
    import jax.numpy as jnp

    from jaxmlp import activations

    def outputs(Z):
        rows = jnp.stack([Z, jnp.zeros_like(Z), jnp.zeros_like(Z)], axis=-1)
        return activations.softmax.fn(rows)

    def derivative(Z, A):
        s = outputs(Z).reshape(-1, 3)
        first = jnp.zeros_like(s).at[:, 0].set(1)
        return activations.softmax_vjp(s, first)[:, 0].reshape(Z.shape)

    return activations.Activation("softmax", lambda Z: outputs(Z)[..., 0], derivative)


def grid(reach: float, kinks=(), far: float | None = None):
    """Points from -reach to reach, 0 among them, and outwards to far; symmetric.

    In the place of each kink, and of its mirror image, stand points on either side of it.
    """
    import numpy as np

    half = np.linspace(0, reach, 801)
    if far is not None:
        half = np.concatenate([half, np.geomspace(reach, far, 201)[1:]])
    kinks = np.abs(kinks)
    half = np.union1d(half[~np.isin(half, kinks)], [*(kinks - ASIDE), *(kinks + ASIDE)])
    half = half[(half >= 0) & (half <= (far or reach))]
    return np.concatenate([-half[half > 0][::-1], half])


def curve(act, z) -> Curve:
    """The activation at the points z."""
    import jax
    import numpy as np

    return Curve(z, *map(np.asarray, jax.jit(_evaluate, static_argnums=0)(act, z)))


def _evaluate(act, z):
    import jax

    A = act.fn(z)
    return A, act.derivative(z, A), jax.vmap(jax.grad(act.fn))(z)


def properties(act) -> dict[str, Any]:
    """D13 as numbers; inf where a value still grows from |z| = 1e3 to 1e6."""
    import numpy as np

    near = max([4.0, *(2 * abs(kink) for kink in act.kinks)])
    z, A, slope, _ = curve(act, grid(near, act.kinks, FAR))
    inside = np.abs(z) <= near
    even = (A + A[::-1]) / 2
    return {
        "inf": 0.0 - supremum(z, -A),
        "sup": supremum(z, A),
        "steepest": supremum(z, np.abs(slope)),
        "zero-centred": "yes" if np.abs(even).max() <= 1e-12 * np.abs(A).max() else "no",
        "mean": float(even[inside].mean()),
        "monotonic": monotony(A),
        "saturates": saturation(z, slope),
        "slope 0": dead_region(z[inside], slope[inside]),
        "kinks": len(act.kinks),
    }


def supremum(z, values) -> float:
    """The largest value; inf if it lies beyond |z| = 1e3 and is larger by a hundredth."""
    largest, nearer = float(values.max()), float(values[abs(z) <= 1e3].max())
    return math.inf if largest - nearer > 0.01 * max(1, abs(nearer)) else round(largest, 6)


def monotony(A) -> str:
    """rising, falling or no; up to rounding."""
    import numpy as np

    change, rounding = np.diff(A), 1e-12 * np.maximum(1, np.abs(A[1:]))
    if (change >= -rounding).all():
        return "rising"
    return "falling" if (change <= rounding).all() else "no"


def saturation(z, slope) -> str:
    """On which sides the derivative tends to 0: it is below 1e-6 from |z| = 1e4 on."""
    sides = {"left": z < -1e4, "right": z > 1e4}
    dying = [side for side, beyond in sides.items() if abs(slope[beyond]).max() < 1e-6]
    return "both" if len(dying) == 2 else "".join(dying) or "no"


def dead_region(z, slope) -> str:
    """Where the derivative is exactly 0, but for single points."""
    import numpy as np

    zero = slope == 0
    if zero.all():
        return "everywhere"
    at = np.flatnonzero(np.diff(zero))
    ends = [-math.inf, *((z[at] + z[at + 1]) / 2).round(2), math.inf]
    found = []
    for i, (low, high) in enumerate(itertools.pairwise(ends)):
        if zero[0] != i % 2 and low < high:
            found.append(f"{low:g} < z < {high:g}".removeprefix("-inf < ").removesuffix(" < inf"))
    return ", ".join(found) or "nowhere"


def at_kinks(act) -> list[dict[str, Any]]:
    """Function and derivative to the left of each kink, to its right, and as taken at it."""
    import numpy as np

    rows = []
    for kink in act.kinks:
        _, A, slope, _ = curve(act, kink + np.array([-ASIDE, 0, ASIDE]))
        row = {"activation": act.name, "z": kink}
        for name, (left, at, right) in (("value", A.round(6) + 0.0), ("slope", slope)):
            row[name] = f"{left:.3g} | {right:.3g}"
            row[f"{name} at z"] = f"{at:.3g}"
        rows.append(row)
    return rows


# --- what the notes say ---------------------------------------------------------------------------


def identities(reach: float) -> dict[str, float]:
    """The largest difference between the two sides of each identity of D2-D11, for |z| <= reach."""
    import jax.numpy as jnp
    import numpy as np

    from jaxmlp import activations as acts

    z = grid(reach)
    below, e, sigmoid = z[z < 0], np.exp(z), acts.sigmoid.fn(z)
    elu, prelu = acts.elu(0.5), acts.prelu.fn
    sides = {
        "D2  step, 1/2 at 0; one of the notes has 1": (acts.step.fn(z), jnp.heaviside(z, 1.0)),
        "D5  sigmoid = 1/(1 + e^-z)": (sigmoid, 1 / (1 + np.exp(-z))),
        "D5  sigmoid = e^z/(e^z + 1)": (sigmoid, e / (e + 1)),
        "D6  tanh z = 2 sigmoid(2z) - 1": (acts.tanh.fn(z), 2 * acts.sigmoid.fn(2 * z) - 1),
    }
    for alpha in (0.25, 1.0, 1.5):
        name = f"D9  prelu = max(alpha z, z), alpha = {alpha:g}"
        sides[name] = prelu(z, alpha), np.maximum(alpha * z, z)
    sides |= {
        "D10 elu below 0: f + alpha = alpha e^z, alpha = 0.5": (
            elu.fn(below) + 0.5,
            0.5 * np.exp(below),
        ),
        "D11 softplus: derivative = sigmoid": (curve(acts.softplus, z).hand, sigmoid),
    }  # fmt: skip
    return {name: float(abs(one - other).max()) for name, (one, other) in sides.items()}


def slope_difference(reach: float) -> float:
    """D9: PReLU's derivative in its slope, min(z, 0): the backward pass against autodiff.

    One neuron a = prelu(z), and the loss |a - y| with y below a, whose derivative in a is 1.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxmlp

    J = jaxmlp.Objective(jaxmlp.MLP((1, 1), output="prelu", use_bias=False), "norm")
    z = grid(reach, (0,))[:, None, None]
    params = (jaxmlp.Layer(jnp.ones((1, 1)), None, jnp.asarray(0.25)),)
    Y = np.where(z > 0, z, 0.25 * z) - 1
    (hand,), (auto,) = (
        jax.vmap(jax.jit(transform(J)), (None, 0, 0))(params, z, Y)
        for transform in (jaxmlp.grad, jax.grad)
    )
    both = np.stack([hand.slope, auto.slope]) - np.minimum(z, 0).ravel()
    return float(np.abs(both).max())


def softmax_jacobian(z=SOFTMAX_Z):
    """B1, B2: s, its Jacobian by hand, and the largest difference from autodiff."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxmlp import activations

    softmax, z = activations.softmax.fn, jnp.asarray(z)
    s = softmax(z)
    hand = activations.softmax_vjp(jnp.tile(s, (len(s), 1)), jnp.eye(len(s)))
    return np.asarray(s), np.asarray(hand), float(abs(hand - jax.jacrev(softmax)(z)).max())


def statements(reach: float) -> list[str]:
    """The notes' remarks, measured."""
    reach = min(reach, 700.0)  # beyond 709 e^z overflows, and e^z/(e^z + 1) is no number
    s, jacobian, error = softmax_jacobian()
    return [
        f"\nLargest difference for |z| <= {reach:g}:",
        *(f"  {name}: {found:.1e}" for name, found in identities(reach).items()),
        f"  D9  prelu: its derivative in the slope by hand, by jax, and min(z, 0): "
        f"{slope_difference(reach):.1e}",
        f"B1  softmax{SOFTMAX_Z} = {tuple(s.round(4).tolist())}; slip: the notes cut the last, "
        f"{s[-1]:.4f}, to 0.013.",
        f"B2  its Jacobian, s_i (1 - s_i) and -s_i s_k; by hand and by jax differ by {error:.0e}:",
        *("    " + "".join(f"{value:9.4f}" for value in row) for row in jacobian),
        TASKS,
    ]


# --- drawing --------------------------------------------------------------------------------------


def groups(acts) -> dict[str, list]:
    """The figures by suffix: the lecture's activations, and the others."""
    found = {"": [], "_beyond": []}
    for act in acts:
        found["" if act.name.split(":")[0] in NOTES else "_beyond"].append(act)
    return {suffix: group for suffix, group in found.items() if group}


def gallery(curves: dict[Any, Curve], reach: float):
    """Small panels: each activation with its derivative, and the difference underneath."""
    import matplotlib.pyplot as plt

    from jaxmlp import plotting

    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(
        2 * rows, columns, figsize=(max(2 * columns, 5), 2.1 * rows + 1), squeeze=False,
        height_ratios=[3, 1] * rows, layout="constrained",
    )  # fmt: skip
    panels = [(title(act), act, found.z, found.difference) for act, found in curves.items()]
    plotting.activation_panels(panels, axes, reach=reach)
    worst = max(float(found.difference.max()) for found in curves.values()) / 2**-52
    figure.suptitle(
        f"Derivatives by hand and by autodiff are at most {worst:.1f} units apart\n"
        "(grey; a unit is 2$^{-52}$ of the steepest slope)",
        fontsize=11,
    )
    return figure


def title(act) -> str:
    """The name, with the lecture's number."""
    name = act.name.split(":")[0]
    number = f"D{NOTES.index(name) + 1} " if name in NOTES else ""
    return f"{number}{act.name}{'(z, 0, 0)' * (name == 'softmax')}"


if __name__ == "__main__":
    config = common.parse(Config, __doc__)
    if config.smoke:
        config = dataclasses.replace(config, activations=("relu", "sigmoid", "gelu"))
    common.run(main, config)
