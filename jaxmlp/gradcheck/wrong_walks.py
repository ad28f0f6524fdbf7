"""Mistakes in the walk: what dA or dZ would be, and with them everything below."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp import activations, losses
from jaxmlp.gradcheck.mistake import Flow, Site, at_own_layer, through
from jaxmlp.gradcheck.naming import Arrays
from jaxmlp.gradcheck.tape import (
    Back,
    elementwise,
    flat_calls,
    leaves,
    onto_stream,
    through_activation,
)
from jaxmlp.gradcheck.wrong_arrays import orders

# of a step, in common use; a rate that fits is searched for where the derivative is linear in it
RATES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001, 1e-4)

# --- dZ = dA * act'(Z) ----------------------------------------------------------------------------


def no_derivative(site: Site):
    yield at_own_layer(site, site.dA)


def derivative_at_A(site: Site):
    if site.record.prime_A is not None:
        yield at_own_layer(site, site.dA * site.record.prime_A)


def derivative_twice(site: Site):
    if site.record.prime is not None:
        yield at_own_layer(site, site.dA * site.record.prime**2)


def A_for_derivative(site: Site):
    yield at_own_layer(site, site.dA * site.record.A, {"what": f"A{site.number} itself"})
    yield at_own_layer(site, site.dA * site.record.Z, {"what": f"Z{site.number} itself"})


def gate_of_dA(site: Site):
    act, layer = site.record.spec.activation, site.record.layer
    if site.record.prime is not None:
        yield at_own_layer(site, site.dA * elementwise(act, layer, site.dA)[1])
    yield at_own_layer(site, site.dA * (site.dA > 0))


def wrong_gate(site: Site):
    hidden = range(1, len(site.tape.records))
    nearest = sorted(set(hidden) - {site.number}, key=lambda l: abs(l - site.number))[:12]
    for other in nearest if site.number in hidden else ():
        gate = site.tape.records[other - 1].prime
        if gate.shape == site.dA.shape:
            yield at_own_layer(site, site.dA * gate)


def stale_Z(site: Site):
    """act' at the Z of weights that one step of gradient descent has moved, there or back."""
    record = site.record
    if record.prime is None:
        return
    found = leaves(site.tape, site.number, site.back)
    dZ = record.A_prev @ found[f"W{site.number}"] + found.get(f"b{site.number}", 0.0)
    rates = np.array([*RATES, *(-rate for rate in RATES)])
    moved = record.U - rates[:, None, None] * dZ
    primes: Any = elementwise(record.spec.activation, record.layer, moved)[1]
    for rate, prime in zip(rates, primes, strict=True):
        yield at_own_layer(site, site.dA * prime, {"rate": f"{abs(rate):g}"})


def of_Z(site: Site):
    """The formula in A, taken of Z: 1 - Z^2."""
    if site.record.prime is not None:
        yield from _slopes(site, own=True)


def other_derivative(site: Site):
    if site.record.prime is not None:
        yield from _slopes(site, own=False)


def _slopes(site: Site, own: bool) -> Iterator[Flow]:
    record = site.record
    found = flat_calls(_all_slopes, record.U, record.A)
    for act, slopes in zip(OTHERS, found, strict=True):
        if (act == record.spec.activation) == own:
            words = {"other": act.name, "own": record.spec.activation.name}
            for slope in slopes[2:] if own else slopes:
                yield at_own_layer(site, site.dA * slope, words)


OTHERS = tuple(
    {
        act.name: act
        for act in map(activations.get, (*activations.names(), "leaky_relu:0.1", "leaky_relu:0.2"))
        if act != activations.softmax
    }.values()
)


@jax.jit
def _all_slopes(Z, A):
    """Every activation's derivative: of its own output, by its formula of A, and that of Z."""
    found = []
    for act in OTHERS:
        assert act.derivative is not None
        found.append([act.derivative(Z, output) for output in (act.fn(Z), A, Z)])
    return jnp.asarray(found)


# --- dA[l-1] = dZ[l] @ W[l].T ---------------------------------------------------------------------


def transposed_W(site: Site):
    if site.dZ_above is not None and len(set(site.above.layer.W.shape)) == 1:
        yield through(site, site.dZ_above @ site.above.layer.W)


def dA_for_dZ(site: Site):
    if site.dA_above is not None:
        yield through(site, site.dA_above @ site.above.layer.W.T)


def other_W(site: Site):
    if site.dZ_above is None:
        return
    right = site.above.layer.W
    for number, record in enumerate(site.tape.records, start=1):
        W = record.layer.W
        if number != site.number + 1 and W.shape == right.shape:
            near = {-1: "the layer below", 1: "the layer above"}
            words = near.get(number - site.number - 1, f"layer {number}")
            yield through(site, site.dZ_above @ W.T, {"other": words})


def updated_W(site: Site):
    """dA is affine in the learning rate: fit it here, and let the layers below verify it."""
    if site.dZ_above is None:
        return
    dW = site.above.A_prev.T @ site.dZ_above / site.tape.divisor
    # What dA is linear in: no skip goes with it
    moved = site.dZ_above @ dW.T
    per_rate = onto_stream(site.record, moved, moved * site.record.prime, None)
    right, per_rate = (leaves(site.tape, site.number, back) for back in (site.back, per_rate))
    rate = _fitted_rate(site.given, right, per_rate)
    if rate > 0:
        yield through(site, site.dZ_above @ (site.above.layer.W - rate * dW).T)


