"""Activations by name. A name may carry numbers for its factory: `leaky_relu:0.1`."""

from jaxmlp import named
from jaxmlp.activations import beyond, lecture
from jaxmlp.activations.description import Activation

_FACTORIES = (lecture.linear, lecture.relu, lecture.leaky_relu, lecture.elu)
_FIXED = (
    *(lecture.step, lecture.sign, lecture.piecewise_linear, lecture.sigmoid, lecture.tanh),
    *(lecture.prelu, lecture.softplus, beyond.selu, beyond.gelu, beyond.gelu_tanh),
    *(beyond.silu, beyond.erf, beyond.sin, beyond.softsign, beyond.hard_tanh, beyond.mish),
    *(beyond.squared_relu, lecture.softmax),
)
_KNOWN = (
    {factory.__name__: factory for factory in _FACTORIES}
    | {activation.name: activation for activation in _FIXED}
    | {"swish": beyond.silu}
)


def names() -> tuple[str, ...]:
    """Return every name that `get` knows. All can be hidden but `softmax`."""
    return tuple(_KNOWN)


def get(activation: str | Activation) -> Activation:
    """Return the activation of that name; an `Activation` is returned as it is.

    A name may carry the arguments of its factory, as on a command line: `"leaky_relu:0.1"`.

    Raises:
      ValueError: for an unknown name (a near one is suggested), for arguments that are not finite
        numbers, and for too many of them.
      TypeError: for anything else, such as a bare function.

    Example:
      >>> get("leaky_relu:0.1") == lecture.leaky_relu(slope=0.1)
      True
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        return named.look_up("activation", activation, _KNOWN)
    factory = getattr(activation, "__name__", "")
    hint = f"; call it: activations.{factory}()" if factory in _KNOWN else ""
    raise TypeError(
        f"an activation must be a name or an Activation(name, fn, derivative), "
        f"got {activation!r}{hint}"
    )
