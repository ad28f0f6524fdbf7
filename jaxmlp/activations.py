"""Activations: each function with its hand-derived derivative beside it.

`derivative(Z, A)` is written in the saved output `A = fn(Z)` wherever that spares keeping `Z`.
At a kink every derivative follows the convention of JAX's autodiff of `fn`:

| activation | kink | derivative there |
|---|---|---|
| relu, squared_relu, prelu | 0 | the lower branch (0, 0, the slope), as `jax.nn.relu` |
| leaky_relu | 0 | the upper branch (1), as `jax.nn.leaky_relu` |
| elu, selu | 0 | the lower branch (alpha; scale * alpha), as `jax.nn.elu` and `jax.nn.selu` |
| hard_tanh | -1, 1 | 1, as `jax.nn.hard_tanh` |
| piecewise_linear | -1/2, 1/2 | 0 |
| step, sign | 0 | 0, as everywhere |
| softsign | none | smooth: 1 at 0 |
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import erf as _erf
from jax.scipy.special import erfc as _erfc

from jaxmlp.checks import unknown_name


@dataclasses.dataclass(frozen=True)
class Activation:
    """Describe an activation: an elementwise function and its derivative, both in JAX.

    Args:
      name: what tables and legends call it.
      fn: `fn(Z) -> A`, elementwise.
      derivative: `derivative(Z, A) -> dA/dZ`, elementwise; `A` is `fn(Z)`, saved on the way
        forward. Without one the hand-written backward pass refuses the activation.
      kinks: where the derivative jumps (quadrature splits there, comparisons look away).
      homogeneous: whether `fn(c z) = c fn(z)` for every c > 0, so that a forward pass may carry
        an exponent.
      slope: where a learned slope starts (PReLU alone); `fn` and `derivative` then take it as a
        last argument.

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

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise TypeError(f"an Activation's name must be a string, got {self.name!r}")
        if not callable(self.fn):
            raise TypeError(f"activation {self.name!r}: fn must be a function of Z")
        if self.derivative is not None and not callable(self.derivative):
            raise TypeError(f"activation {self.name!r}: derivative must be a function of (Z, A)")
        object.__setattr__(self, "kinks", tuple(float(kink) for kink in self.kinks))

    def __repr__(self):
        return f"Activation({self.name!r})"


@functools.cache
def reads_Z(activation: Activation) -> bool:
    """Whether the derivative needs Z, or can do with the saved output A alone."""
    Z = jax.ShapeDtypeStruct((1, 1), jnp.float32)
    slope = () if activation.slope is None else (jax.ShapeDtypeStruct((), jnp.float32),)
    assert activation.derivative is not None
    jaxpr = jax.make_jaxpr(activation.derivative)(Z, Z, *slope).jaxpr
    read = [v for eqn in jaxpr.eqns for v in eqn.invars] + list(jaxpr.outvars)
    return any(v is jaxpr.invars[0] for v in read)


# --- one function, one derivative ---------------------------------------------------------------


def _label(name: str, arguments: tuple[float, ...], defaults: tuple[float, ...]) -> str:
    """The name `get` reads back: `leaky_relu`, `leaky_relu:0.1`, `linear:2:-1`."""
    while arguments and arguments[-1] == defaults[len(arguments) - 1]:
        arguments = arguments[:-1]
    return ":".join([name, *(str(value).removesuffix(".0") for value in arguments)])


def linear(a: float = 1.0, b: float = 0.0) -> Activation:
    """Return `a z + b`, derivative `a` (D1); the identity by default."""
    return _linear(_finite("a", a), _finite("b", b))


@functools.cache
def _linear(a: float, b: float) -> Activation:
    if (a, b) == (1.0, 0.0):
        return Activation("linear", lambda Z: Z, lambda Z, A: jnp.ones_like(A), homogeneous=True)
    return Activation(
        _label("linear", (a, b), (1.0, 0.0)),
        lambda Z: a * Z + b,
        lambda Z, A: jnp.full_like(A, a),
        homogeneous=b == 0.0,
    )


# D2, D3: nothing learns through these; the derivative is 0 everywhere, also at the jump.
step = Activation("step", lambda Z: jnp.heaviside(Z, 0.5), lambda Z, A: jnp.zeros_like(A), (0,))
sign = Activation("sign", jnp.sign, lambda Z, A: jnp.zeros_like(A), (0,))

