"""Check whether a user's Loss describes its derivative truly, by central differences of its value.

Every gradient relies on `dA` and `dZ`, and the flow relies on `degree` too. The losses of this
package are not checked here, because the tests check them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import losses, named
from jaxmlp.activations import Activation, softmax, softmax_vjp
from jaxmlp.activations.checking import in_float64, rounding_of
from jaxmlp.losses import Loss

_ROWS, _MOST_ROWS = 48, 512  # chosen: the fewest and the most samples; of sample i, entry i mod K
_STEPS = 2.0 ** -np.arange(4, 32, 3)  # chosen: large for smooth losses, small for steep ones
_TOLERANCE = 1e-6  # relative; in float64 differences of smooth functions are off by 1e-9
_EXACT = 1e-12  # relative; for what must hold to rounding


def check_loss(loss: Loss, output: Activation, K: int) -> None:
    """Refuse a user's Loss whose derivative is not that of its value.

    dJ/dZ from `dA` (and the output activation's derivative) and from `dZ` is compared with central
    differences of `value` in Z, in float64, at about 50 samples of K outputs. The value of a sample
    must not depend on the other samples, and `degree` must be true. Each loss is checked once for
    each output activation and K, also under a trace. If it closes over traced values, it passes
    unchecked, because it has no numbers yet.

    Raises:
      ValueError: with the sample and both numbers.

    Example:
      >>> from jaxmlp.activations import get
      >>> half = Loss("half", lambda Z, A, Y: jnp.sum((A - Y) ** 2, axis=1), lambda A, Y: A - Y)
      >>> check_loss(half, get("linear"), 1)
      Traceback (most recent call last):
        ...
      ValueError: loss 'half': dA(A, Y) gives dJ/dZ = 4.93644 at z = [2.732927], y = [-2.20351],
      but central differences of value give 9.87287
    """
    try:
        with np.errstate(all="ignore"):  # the comparisons below treat NaN and infinity themselves
            _check(loss, output, K)
    except jax.errors.TracerArrayConversionError:
        return


@functools.cache
def _check(loss: Loss, output: Activation, K: int) -> None:
    if named.is_known(loss, losses.get):
        return
    # Random samples: logits of standard deviation 2 (chosen), away from the output's kinks
    rng = np.random.default_rng(0)
    m = min(max(_ROWS, K), _MOST_ROWS)
    Z, Y = _off(output.kinks, 2 * rng.standard_normal((m, K))), _targets(loss, rng, m, K)
    evaluate, eps = _evaluator(loss, output, Z, Y)
    values, derivatives = evaluate(Z)
    for name, found in derivatives.items():
        if values.shape != (m,) or found.shape != (m, K):
            raise ValueError(
                f"loss {loss.name!r}: value must be (m,) and {name} (m, K), but for A of shape "
                f"{(m, K)} they are {values.shape} and {found.shape}"
            )
    # What must hold
    _check_alone(loss, evaluate, Z, values)
    _compare_with_differences(loss, evaluate, Z, Y, derivatives, eps)
    if loss.degree is not None:
        _check_degree(loss, output, Z, Y, eps)


def _targets(loss: Loss, rng: np.random.Generator, m: int, K: int) -> np.ndarray:
    """Return targets of the kind that the loss takes; a third of them are one-hot."""
    one_hot = np.eye(K)[rng.integers(0, K, m)]
    soft = {
        "numbers": lambda: rng.standard_normal((m, K)),
        "probabilities": lambda: rng.uniform(size=(m, K)),
        "distribution": lambda: rng.dirichlet(np.ones(K), size=m),
    }[loss.targets]()
    return np.where(np.arange(m)[:, None] % 3 == 2, one_hot, soft)


def _off(kinks: tuple[float, ...], Z: np.ndarray) -> np.ndarray:
    """Return Z with every entry further from the output's kinks than the longest step."""
    for kink in kinks:
        near = np.abs(Z - kink) < 2 * _STEPS[0]
        Z = np.where(near, kink + np.copysign(3 * _STEPS[0], Z - kink), Z)
    return Z


def _evaluator(loss: Loss, output: Activation, Z, Y):
    """Return `evaluate(Z) -> (value, {"dA(A, Y)": dJ/dZ, ...})` in NumPy, and the eps of it."""
    learned = () if output.slope is None else (output.slope,)

    def traced(Z, Y):
        A = output.fn(Z, *learned)
        dA = loss.dA(A, Y)
        if jnp.shape(dA) != A.shape:
            raise ValueError(
                f"loss {loss.name!r}: dA must be of A's shape {A.shape}, but it is {jnp.shape(dA)}"
            )
        if output == softmax:
            derivatives = {"dA(A, Y)": softmax_vjp(A, dA)}
        else:
            derivatives = {"dA(A, Y)": dA * output.derivative(Z, A, *learned)}  # pyright: ignore
        if losses.collapses(loss, output):
            derivatives["dZ(Z, A, Y)"] = loss.dZ(Z, A, Y)  # pyright: ignore
        return loss.value(Z, A, Y), derivatives

    jitted = jax.jit(traced)

    def evaluate(Z):
        with in_float64():
            return jax.tree.map(lambda x: np.asarray(x, np.float64), jitted(Z, Y))

    return evaluate, rounding_of(traced, Z, Y)


# --- what must hold -------------------------------------------------------------------------------


def _check_alone(loss: Loss, evaluate, Z, values) -> None:
    """Refuse a loss whose values of one half of the samples change if the other half does."""
    half = len(Z) // 2
    others = np.concatenate([Z[:half], Z[half:][::-1] / 2])
    if not np.allclose(evaluate(others)[0][:half], values[:half], _EXACT, 0, equal_nan=True):
        raise ValueError(
            f"loss {loss.name!r}: the value of a sample must not depend on the other samples"
        )


def _compare_with_differences(loss: Loss, evaluate, Z, Y, derivatives, eps: float) -> None:
    """Refuse derivatives that differ from central differences; name the worst sample."""
    m, K = Z.shape
    row, column = np.arange(m), np.arange(m) % K
    e = np.eye(K)[column]
    above, below = (np.stack([evaluate(Z + s * h * e)[0] for h in _STEPS]) for s in (1, -1))
    D = (above - below) / (2 * _STEPS[:, None])
    # For each sample the best step: its difference is nearest to that of the next larger step
    rounding = eps * (np.abs(above) + np.abs(below)) / _STEPS[:, None]
    error = np.nan_to_num(np.abs(D[:-1] - D[1:]) + rounding[1:], nan=np.inf)
    best = np.argmin(error, axis=0)
    found, error = D[1:][best, row], error[best, row]
    if not np.isfinite(error).any():
        raise ValueError(f"loss {loss.name!r}: value is finite at none of {m} samples")
    # Compare where the differences are known; their error estimate may be 10 times too small
    for name, derivative in derivatives.items():
        d = derivative[row, column]
        off = np.where(np.isnan(d), np.inf, np.abs(d - found))
        wrong = np.isfinite(error) & (
            off > _TOLERANCE * np.fmax(np.abs(d), np.abs(found)) + 10 * error
        )
        if wrong.any():
            i = np.argmax(np.where(wrong, off, -1))
            z, y = (np.array2string(x[i], precision=6, threshold=6) for x in (Z, Y))
            raise ValueError(
                f"loss {loss.name!r}: {name} gives dJ/dZ = {d[i]:.6g} at z = {z}, y = {y}"
                + (f" for output {column[i]}" if K > 1 else "")
                + f", but central differences of value give {found[i]:.6g}"
            )


def _check_degree(loss: Loss, output: Activation, Z, Y, eps: float) -> None:
    """Refuse a `degree` that dA does not have."""
    assert loss.degree is not None
    learned = () if output.slope is None else (output.slope,)
    with in_float64():
        A = output.fn(jnp.asarray(Z), *learned)
        for c in (0.5, 4.0):  # chosen: a smaller and a larger factor
            scaled = np.asarray(loss.dA(c * A, c * jnp.asarray(Y)))
            line = c**loss.degree * np.asarray(loss.dA(A, jnp.asarray(Y)))
            if not np.allclose(scaled, line, 1e3 * eps, 1e3 * eps * np.abs(line).max()):
                raise ValueError(
                    f"loss {loss.name!r}: degree={loss.degree} does not hold: dA({c:g} A, {c:g} Y) "
                    f"is not {c:g}^{loss.degree} dA(A, Y)"
                )
