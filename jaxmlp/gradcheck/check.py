"""check_grads: is this gradient right, and if not, what is wrong with it?"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxmlp import checks
from jaxmlp.gradcheck.certificate import RIGHT, UNDECIDED, Certificate, Row
from jaxmlp.gradcheck.examination import Examination, listed
from jaxmlp.gradcheck.truth import establish


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
        of (dW, db) or a dict of dW1, db1, ... (or W1, b1, ...) and steps dZ2, dA1, Z1, ...
      J: an Objective, with args (params, X, Y), or any scalar function of args.
      reference: a plain function with J's values, for a J with a custom rule.
      rtol: a tolerance for every array, in place of the one above.

    Returns:
      A `Certificate`: `.passed`, `.first_wrong`, `.diagnoses`; it prints as a table.

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
        certificate = here.certificate()
        if here.truth.trusted and any(row.verdict == UNDECIDED for row in certificate.rows):
            return _settled(certificate, _elsewhere(here, reference))
        return certificate


# --- where cancellation leaves nothing to compare, look nearby -----------------------------------


def _moved(leaf: Any):
    """Half as large, with noise: away from a minimum and from saturation."""
    array = np.asarray(leaf)
    noise = np.random.default_rng(array.size).standard_normal(array.shape)
    moved = (array * (0.5 + 0.05 * noise)).astype(array.dtype)
    return jax.numpy.asarray(moved) if isinstance(leaf, jax.Array) else moved


def _elsewhere(here: Examination, reference: Callable | None) -> Examination | None:
    """The same candidate at moved parameters; None where it or J has no answer there."""
    truth = here.truth
    args = (jax.tree.map(_moved, truth.args[0]), *truth.args[1:])
    try:
        there = Examination(here.candidate, establish(truth.J, args, reference), here.rtol)
        one, other = here.answer.gradient, there.answer.gradient
    except Exception:  # outside of the domain of J, or of the candidate
        return None
    recorded = all(name in other and np.array_equal(one[name], other[name]) for name in one)
    return None if recorded else there


def _settled(certificate: Certificate, there: Examination | None) -> Certificate:
    """The certificate with its undecided rows as they came out at the other parameters."""
    if there is None:
        return certificate
    other = there.certificate()
    nearby = {row.name: row for row in other.rows}
    rows, settled = [], []
    for row in certificate.rows:
        if row.verdict == UNDECIDED and _agrees(row) and nearby[row.name].verdict != UNDECIDED:
            row = row._replace(verdict=nearby[row.name].verdict)
            settled.append(row.name)
        rows.append(row)
    if not settled:
        return certificate
    notes = [note for note in certificate.notes if not note.startswith("undecided")]
    notes.append(
        f"{listed(settled)}: lost in cancellation here, so compared at other parameters as well, "
        "half as large with noise"
    )
    left = [row.name for row in rows if row.verdict == UNDECIDED]
    notes += [f"undecided: {listed(left)}"] if left else []
    wrong = any(row.verdict not in (RIGHT, UNDECIDED) for row in rows)
    return dataclasses.replace(
        certificate,
        rows=tuple(rows),
        diagnoses=other.diagnoses if wrong else (),
        notes=tuple(notes),
    )


def _agrees(row: Row) -> bool:
    return row.numbers is not None and row.numbers.difference <= row.tolerance
