"""The panel, a record for `fit`: the gradient and the update of every layer while it learns."""

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
from jaxmlp.activations.description import steepest
from jaxmlp.layer import Layer, Saved, Spec
from jaxmlp.magnitudes import closed_shares
from jaxmlp.objective import Objective, check, divisor, mean_loss
from jaxmlp.storage import canonical, grouped_like, in_container_of
from jaxmlp.train.optimizers import as_optimizer
from jaxmlp.train.step import accuracy_of, transformed
from jaxmlp.walk import Rule


class Panel(NamedTuple):
    """Report one moment of a training. `history.record` stacks them, `(times,)` and `(times, L)`.

    step: the number of updates so far. loss, accuracy: of the panel's samples.
    Arrays of length L, layer 1 first:
    log10_delta: of the norm of each sample's own `dZ[l]`, root mean square over the samples.
    log10_gradient: of the norm of the mean loss's gradient in all parameters of the layer.
    log10_update: of |update of W| / |W|, with the update that the optimiser makes of that gradient.
    noise_scale: `sum_i |g_i - g|^2 / (m - 1) / |g|^2` of the layer's parameters, in samples; NaN
    for one sample.
    saturated, dead: as in `GradientFlow`.

    Everything is computed in the parameters' precision, in which -inf is an exact zero. If a
    layer's derivatives are too small for it, this layer and all below are NaN. `gradient_flow` can
    measure them.
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
    """Hold the reading of one layer: its mean gradient, and norms for the fields of `Panel`."""

    mean: Layer
    delta: Any
    gradient: Any
    deviation: Any
    saturated: Any
    dead: Any


def panel(
    J: Objective, optimizer: Any, *, num_samples: int | None = 256, recompute: bool = False
) -> Callable:
    """Return a record for `fit` that reports every layer. Each time it walks once.

    Args:
      J: the objective.
      optimizer: the same as in `fit`; the panel computes the update that it would make.
      num_samples: how many samples of X to use, evenly spaced; None for all.
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
        if num_samples is not None and num_samples < len(X):  # evenly spaced samples
            rows = np.arange(num_samples) * len(X) // num_samples
            X, Y = X[rows], Y[rows]
        numbers = _panel(J, optimizer, recompute, params, opt_state, X, Y)
        return Panel(np.int64(step), *numbers)

    return record


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _panel(J: Objective, optimizer, recompute: bool, params, opt_state, X, Y) -> tuple:
    # One walk
    stored, runs, reading = canonical(J.mlp.runs, params), J.mlp.runs, rule()
    (A, Z), saved, _ = walk.forward(reading, runs, stored, (X, None), recompute=recompute)
    begin = (*backprop.output_derivatives(J, Z, A, Y), A)
    _, readings = walk.backward(reading, runs, stored, saved, begin, recompute=recompute)
    value, m = mean_loss(J, Z, A, Y), len(X)

    # The gradient, and the update that the optimiser makes of it
    scale = m // divisor(J, m)  # 1, or m for a loss that is a sum
    means = [found.mean for found in readings]
    if scale > 1:
        means = jax.tree.map(lambda g: scale * g, means)
    grads = in_container_of(params, grouped_like(params, runs, means))
    updates, _ = transformed(J, optimizer, "hand", recompute, value, grads, params, opt_state, X, Y)

    # Layer by layer
    line = walk.in_line(runs, [found._replace(mean=None) for found in readings])
    weights, changes = (
        walk.in_line(runs, walk.each(runs, lambda layer: _norm(layer.W), of))
        for of in (stored, canonical(runs, tuple(updates)))  # pyright: ignore
    )
    noise = (line.deviation / line.gradient) ** 2 / (m - 1) if m > 1 else line.delta * jnp.nan
    right = _in_range(line.delta, m) & _in_range(line.gradient, m)
    right = jnp.flip(jnp.cumprod(jnp.flip(right))) > 0  # a layer is wrong if one above it is
    if_right = lambda numbers: jnp.where(right, numbers, jnp.nan)  # noqa: E731
    return (
        value, accuracy_of(J, A, Y), if_right(jnp.log10(line.delta)),
        if_right(jnp.log10(scale * line.gradient)),
        if_right(jnp.log10(changes) - jnp.log10(weights)),
        if_right(noise), line.saturated, line.dead,
    )  # fmt: skip


def rule() -> Rule:
    """Return the lecture's rule with a `Reading` of every layer on the way back."""

    def backward(spec: Spec, layer: Layer, saved: Saved, carry):
        dA, dS, A = carry
        back = arithmetic.backward(spec, layer, saved, A, dA, dS)
        # Softmax has no elementwise derivative, so it has no saturated or dead units
        shares = jnp.asarray(jnp.nan, A.dtype), jnp.asarray(jnp.nan, A.dtype)
        if spec.activation.derivative is not None:
            largest = steepest(spec.activation, *arithmetic.slopes(layer))
            shares = closed_shares(arithmetic.derivative(spec, layer, saved.U, A), largest)
        reading = Reading(*_read(*back.pair), *shares)  # pyright: ignore
        return backprop.handed_down(spec, back), reading

    return Rule(backprop.rule(lambda *_: None).forward, backward)


def _read(A, dZ, direct) -> tuple:
    """Return mean, delta, gradient and deviation of a Reading, with one product of matrices.

    With the means a and d, `a_i = a + x_i` and `dz_i = d + y_i`, the mean gradient of W is
    `a d + C`, C the mean of `x_i y_i`. Sample i's own differs from it by
    `x_i d + a y_i + x_i y_i - C`. Its squares are summed as in `readouts.deviation`.
    """
    # Scale both near 1, and subtract the means
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

    # Add the direct parameters
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
    """Return the norm of a large array; it is scaled only if its squares leave the range."""
    r, k, _ = numerics.split_norms(x)
    return jnp.ldexp(r[0], k[0])


def _in_range(norm, m: int):
    """Return whether a norm is right: 0, or so large that entries flushed to 0 do not matter."""
    limits = jnp.finfo(norm.dtype)
    # m entries below tiny have a norm of at most tiny sqrt(m): an eps of such a norm
    return (norm == 0) | (norm > limits.tiny / limits.eps * math.sqrt(m))
