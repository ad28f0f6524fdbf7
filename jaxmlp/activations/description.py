"""What an activation is: a function, its derivative, and some facts about them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxmlp import named
from jaxmlp.checks import not_negative_number


@dataclasses.dataclass(frozen=True)
class Activation:
    """Describe an activation: an elementwise function and its derivative, both in JAX.

    Args:
      name: its name in tables and legends.
      fn: `fn(Z) -> A`, elementwise.
      derivative: `derivative(Z, A) -> dA/dZ`, elementwise. `A` is `fn(Z)`, saved on the way
        forward. Without it the hand-written backward pass refuses the activation.
      kinks: the places where the derivative jumps. Integrals are split there, and comparisons
        with finite differences stay away from them.
      homogeneous: whether `fn(c z) = c fn(z)` for every c > 0. If so, a forward pass may carry
        an exponent.
      asymptote: `(s, t)` if fn becomes a line of slope s for z -> -inf and of slope t for
        z -> +inf; None if it does not, as sin and z^2. With it, fn is known also for z beyond
        the range of the dtype.
      threshold: the |z| beyond which that holds to rounding in float64: the derivative is the
        slope s and `fn(z) = s z`. If s = 0, fn is a constant there, its value at any such z.
      slope: the value at which a learned slope starts; only PReLU has one. `fn` and `derivative`
        then take the slope as a last argument.

    Example:
      >>> cube = Activation("cube", lambda Z: Z**3, lambda Z, A: 3 * Z**2)
      >>> cube
      Activation('cube')
    """

    name: str
    fn: Callable = dataclasses.field(repr=False)
    derivative: Callable | None = dataclasses.field(default=None, repr=False)
    kinks: tuple[float, ...] = ()
    homogeneous: bool = False
    slope: float | None = None
    asymptote: tuple[float, float] | None = None
    threshold: float = 0.0

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise TypeError(f"an Activation's name must be a string, got {self.name!r}")
        if not callable(self.fn):
            raise TypeError(f"activation {self.name!r}: fn must be a function of Z")
        if self.derivative is not None and not callable(self.derivative):
            raise TypeError(f"activation {self.name!r}: derivative must be a function of (Z, A)")
        if self.asymptote is not None and len(self.asymptote) != 2:
            raise ValueError(
                f"activation {self.name!r}: asymptote must be two slopes, got {self.asymptote!r}"
            )
        not_negative_number(f"activation {self.name!r}: threshold", self.threshold)
        object.__setattr__(self, "kinks", tuple(float(kink) for kink in self.kinks))

    def __repr__(self):
        return f"Activation({self.name!r})"

    def __reduce__(self):
        from jaxmlp.activations.by_name import get  # it imports all Activations, and so this file

        return named.reduced(self, get)


@functools.cache
def derivative_needs_z(activation: Activation) -> bool:
    """Return whether the derivative reads Z. If not, it needs only the saved output A."""
    Z = jax.ShapeDtypeStruct((1, 1), jnp.float32)
    slope = () if activation.slope is None else (jax.ShapeDtypeStruct((), jnp.float32),)
    assert activation.derivative is not None
    jaxpr = jax.make_jaxpr(activation.derivative)(Z, Z, *slope).jaxpr
    read = [v for eqn in jaxpr.eqns for v in eqn.invars] + list(jaxpr.outvars)
    return any(v is jaxpr.invars[0] for v in read)


def steepest(act: Activation, *learned: jax.Array) -> Any:
    """Return max |act'| over |z| <= 20; with a learned slope, over z = -1 and 1."""
    assert act.derivative is not None
    if not learned:
        return _steepest(act)
    Z = jnp.asarray([-1.0, 1.0], learned[0].dtype)  # enough: PReLU's act' is constant on each side
    return jnp.max(jnp.abs(act.derivative(Z, act.fn(Z, *learned), *learned)))


@functools.cache
def _steepest(act: Activation) -> float:
    assert act.derivative is not None
    with jax.ensure_compile_time_eval():
        Z = jnp.linspace(-20, 20, 8001)  # chosen: 0.005 apart, 0 and round numbers among them
        return float(jnp.max(jnp.abs(act.derivative(Z, act.fn(Z)))))
