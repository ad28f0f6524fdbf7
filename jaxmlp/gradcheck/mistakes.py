"""The classic mistakes of a backward pass, one table: what each makes of one step, and its mend.

A mistake sits either in one array only (`leaf`: what dW or db would be) or in the walk (`flow`:
what dZ would be, and with it everything below). Each function yields what the mistake gives.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxmlp import losses
from jaxmlp.gradcheck.naming import Arrays, split
from jaxmlp.gradcheck.tape import Record, Tape, chain, leaves


class Site(NamedTuple):
    """Where the walk stands: layer `number`, with dA come from above and the right dZ.

    dZ_above: that of layer `number + 1`, None at the output. given: the candidate's arrays.
    """

    tape: Tape
    number: int
    dA: np.ndarray
    dZ: np.ndarray
    dZ_above: np.ndarray | None
    given: Arrays

    @property
    def record(self) -> Record:
        return self.tape.records[self.number - 1]

    @property
    def above(self) -> Record:
        return self.tape.records[self.number]

    @property
    def is_output(self) -> bool:
        return self.number == len(self.tape.records)


class Flow(NamedTuple):
    """What a mistake makes of dA and dZ, and the layer whose step it sits in."""

    dA: np.ndarray
    dZ: np.ndarray
    layer: int
    step: str


class Mistake(NamedTuple):
    """A row of the table; mend may speak of layer `{l}` and the one `{below}`.

    is_factor: whether it multiplies by a number.
    """

    name: str
    mend: str
    leaf: Callable[[Site, str, np.ndarray], Iterator[np.ndarray]] | None = None
    flow: Callable[[Site], Iterator[Flow]] | None = None
    is_factor: bool = False


# --- a factor -------------------------------------------------------------------------------------


def _factor(name: str, mend: str, of: Callable[[int, int], tuple[float, ...]]) -> Mistake:
    """Arrays or steps off by a factor, which m samples and K outputs decide."""

    def factors(site: Site):
        return (f for f in of(*site.tape.Y.shape) if f != 1)

    def leaf(site: Site, name: str, right: np.ndarray):
        return (right * f for f in factors(site))

    def flow(site: Site):
        for f in factors(site):
            yield Flow(site.dA * f, site.dZ * f, site.number, f"dZ{site.number}")

    return Mistake(name, mend, leaf, flow, is_factor=True)


# --- one array ------------------------------------------------------------------------------------


def _is(name: str, field: str) -> bool:
    return split(name)[0] == field


def _transposed_leaf(site: Site, name: str, right: np.ndarray):
    if _is(name, "W"):
        yield right.T


def _wrong_A(site: Site, name: str, right: np.ndarray):
    if _is(name, "W"):
        yield site.record.A.T @ site.dZ / site.tape.divisor


def _with_axes_kept(sums: Callable[..., np.ndarray], **axis) -> Iterator[np.ndarray]:
    yield sums(**axis)
    yield sums(**axis, keepdims=True)


def _bias_not_summed(site: Site, name: str, right: np.ndarray):
    if _is(name, "b"):
        yield site.dZ
        yield site.dZ / site.tape.divisor


def _bias_wrong_axis(site: Site, name: str, right: np.ndarray):
    if _is(name, "b"):
        mean_dZ = site.dZ / site.tape.divisor
        for reduction, axis in itertools.product(
            (site.dZ.mean, site.dZ.sum, mean_dZ.sum), (1, None)
        ):
            yield from _with_axes_kept(reduction, axis=axis)


def _extra_l2(site: Site, name: str, right: np.ndarray):
    field, _ = split(name)
    given, weight = site.given[name], getattr(site.record.layer, field)
    # a constant fitted to one number would explain any of them
    if weight.size < 2 or given.shape != right.shape or not weight.any():
        return
    yield right + weight * (np.vdot(weight, given - right) / np.vdot(weight, weight))


# --- the walk -------------------------------------------------------------------------------------


def _at_own_layer(site: Site, dZ) -> Flow:
    return Flow(site.dA, dZ, site.number, f"dZ{site.number}")


def _no_derivative(site: Site):
    yield _at_own_layer(site, site.dA)


def _derivative_at_A(site: Site):
    if site.record.slope_A is not None:
        yield _at_own_layer(site, site.dA * site.record.slope_A)


def _wrong_gate(site: Site):
    hidden = range(1, len(site.tape.records))
    nearest = sorted(set(hidden) - {site.number}, key=lambda l: abs(l - site.number))[:12]
    for other in nearest if site.number in hidden else ():
        gate = site.tape.records[other - 1].slope_Z
        if gate.shape == site.dA.shape:
            yield _at_own_layer(site, site.dA * gate)


def _through(site: Site, W) -> Flow:
    """dA as another W of the layer above gives it."""
    assert site.dZ_above is not None
    dA = site.dZ_above @ W.T
    return Flow(dA, dA * site.record.slope_Z, site.number + 1, f"dA{site.number}")


def _transposed_flow(site: Site):
    if not site.is_output and len(set(site.above.layer.W.shape)) == 1:
        yield _through(site, site.above.layer.W.T)


def _updated_W(site: Site):
    """dA is affine in the learning rate: fit it here, and let the layers below verify it."""
    if site.is_output:
        return
    dW = site.above.A_prev.T @ site.dZ_above / site.tape.divisor
    step = _through(site, dW)
    right, per_rate = (
        leaves(site.tape, site.number, *walk) for walk in ((site.dA, site.dZ), (step.dA, step.dZ))
    )
    rate = _fitted_rate(site.given, right, per_rate)
    if rate > 0:
        yield _through(site, site.above.layer.W - rate * dW)


def _fitted_rate(given: Arrays, right: Arrays, per_rate: Arrays) -> float:
    """Least squares for `given = right - rate * per_rate`, each array in its own size."""
    top = bottom = 0.0
    for name, slope in per_rate.items():
        size = np.abs(right[name]).max(initial=0)
        if given[name].shape == slope.shape and size > 0:
            d, s = (given[name] - right[name]) / size, slope / size
            top, bottom = top - np.vdot(s, d), bottom + np.vdot(s, s)
    return float(top / bottom) if bottom > 0 and np.isfinite(top) else 0.0


def _wrong_loss_gradient(site: Site):
    """`A - Y` where it does not belong, or another loss's derivative, however it is taken on."""
    if not site.is_output:
        return
    record, Y = site.record, site.tape.Y
    yield _at_own_layer(site, record.A - Y)
    for dA in _derivatives_of_losses(record.A, Y):
        dA = np.asarray(dA)
        if not np.array_equal(dA, site.dA):
            for dZ in (chain(record, dA), dA, dA * record.A * (1 - record.A)):
                yield _at_own_layer(site, dZ)


