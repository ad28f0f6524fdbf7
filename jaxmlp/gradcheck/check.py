"""check_grads: is this gradient right, and if not, what is wrong with it?"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp import checks
from jaxmlp.gradcheck.certificate import Certificate, Row, Verdict
from jaxmlp.gradcheck.examination import DOUBTFUL, LOST, ZERO, Examination
from jaxmlp.gradcheck.explanation import explained
from jaxmlp.gradcheck.names import by_name, listed, replaced
from jaxmlp.gradcheck.truth import Truth, establish


def check_grads(
    candidate: Callable,
    J: Callable,
    *args: Any,
    reference: Callable | None = None,
    rtol: float | None = None,
) -> Certificate:
    """Compare a hand-written gradient with J's, array by array, and diagnose what is wrong.

    The reference is autodiff of J in float64, and along random directions the numeric derivative.
    Each array is judged relative to its own largest entry: it may differ by 16 times the larger of
    `eps sqrt(L)` and what rounding does to it in the candidate's dtype, measured on `jax.grad` and,
    for an Objective, on repetitions with noise in every step. What is exactly zero must be so.

    Args:
      candidate: `candidate(*args)` -> the gradient in the first argument, or (value, gradient);
        in JAX or NumPy. The gradient may be a pytree like the parameters; for a network also a list
        of (dW, db), those arrays one after the other, or a dict of dW1, db1, ... (or W1, grad_b1,
        ...) and steps dZ2, dA1, Z1, ... It is asked with plain layers, also if params stack them.
      J: an Objective, with args (params, X, Y), or any scalar function of args.
      reference: a plain function with J's values, for a J with a custom rule.
      rtol: a tolerance for every array, in place of the one above.

    Returns:
      A `Certificate`: `.passed`, `.first_wrong`, `.diagnoses`; it prints as a table,
      `.text(verbose=True)` as a longer one.

    Raises:
      TypeError: under a JAX trace. What J or the candidate itself raises goes through.

    Example:
      >>> import jaxmlp
      >>> J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3), hidden="tanh"), "cross_entropy")
      >>> params = J.mlp.init(jax.random.key(0))
      >>> X, Y = jax.random.normal(jax.random.key(1), (9, 2)), np.arange(9) % 3
      >>> check_grads(jaxmlp.grad(J), J, params, X, Y).passed
      True
      >>> summed = lambda *args: jax.tree.map(lambda g: 9 * g, jaxmlp.grad(J)(*args))
      >>> certificate = check_grads(summed, J, params, X, Y)
      >>> certificate.first_wrong, certificate.diagnoses[0].mistake
      (2, 'sum_not_mean')
    """
    if not args:
        raise TypeError("check_grads needs J's arguments: check_grads(candidate, J, *args)")
    if not checks.is_concrete(args):
        raise TypeError("check_grads compares values: call it outside of jit, grad and vmap")
    if rtol is not None:
        rtol = checks.positive_number("rtol", rtol)
    with np.errstate(all="ignore"):
        here = Examination(candidate, establish(J, args, reference), rtol)
        certificate = explained(here)
        return certificate if certificate.disputes else _looked_around(certificate, here, reference)


# --- if nothing can be compared here, look at other parameters ------------------------------------


class Elsewhere(NamedTuple):
    """What came out at other parameters.

    certificate: None if the candidate has no answer there. zeros: the arrays that are exactly zero
    there too, as they have to be.
    """

    certificate: Certificate | None
    zeros: set[str]


def _looked_around(certificate: Certificate, here: Examination, reference: Callable | None):
    """Return the certificate with its undecided rows as they come out at other parameters."""
    zeros = {row.name for row in certificate.rows if row.why == ZERO}
    seen = None
    for move in (_nearby, _anew):
        if any(row.is_undecided for row in certificate.rows):
            seen = _elsewhere(here, move(here.truth), reference)
            zeros &= seen.zeros
            certificate = _settled(certificate, seen.certificate)
    if seen is None or not zeros:
        return certificate
    rows = tuple(
        row._replace(verdict=Verdict.RIGHT, why="")
        if row.name in zeros and row.why == ZERO
        else row
        for row in certificate.rows
    )
    note = f"{listed(sorted(zeros))}: exactly zero, here and at other parameters"
    return dataclasses.replace(certificate, rows=rows, notes=(*certificate.notes, note))


def _elsewhere(here: Examination, params: Any, reference: Callable | None) -> Elsewhere:
    """Ask the same candidate at other parameters."""
    truth = here.truth
    try:
        there = Examination(
            here.candidate, establish(truth.J, (params, *truth.args[1:]), reference), here.rtol
        )
        certificate, disputes = explained(there), there.truth.disputes
        zeros = set(there.truth.zeros)
    except Exception:  # outside of the domain of J, or of the candidate
        return Elsewhere(None, set())
    one, other = here.answer.gradient, there.answer.gradient
    recorded = all(name in other and np.array_equal(one[name], other[name]) for name in one)
    return Elsewhere(None if recorded or disputes else certificate, zeros)


def _nearby(truth: Truth) -> Any:
    """Half as large, with noise: away from a minimum and from saturation."""

    def moved(array: np.ndarray):
        noise = np.random.default_rng(array.size).standard_normal(array.shape)
        return array * (0.5 + 0.05 * noise)

    return _mapped(moved, truth.args[0])


def _anew(truth: Truth) -> Any:
    """Drawn as if for training, for inputs of any size: nothing is dead and nothing saturated."""
    rng = np.random.default_rng(0)

    def drawn(array: np.ndarray):
        fan_in = array.shape[-2] if array.ndim > 1 else 10  # a bias is a third of a weight's sum
        return rng.standard_normal(array.shape) / fan_in**0.5

    params = _mapped(drawn, truth.args[0])
    if truth.tape is None:
        return params
    X = truth.tape.records[0].A_prev
    size = np.sqrt(np.mean(X**2, axis=0, keepdims=True)).T
    W1 = by_name(params)["W1"]
    W1 = (W1 / np.where(size > 0, size, 1)).astype(W1.dtype)
    return replaced(params, "W1", W1)


def _mapped(f: Callable[[np.ndarray], np.ndarray], params: Any) -> Any:
    """f of every floating leaf, in its dtype, JAX arrays as JAX's."""

    def one(leaf):
        array = np.asarray(leaf)
        if not jax.numpy.issubdtype(array.dtype, np.floating):
            return leaf
        new = f(array.astype(np.float64)).astype(array.dtype)
        return jax.numpy.asarray(new) if isinstance(leaf, jax.Array) else new

    return jax.tree.map(one, params)


def _settled(certificate: Certificate, there: Certificate | None) -> Certificate:
    """The certificate with its undecided rows as they came out there."""
    if there is None:
        return certificate
    nearby = {row.name: row for row in there.rows}
    settled = {
        row.name: row.why
        for row in certificate.rows
        if row.is_undecided
        and nearby[row.name].verdict
        in ((Verdict.RIGHT, Verdict.WRONG) if _agrees(row) else (Verdict.WRONG,))
    }
    if not settled:
        return certificate
    rows = tuple(nearby[r.name] if r.name in settled else r for r in certificate.rows)
    notes = [
        f"{listed([name for name in settled if settled[name] == why])}: {why.split(':')[0]}, "
        "so compared at other parameters"
        for why in dict.fromkeys(settled.values())
    ]
    wrong = any(row.is_wrong for row in rows)
    return dataclasses.replace(
        certificate,
        rows=rows,
        diagnoses=there.diagnoses if wrong else (),
        notes=(*certificate.notes, *notes),
    )


def _agrees(row: Row) -> bool:
    """Whether it is right here, as far as that can be told here."""
    near = row.numbers is not None and row.numbers.difference <= row.tolerance
    return near or row.why in (ZERO, LOST, DOUBTFUL)
