"""Assertions for tests, with the certificate as their message.

They work with any test runner; importing this module does not import pytest.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.checks import integer
from jaxmlp.gradcheck import Certificate, check_grads
from jaxmlp.layer import started
from jaxmlp.mlp import MLP
from jaxmlp.objective import Objective
from jaxmlp.storage import stack

__all__ = [
    "Problem",
    "assert_grads_match",
    "assert_transform_matches",
    "assert_vjp_matches",
    "standard_problems",
]


def assert_grads_match(
    candidate: Callable,
    J: Callable,
    *args: Any,
    reference: Callable | None = None,
    rtol: float | None = None,
) -> Certificate:
    """Return the certificate of `check_grads`, or raise AssertionError with it as the message.

    Example:
      >>> _ = assert_grads_match(jnp.cos, jnp.sin, 0.5)
      >>> assert_grads_match(jnp.sin, jnp.sin, 0.5)  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      AssertionError: The gradient is wrong: gradient...
    """
    certificate = check_grads(candidate, J, *args, reference=reference, rtol=rtol)
    if not certificate.passed:
        raise AssertionError(str(certificate))
    return certificate


def assert_vjp_matches(
    f: Callable, plain_f: Callable, *args: Any, rtol: float | None = None, draws: int = 3
) -> None:
    """Assert that the custom derivative rule of f gives the vjp of plain_f.

    For random cotangents v, the vjp of f is compared with autodiff of plain_f in float64 and with
    the numeric derivative. Each array of each argument is compared relative to its largest entry,
    so tiny arrays count as much as large ones. Values are compared too.

    Args:
      f: a function with a `custom_vjp` or `custom_jvp`.
      plain_f: the same function without one.
      args: pytrees. Those without any floating array are passed on as they are.
      rtol: a tolerance instead of that of `check_grads`.
      draws: how many cotangents.

    Raises:
      AssertionError: with the certificate as its message. It names arrays by their path, the
        argument's number first.

    Example:
      >>> @jax.custom_vjp
      ... def square(x):
      ...     return x**2
      >>> square.defvjp(lambda x: (x**2, x), lambda x, v: (2 * x * v,))
      >>> assert_vjp_matches(square, lambda x: x**2, jnp.arange(3.0))
    """
    wanted = {i: arg for i, arg in enumerate(args) if _is_differentiable(arg)}
    if not wanted:
        raise TypeError("assert_vjp_matches needs an argument with floating arrays")

    def along(f: Callable) -> Callable:
        def J(wanted, cotangents):
            out = f(*(wanted.get(i, arg) for i, arg in enumerate(args)))
            return sum(map(jnp.vdot, jax.tree.leaves(out), cotangents))

        return J

    # The gradient of <f, v> is the vjp at v
    J, plain_J = along(f), along(plain_f)
    shapes = jax.tree.leaves(jax.eval_shape(plain_f, *args))
    rng = np.random.default_rng(0)
    for _ in range(integer("draws", draws, at_least=1)):
        cotangents = [jax.device_put(rng.standard_normal(s.shape).astype(s.dtype)) for s in shapes]
        candidate = jax.jit(jax.grad(J))
        assert_grads_match(candidate, J, wanted, cotangents, reference=plain_J, rtol=rtol)


def _is_differentiable(arg: Any) -> bool:
    """Return whether all arrays of an argument are floating; refuse a mixture."""
    leaves = jax.tree.leaves(arg)
    floating = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]
    if any(floating) and not all(floating):
        raise TypeError("an argument mixes floating arrays with others: give them separately")
    return any(floating)


# --- a standard set of networks -------------------------------------------------------------------


class Problem(NamedTuple):
    """Hold an objective with parameters and data."""

    name: str
    J: Objective
    params: Any
    X: jax.Array
    Y: jax.Array


_NETWORKS: tuple[tuple[str, tuple, dict, str, int], ...] = (
    ("softmax regression", (3, 4), {}, "cross_entropy", 9),
    ("one neuron, batch 1", (3, 1), {"output": "sigmoid"}, "binary_cross_entropy", 1),
    ("(2, 4, 3), relu", (2, 4, 3), {"hidden": "relu"}, "cross_entropy", 30),
    ("narrow, tanh, one output", (5, 1, 2, 1), {"hidden": "tanh", "output": "linear"}, "mse", 8),
    ("without biases", (3, 6, 6, 2), {"hidden": "sigmoid", "use_bias": False}, "cross_entropy", 7),
    ("prelu", (3, 8, 8, 3), {"hidden": "prelu"}, "cross_entropy", 16),
    (
        "mixed, softmax and squared error",
        (3, 7, 5, 7, 4),
        {"hidden": ("gelu", "leaky_relu", "softplus"), "output": "softmax"},
        "mse",
        11,
    ),
    ("40 layers, stacked", (3, *[16] * 40, 3), {"hidden": "tanh"}, "cross_entropy", 12),
    ("wide, sum of squares", (20, 64, 5), {"hidden": "elu", "output": "linear"}, "sse", 64),
)


def standard_problems(seed: int = 0) -> list[Problem]:
    """Return networks of several depths, widths, activations, losses and batch sizes.

    Example:
      >>> [problem.J.mlp.depth for problem in standard_problems()]
      [0, 0, 1, 2, 2, 2, 3, 40, 1]
    """
    return [_problem(seed, *network) for network in _NETWORKS]


def _problem(seed: int, name: str, sizes: tuple, options: dict, loss: str, m: int) -> Problem:
    """Draw a problem with NumPy. Chosen: weights of variance 1.5 / fan_in, biases of std 1/3."""
    J, rng = Objective(MLP(sizes, **options), loss), np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    layers = [
        jax.device_put(
            started(spec, draw(a, b) * (1.5 / a) ** 0.5, draw(b) / 3 if J.mlp.use_bias else None)
        )
        for a, b, spec in zip(sizes, sizes[1:], J.mlp.specs, strict=False)
    ]
    X, Y = draw(m, sizes[0]), draw(m, sizes[-1])
    if loss == "cross_entropy":
        Y = np.argmax(Y, axis=1)
    elif loss == "binary_cross_entropy":
        Y = (Y > 0).astype(X.dtype)
    return Problem(name, J, stack(layers, J.mlp), *jax.device_put((X, Y)))


def assert_transform_matches(
    transform: Callable, problems: Iterable[Problem] | None = None, rtol: float | None = None
) -> None:
    """Assert that `transform(J)` gives J's gradient for each of a set of networks.

    Args:
      transform: `transform(J)` -> a candidate for `check_grads`, like `jaxmlp.grad`.
      problems: the networks; `standard_problems()` by default.

    Raises:
      AssertionError: with the certificates of all networks that fail.

    Example:
      >>> import jaxmlp
      >>> assert_transform_matches(jaxmlp.grad, standard_problems()[:1])
    """
    failed = []
    for name, J, *args in standard_problems() if problems is None else problems:
        certificate = check_grads(transform(J), J, *args, rtol=rtol)
        if not certificate.passed:
            failed.append(f"{name}\n{certificate}")
    if failed:
        raise AssertionError("\n\n".join(failed))
