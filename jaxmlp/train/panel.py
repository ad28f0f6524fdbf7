"""The panel: what one walk says of every layer while a network learns, as a record for `fit`."""

import csv
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import backprop, checks, numerics, walk
from jaxmlp import layer as arithmetic
from jaxmlp.layer import Layer, Saved, Spec
from jaxmlp.magnitudes import closed_shares, steepest
from jaxmlp.objective import Objective, check, divisor, mean_loss
from jaxmlp.storage import canonical, grouped_like, in_container_of
from jaxmlp.train.optimizers import as_optimizer
from jaxmlp.train.step import accuracy_of, transformed
from jaxmlp.walk import Rule


class Panel(NamedTuple):
    """Report a moment of training; `history.record` stacks them, `(times,)` and `(times, L)`.

    step: updates done. loss, accuracy: of the panel's samples, before the next update.
    Arrays of length L, layer 1 first:
    log10_delta: rms over the samples of the norm of each sample's own `dZ[l]`.
    log10_gradient: norm of the mean loss's gradient in all parameters of the layer.
    log10_update: norm of the update of W that the optimiser makes of that gradient, over |W|.
    noise_scale: `sum_i |g_i - g|^2 / (m - 1) / |g|^2` of the layer's parameters, in samples; NaN
    for one sample.
    saturated, dead: as in `GradientFlow`.

    The numbers are those of the parameters' precision: -inf is an exact zero in it. A layer whose
    derivatives are too small to be right in it is NaN, and so are those below; `gradient_flow`
    measures them.
    """

    step: Any
    loss: Any
    accuracy: Any
    log10_delta: Any
    log10_gradient: Any
    log10_update: Any
    noise_scale: Any
    saturated: Any
    dead: Any

    def records(self) -> list[dict[str, Any]]:
        """Return one dict for each moment and layer."""
        numbers = {name: np.atleast_1d(column) for name, column in self._asdict().items()}
        layers = {name: np.atleast_2d(x) for name, x in numbers.items() if name in OF_LAYERS}
        scalars = {name: x for name, x in numbers.items() if name not in OF_LAYERS}
        times, L = layers["log10_delta"].shape
        return [
            {
                **{name: x[t].item() for name, x in scalars.items()},
                "layer": l + 1,
                **{name: x[t, l].item() for name, x in layers.items()},
            }
            for t in range(times)
            for l in range(L)
        ]

    def to_csv(self, path: str | Path) -> Path:
        """Write the records with a header line; return the path."""
        rows = self.records()
        with Path(path).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return Path(path)


OF_LAYERS = Panel._fields[3:]


class Reading(NamedTuple):
    """Hold what is read of one layer: its mean gradient and norms; see `Panel`."""

    mean: Layer
    delta: Any
    gradient: Any
    deviation: Any
    saturated: Any
    dead: Any


def panel(
    J: Objective, optimizer: Any, *, num_samples: int | None = 256, recompute: bool = False
) -> Callable:
    """Return a record for `fit` that reports every layer, from one walk of its own.

    Args:
      J: the objective.
      optimizer: the one of `fit`; the panel shows what it would make of the gradient.
      num_samples: evenly spaced samples of X to look at; None for all.
      recompute: as in `fit`.

    Returns:
      `record(params, X, Y, opt_state, step)` -> `Panel`.

    Example:
      >>> import jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 8, 8, 3), hidden="tanh"), "cross_entropy")
      >>> X, Y = jaxmlp.datasets.spiral()[:2]
      >>> _, history = jaxmlp.fit(J, J.mlp.init(jax.random.key(0)), X.astype("float32"), Y,
      ...                         optimizer=0.1, epochs=10, record=panel(J, 0.1), every=5)
      >>> history.record.step.tolist(), history.record.log10_update.shape
      ([5, 10], (2, 3))
    """
    backprop.check_hand(J)
    optimizer = as_optimizer(optimizer)
    if num_samples is not None:
        num_samples = checks.integer("num_samples", num_samples, at_least=1)

    def record(params, X, Y, opt_state, step):
        params, X, Y = check(J, params, X, Y)
        if num_samples is not None and num_samples < len(X):
            rows = np.arange(num_samples) * len(X) // num_samples
            X, Y = X[rows], Y[rows]
        numbers = _panel(J, optimizer, recompute, params, opt_state, X, Y)
        return Panel(np.int64(step), *numbers)

    return record


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _panel(J: Objective, optimizer, recompute: bool, params, opt_state, X, Y) -> tuple:
    # One walk
    own, runs, one = canonical(J.mlp.runs, params), J.mlp.runs, rule()
    (A, Z), saved, _ = walk.forward(one, runs, own, (X, None), recompute=recompute)
    top = (*backprop.output_derivatives(J, Z, A, Y), A)
    _, readings = walk.backward(one, runs, own, saved, top, recompute=recompute)
    value, m = mean_loss(J, Z, A, Y), len(X)

    # The gradient, and what the optimiser makes of it
    scale = m // divisor(J, m)  # m for a loss that is a sum
    means = [reading.mean for reading in readings]
    if scale > 1:
        means = jax.tree.map(lambda g: scale * g, means)
    grads = in_container_of(params, grouped_like(params, runs, means))
    updates, _ = transformed(J, optimizer, "hand", recompute, value, grads, params, opt_state, X, Y)

    # Layer by layer
    line = walk.in_line(runs, [reading._replace(mean=None) for reading in readings])
    weights, changes = (
        walk.in_line(runs, walk.each(runs, lambda layer: _norm(layer.W), of))
        for of in (own, canonical(runs, tuple(updates)))  # pyright: ignore
    )
    noise = (line.deviation / line.gradient) ** 2 / (m - 1) if m > 1 else line.delta * jnp.nan
    right = _in_range(line.delta, m) & _in_range(line.gradient, m)
    right = jnp.flip(jnp.cumprod(jnp.flip(right))) > 0  # nor are the layers below one that is not
    told = lambda numbers: jnp.where(right, numbers, jnp.nan)  # noqa: E731
    return (
        value, accuracy_of(J, A, Y), told(jnp.log10(line.delta)),
        told(jnp.log10(scale * line.gradient)), told(jnp.log10(changes) - jnp.log10(weights)),
        told(noise), line.saturated, line.dead,
    )  # fmt: skip


