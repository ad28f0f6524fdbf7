"""One layer: what is fixed (`Spec`), what is learned (`Layer`), and its arithmetic both ways.

The stream S is the pre-activation Z. If layers have a residual, S is the sum that each of them adds
to. Derivatives are each sample's own, of its own loss:

| forwards | back |
|---|---|
| `Z = A_prev @ W + b` | `dU = dA * act'(U)` |
| `S = Z`, with a residual `S_prev + alpha Z` | `dS = norm_vjp(dU)` + dS of a residual layer above |
| `U = S`, with a norm `norm(S)` | `dZ = dS`, with a residual `alpha dS` |
| `A = act(U)` | `dA_prev = dZ @ W.T` |

That the weight comes last in a residual layer is the order of K. He et al., "Identity mappings in
deep residual networks", 2016. The learned gate alpha is that of T. Bachlechner et al., "ReZero is
all you need", 2020.
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
    """Say what is fixed in a layer.

    activation: an Activation, or a Choice of several.
    norm: the Norm before the activation; None without one.
    residual: the number alpha in `S = S_prev + alpha Z`; "rezero" if the layer learns its alpha;
    None if `S = Z`.
    """

    activation: Any
    norm: Norm | None = None
    residual: float | str | None = None

    def fields(self, use_bias: bool) -> tuple[str, ...]:
        """Return the names of the parameters that such a layer has."""
        has = {
            "W": True,
            "b": use_bias,
            "slope": self.activation.slope is not None,
            "alpha": self.residual == REZERO,
        }
        return tuple(name for name in Layer._fields if has[name])


class Layer(NamedTuple):
    """Hold the parameters of one layer, or those of n stacked layers; their arrays lead with n.

    W: `(d_in, d_out)`. b: `(d_out,)`, None without biases. slope: `()`, PReLU's, else None.
    alpha: `()`, ReZero's gate, else None.
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
    """Return a plain or stacked layer with these W and b, and slope and gate at their start.

    PReLU's slope starts at its Activation's `slope`, ReZero's gate alpha at 0.
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
    """Hold the two arrays from which every gradient quantity of a layer is computed.

    A: the input that W multiplies. dZ: each sample's own derivative in Z. Sample i's gradient in W
    is `a_i (outer) dz_i`. direct: each sample's own derivatives in the layer's other parameters,
    `(m, ...)`, by name.
    """

    A: Float[Array, "m d_in"]
    dZ: Float[Array, "m d_out"]
    direct: dict[str, Array]


class Forward(NamedTuple):
    """Hold what a layer computes on the way forward. r is what the norm returns, else None."""

    Z: Float[Array, "m d_out"]
    S: Float[Array, "m d_out"]
    U: Float[Array, "m d_out"]
    r: Float[Array, "m 1"] | None
    A: Float[Array, "m d_out"]


class Saved(NamedTuple):
    """Hold what the way back needs from the way forward.

    U: `(m, d_out)`, None if act' can be computed from A alone. r: `(m, 1)`, what the norm
    returned, else None. D: `(m, d_out)`, act'(U), if the way forward has already computed it.
    """

    A_prev: Float[Array, "m d_in"]
    U: Any
    r: Any
    D: Any = None


class Backward(NamedTuple):
    """Hold each sample's own derivatives at a layer; dA is that in its input A_prev."""

    dU: Float[Array, "m d_out"]
    dS: Float[Array, "m d_out"]
    dA: Float[Array, "m d_in"]
    pair: Pair


def forward(spec: Spec, layer: Layer, A_prev, S_prev=None) -> Forward:
    """Compute one layer. `S_prev` is read only if the layer has a residual."""
    Z = affine(layer, A_prev)
    S = Z if spec.residual is None else S_prev + gate(spec, layer) * Z
    U, r = (S, None) if spec.norm is None else spec.norm.apply(S)
    return Forward(Z, S, U, r, spec.activation.fn(U, *slopes(layer)))


def affine(layer: Layer, A):
    """Return `A @ W + b`."""
    Z = A @ layer.W
    return Z if layer.b is None else Z + layer.b


def saved(spec: Spec, A_prev, passed: Forward) -> Saved:
    """Return what `backward` reads of a layer that was passed forwards."""
    return Saved(A_prev, passed.U if needs_U(spec) else None, passed.r)


def needs_U(spec: Spec) -> bool:
    """Return whether the way back reads U. If not, the output A is enough."""
    act = spec.activation
    if isinstance(act, Choice):
        return True
    reads = act.derivative is not None and derivative_needs_z(act)  # softmax has none
    return reads or act.slope is not None or spec.norm is not None


def backward(spec: Spec, layer: Layer, saved: Saved, A, dA: Any, dS: Any = None) -> Backward:
    """Return each sample's own derivatives at one layer.

    Args:
      A: the layer's output. dA: the derivative in it; None at the output layer if the loss gives
        the derivative in its Z, which is then passed as dS.
      dS: the derivative of the stream that a residual layer above adds; None without one.
    """
    # Back through the activation and the norm to the stream
    dU = dS
    if dA is not None:
        dU = dA * (derivative(spec, layer, saved.U, A) if saved.D is None else saved.D)
        from_U = dU if spec.norm is None else spec.norm.vjp(saved.U, saved.r, dU)
        dS = from_U if dS is None else from_U + dS
    # Back through the weight
    alpha = gate(spec, layer)
    dZ = dS if spec.residual is None else alpha * dS
    if layer.alpha is None:
        dA_prev = through_weight(layer, dZ)
    else:
        ungated = through_weight(layer, dS)
        dA_prev = alpha * ungated
    # The direct parameters
    direct = {}
    if layer.b is not None:
        direct["b"] = dZ
    if layer.slope is not None:
        assert dA is not None  # no loss gives dZ directly for an activation that learns a slope
        direct["slope"] = jnp.sum(dA * jnp.minimum(saved.U, 0), axis=-1)
    if (
        layer.alpha is not None
    ):  # dS . Z, and Z is not saved: dS . (A W + b) = (dS W.T) . A + dS . b
        bias_part = 0 if layer.b is None else dS @ layer.b
        direct["alpha"] = jnp.sum(ungated * saved.A_prev, axis=-1) + bias_part
    return Backward(dU, dS, dA_prev, Pair(saved.A_prev, dZ, direct))


def derivative(spec: Spec, layer: Layer, U, A):
    """Return act'(U). Its formula reads U or the output A."""

    def of_one(act: Activation, slopes: tuple):
        assert act.derivative is not None  # check_hand has refused it
        # If U was not kept, its values are not read, and A has its shape
        return act.derivative(A if U is None else U, A, *slopes)

    return of_act(spec.activation, of_one, slopes(layer))


def through_weight(layer: Layer, dZ):
    """Return `dZ @ W.T`."""
    return dZ @ layer.W.T


def gate(spec: Spec, layer: Layer) -> Any:
    """Return alpha: 1 for a plain layer, the fixed number, or what the layer has learned."""
    if spec.residual is None:
        return 1
    return spec.residual if layer.alpha is None else layer.alpha


def slopes(layer: Layer) -> tuple:
    """Return the further arguments of the layer's activation: `(slope,)` for PReLU, else ()."""
    return () if layer.slope is None else (layer.slope,)
