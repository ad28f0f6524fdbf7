"""One layer: what is fixed of it, what is learned, and its arithmetic forwards and back.

The stream S is the pre-activation itself, or, with a residual, what the layers add to:

| forwards | back, each sample's own |
|---|---|
| `Z = A_prev @ W + b` | `dU = dA * act'(U)` |
| `S = Z`, or `S_prev + alpha Z` | `dS = norm_vjp(dU)`, plus dS of the layer above it adds to |
| `U = norm(S)`, or `S` | `dZ = dS`, or `alpha dS` |
| `A = act(U)` | `dA_prev = dZ @ W.T` |

Source of the order (the weight last): K. He et al., "Identity mappings in deep residual networks",
2016; of the learned gate alpha: T. Bachlechner et al., "ReZero is all you need", 2020.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmlp.activations import Activation, derivative_needs_z
from jaxmlp.activations.choice import Choice, of_act
from jaxmlp.norms import Norm

REZERO = "rezero"


@dataclasses.dataclass(frozen=True)
class Spec:
    """Say what is fixed of a layer.

    residual: the number alpha in `S = S_prev + alpha Z`; "rezero" if alpha is the layer's own,
    learned; None for a plain layer, `S = Z`. activation: an Activation, or a Choice of several.
    """

    activation: Any
    norm: Norm | None = None
    residual: float | str | None = None

    def fields(self, use_bias: bool) -> tuple[str, ...]:
        """Name the parameters that such a layer has."""
        has = {
            "W": True,
            "b": use_bias,
            "slope": self.activation.slope is not None,
            "alpha": self.residual == REZERO,
        }
        return tuple(name for name in Layer._fields if has[name])


class Layer(NamedTuple):
    """Hold one layer's parameters, or those of n stacked layers (then with a leading n).

    W: `(d_in, d_out)`; b: `(d_out,)`, None without biases; slope: `()`, PReLU's, None elsewhere;
    alpha: `()`, ReZero's gate, None elsewhere.
    """

    W: Float[Array, "*n d_in d_out"]
    b: Float[Array, "*n d_out"] | None = None
    slope: Float[Array, "*n"] | None = None
    alpha: Float[Array, "*n"] | None = None

    def __repr__(self):
        fields = [(name, value) for name, value in self._asdict().items() if value is not None]
        if getattr(self.W, "ndim", 2) > 2:
            shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in fields)
            return f"Layer({self.W.shape[0]} layers: {shapes})"
        return f"Layer({', '.join(f'{name}={value!r}' for name, value in fields)})"


Params = tuple[Layer, ...]


def started(spec: Spec, W, b) -> Layer:
    """Return a plain or stacked layer of drawn W and b whose other parameters are at their start.

    PReLU's slope starts where its Activation says, ReZero's gate at 0.
    """
    lead = W.shape[:-2]
    slope = spec.activation.slope
    return Layer(
        W,
        b,
        None if slope is None else jnp.full(lead, slope, W.dtype),
        jnp.zeros(lead, W.dtype) if spec.residual == REZERO else None,
    )


class Pair(NamedTuple):
    """Hold all that any gradient quantity of a layer needs.

    A: what W multiplies. dZ: each sample's own derivative: sample i's gradient of W is
    `a_i (outer) dz_i`. direct: each sample's own derivative in the other parameters, `(m, ...)`,
    by name.
    """

    A: Float[Array, "m d_in"]
    dZ: Float[Array, "m d_out"]
    direct: dict[str, Array]


class Forward(NamedTuple):
    """Hold what a layer computes; r is the norm's, None without one."""

    Z: Float[Array, "m d_out"]
    S: Float[Array, "m d_out"]
    U: Float[Array, "m d_out"]
    r: Float[Array, "m 1"] | None
    A: Float[Array, "m d_out"]


class Saved(NamedTuple):
    """Hold what the way back needs of a layer.

    U `(m, d_out)`, None if act' can be taken from A alone; r `(m, 1)`, the norm's, None without;
    D `(m, d_out)`, act'(U) where it is kept itself.
    """

    A_prev: Float[Array, "m d_in"]
    U: Any
    r: Any
    D: Any = None