def rule() -> Rule:
    """Return the lecture's rule, which reads a `Reading` at every layer on the way back."""

    def backward(spec: Spec, layer: Layer, saved: Saved, carry):
        dA, dS, A = carry
        back = arithmetic.backward(spec, layer, saved, A, dA, dS)
        # softmax has no elementwise derivative, so no share of its units is closed
        shares = jnp.asarray(jnp.nan, A.dtype), jnp.asarray(jnp.nan, A.dtype)
        if spec.activation.derivative is not None:
            largest = steepest(spec.activation, *arithmetic.slopes(layer))
            shares = closed_shares(arithmetic.derivative(spec, layer, saved.U, A), largest)
        reading = Reading(*_read(*back.pair), *shares)  # pyright: ignore
        return backprop.handed_down(spec, back), reading

    return Rule(backprop.rule(lambda *_: None).forward, backward)


def _read(A, dZ, direct) -> tuple:
    """Return the first numbers of a Reading, with one product of matrices.

    With `a_i = a + x_i` and `dz_i = d + y_i` the mean gradient of W is `a d + C`, C the mean of
    `x_i y_i`, and sample i's own is off it by `x_i d + a y_i + x_i y_i - C`, whose squares are
    summed term by term, as in `readouts.deviation`.
    """
    # Centre both, near 1
    m, dtype = len(A), dZ.dtype
    A, dZ = (x.astype(jnp.promote_types(dtype, jnp.float32)) for x in (A, dZ))
    s, t = (jnp.squeeze(numerics.power_of_two_scale(x)) for x in (A, dZ))
    over_samples, A, dZ = jnp.ones(m, A.dtype), s * A, t * dZ  # sums are products, which are fast
    a, d = over_samples @ A / m, over_samples @ dZ / m
    X, Y = A - a, dZ - d
    C = X.T @ Y / m

    # Sums over the samples
    xx, xa = (X * X) @ jnp.ones(len(a), A.dtype), X @ a
    yy, yd = (Y * Y) @ jnp.ones(len(d), A.dtype), Y @ d
    terms = xx * (d @ d) + (a @ a) * yy + xx * yy + 2 * (xa * yd + xx * yd + xa * yy)
    deviation = jnp.sqrt(jnp.maximum(jnp.sum(terms) - m * jnp.vdot(C, C), 0)) / s / t
    delta = jnp.sqrt(jnp.sum(yy) / m + d @ d) / t

    # With the other parameters
    means, off = {"W": (C + a[:, None] * d) / s / t}, [deviation]
    for name, each in direct.items():
        each = each.astype(A.dtype)
        means[name] = jnp.mean(each, axis=0) if name != "b" else d / t
        off.append(numerics.norm(each - means[name]) if name != "b" else
                   jnp.sqrt(jnp.sum(yy)) / t)  # fmt: skip
    gradient = numerics.norm(jnp.stack([_norm(mean) for mean in means.values()]))
    mean = Layer(**{name: mean.astype(dtype) for name, mean in means.items()})
    return mean, delta, gradient, numerics.norm(jnp.stack(off))


def _norm(x):
    """Return |x| of a large array, cheaply and without squaring what leaves the range."""
    r, k, _ = numerics.split_norms(x)
    return jnp.ldexp(r[0], k[0])


def _in_range(norm, m: int):
    """Whether a norm is 0, or so far above the smallest number that what was flushed is nothing."""
    limits = jnp.finfo(norm.dtype)
    return (norm == 0) | (norm > limits.tiny / limits.eps * math.sqrt(m))
