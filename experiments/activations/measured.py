"""Properties of activations that the lecture asks for (D13), measured on a grid."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.activations.options import NOTES
from jaxmlp import activations

ASIDE = 1e-9  # from a kink, to be on one side of it
FAR = 1e6  # "everywhere" is |z| up to here


class Curve(NamedTuple):
    """Hold an activation on a grid: A, its derivative by hand and by autodiff."""

    z: Any
    A: Any
    hand: Any
    auto: Any

    @property
    def difference(self):
        """Return |hand - autodiff| over the largest slope; inf if only autodiff is 0 everywhere."""
        error, size = np.abs(self.hand - self.auto), np.abs(self.auto).max()
        return np.where(error == 0, 0, np.divide(error, size, where=size > 0, out=error + np.inf))


def choose(names: tuple[str, ...]) -> list:
    """Return the activations of these names, or all: first the lecture's, in its order.

    Softmax is not elementwise; its first output on (z, 0, 0) is shown.
    """
    beyond = tuple(n for n in activations.names() if n not in (*NOTES, "swish"))
    found = dict.fromkeys(activations.get(name) for name in names or NOTES + beyond)
    return [softmax_of_one() if act == activations.softmax else act for act in found]


def softmax_of_one():
    """Return s_1 of (z, 0, 0) as a function of z; its derivative is s_1 (1 - s_1) (B2)."""

    def outputs(Z):
        rows = jnp.stack([Z, jnp.zeros_like(Z), jnp.zeros_like(Z)], axis=-1)
        return activations.softmax.fn(rows)

    def derivative(Z, A):
        s = outputs(Z).reshape(-1, 3)
        first = jnp.zeros_like(s).at[:, 0].set(1)
        return activations.softmax_vjp(s, first)[:, 0].reshape(Z.shape)

    return activations.Activation("softmax", lambda Z: outputs(Z)[..., 0], derivative)


def grid(reach: float, kinks=(), far: float | None = None):
    """Return symmetric points from -reach to reach, with 0, and further points out to far.

    Each kink, and its mirror image, is replaced by a point on either side of it.
    """
    half = np.linspace(0, reach, 801)
    if far is not None:
        half = np.concatenate([half, np.geomspace(reach, far, 201)[1:]])
    kinks = np.abs(kinks)
    half = np.union1d(half[~np.isin(half, kinks)], [*(kinks - ASIDE), *(kinks + ASIDE)])
    half = half[(half >= 0) & (half <= (far or reach))]
    return np.concatenate([-half[half > 0][::-1], half])


def curve(act, z) -> Curve:
    """Return the activation at the points z."""
    return Curve(z, *map(np.asarray, jax.jit(_evaluate, static_argnums=0)(act, z)))


def _evaluate(act, z):
    A = act.fn(z)
    return A, act.derivative(z, A), jax.vmap(jax.grad(act.fn))(z)


def properties(act) -> dict[str, Any]:
    """Return D13 as numbers; inf if a value still grows from |z| = 1e3 to 1e6."""
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
    """Return the largest value; inf if it lies beyond |z| = 1e3 and is larger by 1%."""
    largest, nearer = float(values.max()), float(values[abs(z) <= 1e3].max())
    return math.inf if largest - nearer > 0.01 * max(1, abs(nearer)) else round(largest, 6)


def monotony(A) -> str:
    """Return rising, falling or no, up to rounding."""
    change, rounding = np.diff(A), 1e-12 * np.maximum(1, np.abs(A[1:]))
    if (change >= -rounding).all():
        return "rising"
    return "falling" if (change <= rounding).all() else "no"


def saturation(z, slope) -> str:
    """Return on which sides the derivative tends to 0: it is below 1e-6 for |z| above 1e4."""
    sides = {"left": z < -1e4, "right": z > 1e4}
    dying = [side for side, beyond in sides.items() if abs(slope[beyond]).max() < 1e-6]
    return "both" if len(dying) == 2 else "".join(dying) or "no"


def dead_region(z, slope) -> str:
    """Return where the derivative is exactly 0, without single points."""
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
    """Return function and derivative left of each kink, right of it, and at it."""
    rows = []
    for kink in act.kinks:
        _, A, slope, _ = curve(act, kink + np.array([-ASIDE, 0, ASIDE]))
        row = {"activation": act.name, "z": kink}
        for name, (left, at, right) in (("value", A.round(6) + 0.0), ("slope", slope)):
            row[name] = f"{left:.3g} | {right:.3g}"
            row[f"{name} at z"] = f"{at:.3g}"
        rows.append(row)
    return rows
