"""Activations by name, the arguments of a factory included: `leaky_relu:0.1`."""

from jaxmlp.activations import beyond, lecture
from jaxmlp.activations.description import Activation
from jaxmlp.checks import unknown_name

_FACTORIES = {
    "linear": lecture.linear,
    "relu": lecture.relu,
    "leaky_relu": lecture.leaky_relu,
    "elu": lecture.elu,
}
_FIXED = {
    activation.name: activation
    for activation in (
        *(lecture.step, lecture.sign, lecture.piecewise_linear, lecture.sigmoid, lecture.tanh),
        *(lecture.prelu, lecture.softplus, beyond.selu, beyond.gelu, beyond.gelu_tanh),
        *(beyond.silu, beyond.erf, beyond.sin, beyond.softsign, beyond.hard_tanh, beyond.mish),
        *(beyond.squared_relu, lecture.softmax),
    )
} | {"swish": beyond.silu}


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
      >>> get("leaky_relu:0.1") == lecture.leaky_relu(slope=0.1)
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