@jax.jit
def _derivatives_of_losses(A, Y):
    return [losses.get(name).dA(A, Y) for name in losses.names()]


def _diagonal_jacobian(site: Site):
    if site.record.slope_Z is None:
        yield _at_own_layer(site, site.dA * site.record.A * (1 - site.record.A))


TABLE: tuple[Mistake, ...] = (
    _factor(
        "sum_not_mean",
        "too large by the number of samples: J is their mean, so divide by m, "
        "dW{l} = A{below}.T @ dZ{l} / m and db{l} = mean over the samples of dZ{l}",
        lambda m, K: (m,),
    ),
    _factor(
        "mean_twice",
        "too small by the number of samples: divide by m once, in dZ or in dW and db (and not at "
        "all where J is a sum)",
        lambda m, K: (1 / m,),
    ),
    _factor(
        "mean_over_classes",
        "the outputs are summed and the samples averaged: divide by m, and neither divide nor "
        "multiply by the number of outputs",
        lambda m, K: (K, 1 / K),
    ),
    _factor(
        "factor_2",
        "twice too large: a factor 2 that does not belong, as that of (a - y)^2 where the loss is "
        "its half or a cross-entropy",
        lambda m, K: (2.0,),
    ),
    _factor(
        "factor_half",
        "half of what it should be: the derivative of (a - y)^2 is 2 (a - y)",
        lambda m, K: (0.5,),
    ),
    _factor(
        "sign", "the sign is turned: with J's gradient dZ is A - Y, not Y - A", lambda m, K: (-1.0,)
    ),
    Mistake(
        "transposed",
        "a transpose is missing or too many: dW{l} = A{below}.T @ dZ{l} / m, and "
        "dA{below} = dZ{l} @ W{l}.T",
        _transposed_leaf,
        _transposed_flow,
    ),
    Mistake(
        "no_derivative",
        "the activation's derivative is missing: dZ{l} = dA{l} * act'(Z{l})",
        flow=_no_derivative,
    ),
    Mistake(
        "derivative_at_A",
        "the derivative is taken at A{l}: take it at Z{l}, dZ{l} = dA{l} * act'(Z{l})",
        flow=_derivative_at_A,
    ),
    Mistake(
        "updated_W",
        "W{l} was updated before it was used: compute dA{below} = dZ{l} @ W{l}.T with the W{l} of "
        "the forward pass, and update afterwards",
        flow=_updated_W,
    ),
    Mistake(
        "bias_not_summed",
        "one row for each sample is left: take their mean, db{l} = dZ{l}.mean(axis=0)",
        _bias_not_summed,
    ),
    Mistake(
        "bias_wrong_axis",
        "rows are samples, so the mean is over axis 0: db{l} = dZ{l}.mean(axis=0)",
        _bias_wrong_axis,
    ),
    Mistake(
        "wrong_loss_gradient",
        "dZ{l} is that of another loss: A - Y belongs to softmax with cross-entropy, sigmoid with "
        "binary cross-entropy and linear with half the squared error; elsewhere dZ{l} is dJ/dA{l} "
        "times the output's derivative",
        flow=_wrong_loss_gradient,
    ),
    Mistake(
        "diagonal_jacobian",
        "softmax mixes the outputs: its Jacobian is a_i (1 - a_i) on the diagonal and -a_i a_k "
        "elsewhere",
        flow=_diagonal_jacobian,
    ),
    Mistake(
        "wrong_A",
        "dW{l} needs the layer's input: dW{l} = A{below}.T @ dZ{l} / m, not A{l}.T",
        _wrong_A,
    ),
    Mistake(
        "wrong_gate",
        "the derivative is that of another layer: dZ{l} = dA{l} * act'(Z{l})",
        flow=_wrong_gate,
    ),
    Mistake(
        "extra_l2",
        "a multiple of W{l} is added: J has no L2 term, keep weight decay outside",
        _extra_l2,
    ),
)