def _fitted_rate(given: Arrays, right: Arrays, per_rate: Arrays) -> float:
    """Least squares for `given = right - rate * per_rate`, each array in its own size."""
    top = bottom = 0.0
    for name, slope in per_rate.items():
        size, own = np.abs(right[name]).max(initial=0), given.get(name)
        if own is not None and own.shape == slope.shape and size > 0:
            d, s = (own - right[name]) / size, slope / size
            top, bottom = top - np.vdot(s, d), bottom + np.vdot(s, s)
    return float(top / bottom) if bottom > 0 and np.isfinite(top) else 0.0


def rows_moved(site: Site):
    for order, rows in orders(len(site.dZ)):
        yield _in_order(site, rows, order)
    given = site.steps.get(f"dZ{site.number}")
    if given is not None and given.shape == site.dZ.shape and len(given) > 1:
        # the rows that were given, whatever their order, if they are the right ones
        rows, own = (np.lexsort(np.round(x / np.abs(x).max(), 9).T) for x in (given, site.dZ))
        yield _in_order(site, own[np.argsort(rows)], "in another order")


def _in_order(site: Site, rows: np.ndarray, order: str) -> Flow:
    dA, *others = site.back
    back = Back(dA, *(x[rows] for x in others))
    return Flow(back, site.number, f"dZ{site.number}", {"order": order})


# --- the loss's derivative ------------------------------------------------------------------------


def wrong_loss_gradient(site: Site):
    """`A - Y` where it does not belong, or another loss's derivative, however it is taken on."""
    if not site.is_output:
        return
    record, Y = site.record, site.tape.Y
    yield at_own_layer(site, record.A - Y)
    for dA in _derivatives_of_losses(record.A, Y):
        dA = np.asarray(dA)
        if not np.array_equal(dA, site.dA):
            for dZ in (through_activation(record, dA), dA, dA * record.A * (1 - record.A)):
                yield at_own_layer(site, dZ)


@jax.jit
def _derivatives_of_losses(A, Y):
    return [losses.get(name).dA(A, Y) for name in losses.names()]


def wrong_residual(site: Site):
    """Something else in the place of A or of Y."""
    if not site.is_output:
        return
    record, Y = site.record, site.tape.Y
    most = np.eye(Y.shape[1])[record.A.argmax(axis=1)]
    for what, dZ in (
        ("Z in the place of A", record.Z - Y),
        ("the class of the largest A in the place of A", most - Y),
        ("A, rounded", np.round(record.A) - Y),
        ("A, without Y", record.A),
        ("Y, without A", -Y),
    ):
        yield at_own_layer(site, dZ, {"what": what})


def diagonal_jacobian(site: Site):
    if site.record.prime is None:
        yield at_own_layer(site, site.dA * site.record.A * (1 - site.record.A))


# --- the stream of a residual network, and norms --------------------------------------------------


def no_skip(site: Site):
    if site.skip is not None:
        yield _on_stream(site, site.back.dS - site.skip)


def no_gate(site: Site):
    """dZ = dS, without alpha; or alpha twice."""
    if site.record.spec.residual is not None:
        for dZ in (site.back.dS, site.record.alpha * site.dZ):
            yield Flow(site.back._replace(dZ=dZ), site.number, f"dZ{site.number}")


def skip_through_gate(site: Site):
    """What the layer above hands down is dZ, not dS."""
    if site.skip is not None and site.dZ_above is not None:
        yield _on_stream(site, site.back.dS - site.skip + site.dZ_above)


def norm_is_constant(site: Site):
    yield from _normed(site, lambda U, dU: dU)


def norm_left_out(site: Site):
    yield from _normed(site, lambda U, dU: dU / site.record.r)


def norm_without_mean(site: Site):
    """The term `mean dU` of a layer norm is missing, or in an RMS norm it is too many."""
    centred = site.record.spec.norm is not None and site.record.spec.norm.centred

    def onwards(U, dU):
        inner = dU - U * np.mean(U * dU, axis=1, keepdims=True)
        return inner if centred else inner - np.mean(dU, axis=1, keepdims=True)

    yield from _normed(site, onwards)


def norm_without_variance(site: Site):
    """The mean is taken off, the term of the variance is missing."""
    yield from _normed(site, lambda U, dU: dU - np.mean(dU, axis=1, keepdims=True))


def _normed(site: Site, onwards) -> Iterator[Flow]:
    """The step `dS = r * inner(U, dU)` with another inner."""
    record, skip = site.record, site.skip
    if record.spec.norm is not None:
        dS = record.r * onwards(record.U, site.back.dU)
        yield _on_stream(site, dS if skip is None else dS + skip)


def _on_stream(site: Site, dS: np.ndarray) -> Flow:
    record = site.record
    dZ = dS if record.spec.residual is None else record.alpha * dS
    return Flow(site.back._replace(dS=dS, dZ=dZ), site.number, f"dS{site.number}")