# D4
piecewise_linear = Activation(
    "piecewise_linear",
    lambda Z: jnp.where(Z <= -0.5, 0, jnp.where(Z >= 0.5, 1, Z + 0.5)).astype(Z.dtype),
    lambda Z, A: (jnp.abs(Z) < 0.5).astype(Z.dtype),
    kinks=(-0.5, 0.5),
)

# D5: at most 1/4, at z = 0.
sigmoid = Activation("sigmoid", jax.nn.sigmoid, lambda Z, A: A * (1 - A))

# D6: 1 - A^2 factored, so that nothing cancels near |A| = 1.
tanh = Activation("tanh", jnp.tanh, lambda Z, A: (1 - A) * (1 + A))


def relu(threshold: float = 0.0) -> Activation:
    """Return `z` if `z > T` else 0, derivative 1 or 0 (D7); at `z = T` both are 0."""
    return _relu(_finite("threshold", threshold))


@functools.cache
def _relu(T: float) -> Activation:
    if T == 0.0:
        gate = lambda Z, A: (A > 0).astype(A.dtype)  # noqa: E731
        return Activation("relu", jax.nn.relu, gate, (0,), homogeneous=True)
    return Activation(
        _label("relu", (T,), (0.0,)),
        lambda Z: jnp.where(Z > T, Z, 0),
        lambda Z, A: (Z > T).astype(Z.dtype),
        kinks=(T,),
    )


def leaky_relu(slope: float = 0.01, threshold: float = 0.0) -> Activation:
    """Return `z` if `z >= T` else `s z`, derivative 1 or s (D8).

    The notes write `z > T`; the convention here is that of `jax.nn.leaky_relu`. At T = 0 the
    functions are the same and only the derivative at exactly 0 differs (1 here).
    """
    return _leaky_relu(_finite("slope", slope), _finite("threshold", threshold))


@functools.cache
def _leaky_relu(s: float, T: float) -> Activation:
    # With T = 0 and s > 0 the sign of A tells the side, and Z need not be kept.
    upper = (lambda Z, A: A >= 0) if T == 0.0 and s > 0 else (lambda Z, A: Z >= T)
    return Activation(
        _label("leaky_relu", (s, T), (0.01, 0.0)),
        lambda Z: jnp.where(Z >= T, Z, s * Z),
        lambda Z, A: jnp.where(upper(Z, A), 1, s).astype(A.dtype),
        kinks=(T,),
        homogeneous=T == 0.0,
    )


# D9: in z, 1 or alpha; in alpha, min(z, 0), which the walk sums over the layer's units.
prelu = Activation(
    "prelu",
    lambda Z, slope=0.25: jnp.where(Z > 0, Z, slope * Z),
    lambda Z, A, slope=0.25: jnp.where(Z > 0, 1, slope).astype(Z.dtype),
    kinks=(0,),
    homogeneous=True,
    slope=0.25,
)


def elu(alpha: float = 1.0) -> Activation:
    """Return `alpha (e^z - 1)` below 0, `z` above; derivative `A + alpha` or 1 (D10)."""
    return _elu(_finite("alpha", alpha))


@functools.cache
def _elu(alpha: float) -> Activation:
    # With alpha < 0 the sign of A does not tell the side, so the gate reads Z.
    gate = (lambda Z, A: A > 0) if alpha > 0 else (lambda Z, A: Z > 0)
    return Activation(
        _label("elu", (alpha,), (1.0,)),
        lambda Z: jax.nn.elu(Z, alpha),
        lambda Z, A: jnp.where(gate(Z, A), 1, A + alpha),
        kinks=() if alpha == 1.0 else (0,),
    )


# D11: sigmoid(z) = 1 - e^-A, exact also where A is tiny.
softplus = Activation("softplus", jax.nn.softplus, lambda Z, A: -jnp.expm1(-A))

# D12: not elementwise; its Jacobian stands in losses.py. Output layers only.
softmax = Activation("softmax", jax.nn.softmax)

# --- beyond the notes -----------------------------------------------------------------------------