class Backward(NamedTuple):
    """Hold each sample's own derivatives at a layer, dA that of the layer below."""

    dU: Float[Array, "m d_out"]
    dS: Float[Array, "m d_out"]
    dA: Float[Array, "m d_in"]
    pair: Pair


def forward(spec: Spec, layer: Layer, A_prev, S_prev=None) -> Forward:
    """Pass one layer; `S_prev` is read only if the layer has a residual."""
    Z = affine(layer, A_prev)
    S = Z if spec.residual is None else S_prev + gate(spec, layer) * Z
    U, r = (S, None) if spec.norm is None else spec.norm.apply(S)
    return Forward(Z, S, U, r, spec.activation.fn(U, *slopes(layer)))


def affine(layer: Layer, A):
    """Return `A @ W + b`."""
    Z = A @ layer.W
    return Z if layer.b is None else Z + layer.b


def saved(spec: Spec, A_prev, passed: Forward) -> Saved:
    """Keep of a passed layer what `backward` reads."""
    return Saved(A_prev, passed.U if needs_U(spec) else None, passed.r)


def needs_U(spec: Spec) -> bool:
    """Whether the way back reads U, and not the output A alone."""
    act = spec.activation
    if isinstance(act, Choice):
        return True
    reads = act.derivative is not None and derivative_needs_z(act)  # softmax has none
    return reads or act.slope is not None or spec.norm is not None


def backward(spec: Spec, layer: Layer, saved: Saved, A, dA: Any, dS: Any = None) -> Backward:
    """Return each sample's own derivatives at one layer, from those above it.

    Args:
      A: the layer's output; dA: its derivative, or None where dS is all of the stream's own: the
        loss knows it at the output.
      dS: what the stream of the layer above hands down, None if that layer has no residual.
    """
    # Through the activation and the norm, onto the stream
    dU = dS
    if dA is not None:
        dU = dA * (derivative(spec, layer, saved.U, A) if saved.D is None else saved.D)
        own = dU if spec.norm is None else spec.norm.vjp(saved.U, saved.r, dU)
        dS = own if dS is None else own + dS
    # Through the weight
    alpha = gate(spec, layer)
    dZ = dS if spec.residual is None else alpha * dS
    if layer.alpha is None:
        dA_prev = through_weight(layer, dZ)
    else:
        ungated = through_weight(layer, dS)  # dalpha = dS . Z without a saved Z
        dA_prev = alpha * ungated
    # The direct parameters
    direct = {}
    if layer.b is not None:
        direct["b"] = dZ
    if layer.slope is not None:
        assert dA is not None  # no loss collapses with an activation that learns
        direct["slope"] = jnp.sum(dA * jnp.minimum(saved.U, 0), axis=-1)
    if layer.alpha is not None:
        of_b = 0 if layer.b is None else dS @ layer.b
        direct["alpha"] = jnp.sum(ungated * saved.A_prev, axis=-1) + of_b
    return Backward(dU, dS, dA_prev, Pair(saved.A_prev, dZ, direct))


def derivative(spec: Spec, layer: Layer, U, A):
    """Return act'(U), by the formula in U or in the output A."""

    def of_one(act: Activation, slopes: tuple):
        assert act.derivative is not None  # check_hand has refused it
        # a U that was not kept is not read, except perhaps for its shape
        return act.derivative(A if U is None else U, A, *slopes)

    return of_act(spec.activation, of_one, slopes(layer))


def through_weight(layer: Layer, dZ):
    """Return `dZ @ W.T`."""
    return dZ @ layer.W.T


def gate(spec: Spec, layer: Layer) -> Any:
    """Return alpha: the layer's own, a number, or 1 for a plain layer."""
    if spec.residual is None:
        return 1
    return spec.residual if layer.alpha is None else layer.alpha


def slopes(layer: Layer) -> tuple:
    """What the layer's activation takes after its own arguments: PReLU's slope, else nothing."""
    return () if layer.slope is None else (layer.slope,)