# Klambauer et al. 2017, "Self-normalizing neural networks"
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
selu = Activation(
    "selu",
    jax.nn.selu,
    lambda Z, A: jnp.where(A > 0, _SELU_SCALE, A + _SELU_SCALE * _SELU_ALPHA).astype(A.dtype),
    kinks=(0,),
)


def _normal_cdf(Z):
    return _erfc(-Z / math.sqrt(2)) / 2


def _normal_pdf(Z):
    return jnp.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi)


# Hendrycks & Gimpel 2016, "Gaussian error linear units"; exact, then with tanh(u),
# u = sqrt(2/pi) (z + 0.044715 z^3).
gelu = Activation(
    "gelu",
    functools.partial(jax.nn.gelu, approximate=False),
    lambda Z, A: _normal_cdf(Z) + Z * _normal_pdf(Z),
)


def _d_gelu_tanh(Z, A):
    c = math.sqrt(2 / math.pi)
    t = jnp.tanh(c * (Z + 0.044715 * Z**3))
    return (1 + t) / 2 + Z * (1 - t) * (1 + t) / 2 * c * (1 + 3 * 0.044715 * Z**2)


gelu_tanh = Activation("gelu_tanh", functools.partial(jax.nn.gelu, approximate=True), _d_gelu_tanh)


def _d_silu(Z, A):
    s = jax.nn.sigmoid(Z)
    return s + A * (1 - s)


silu = Activation("silu", jax.nn.silu, _d_silu)

erf = Activation("erf", _erf, lambda Z, A: 2 / math.sqrt(math.pi) * jnp.exp(-(Z**2)))
sin = Activation("sin", jnp.sin, lambda Z, A: jnp.cos(Z))
softsign = Activation("softsign", jax.nn.soft_sign, lambda Z, A: (1 - jnp.abs(A)) ** 2)
hard_tanh = Activation(
    "hard_tanh",
    jax.nn.hard_tanh,
    lambda Z, A: (jnp.abs(Z) <= 1).astype(Z.dtype),
    kinks=(-1, 1),
)


def _d_mish(Z, A):
    t = jnp.tanh(jax.nn.softplus(Z))
    return t + Z * (1 - t) * (1 + t) * jax.nn.sigmoid(Z)


mish = Activation("mish", jax.nn.mish, _d_mish)
squared_relu = Activation(
    "squared_relu", lambda Z: jax.nn.relu(Z) ** 2, lambda Z, A: 2 * jax.nn.relu(Z)
)

# --- by name --------------------------------------------------------------------------------------

_FACTORIES = {"linear": linear, "relu": relu, "leaky_relu": leaky_relu, "elu": elu}
_FIXED = {
    activation.name: activation
    for activation in (
        step, sign, piecewise_linear, sigmoid, tanh, prelu, softplus, selu, gelu, gelu_tanh,
        silu, erf, sin, softsign, hard_tanh, mish, squared_relu, softmax,
    )
} | {"swish": silu}  # fmt: skip


def names() -> tuple[str, ...]:
    """Return every name that `get` knows, `softmax` (an output) included."""
    return (*_FACTORIES, *_FIXED)


def get(activation: str | Activation) -> Activation:
    """Return the activation of that name; an `Activation` comes back as it is.

    A name may carry the arguments of its factory, as on a command line: `"leaky_relu:0.1"`.

    Raises:
      ValueError: for a name that is unknown (the nearest is suggested).
      TypeError: for anything else, such as a bare function.

    Example:
      >>> get("leaky_relu:0.1") == leaky_relu(slope=0.1)
      True
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str):
        factory = getattr(activation, "__name__", "")
        hint = f"; call it: activations.{factory}()" if factory in _FACTORIES else ""
        raise TypeError(
            f"an activation must be a name or an Activation(name, fn, derivative), "
            f"got {activation!r}{hint}"
        )
    name, *arguments = activation.split(":")
    if name in _FACTORIES:
        try:
            return _FACTORIES[name](*map(float, arguments))
        except (TypeError, ValueError):
            raise ValueError(f"activation {activation!r}: expected numbers after {name}") from None
    if name not in _FIXED:
        raise unknown_name("activation", name, names())
    if arguments:
        raise ValueError(f"activation {name!r} takes no arguments, got {activation!r}")
    return _FIXED[name]


def _finite(name: str, value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value}")
    return number
