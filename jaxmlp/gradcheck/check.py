"""check_grads: is this gradient right, and if not, what is wrong with it?

What the candidate gave (`answers`) -> what is right (`reference`) -> how exactly a dtype can tell
(`precision`) -> a verdict on each array (`examination`, `judge`) -> the mistakes that explain the
wrong ones (`explanation`, `search`) -> the `certificate`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxmlp import checks
from jaxmlp.gradcheck.certificate import Certificate
from jaxmlp.gradcheck.examination import DOUBTFUL, LOST, ZERO, Examined, examine, verdicts
from jaxmlp.gradcheck.explanation import explained
from jaxmlp.gradcheck.judge import Row, Verdict
from jaxmlp.gradcheck.names import by_name, listed, mapped, replaced
from jaxmlp.gradcheck.reference import Truth, establish


def check_grads(
    candidate: Callable,
    J: Callable,
    *args: Any,
    reference: Callable | None = None,
    rtol: float | None = None,
) -> Certificate:
    """Compare a hand-written gradient with J's, array by array, and diagnose what is wrong.

    The reference is autodiff of J in float64, and along random directions the numeric derivative.
    The tolerance of each array is 16 x max(eps sqrt(L), measured rounding error), relative to its
    largest entry. The rounding error is that of `jax.grad` in the candidate's dtype and, for an
    Objective, of repetitions with noise in every step. What is exactly zero must be so.

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
      >>> import jax, jaxmlp
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

    def examined(*args) -> tuple[Examined, Certificate]:
        here = examine(candidate, establish(J, args, reference), rtol)
        return here, explained(here, verdicts(here))

    with np.errstate(all="ignore"):
        here, certificate = examined(*args)
        return certificate if certificate.disputes else _looked_around(certificate, here, examined)


# --- if nothing can be compared here, look at other parameters ------------------------------------


def _looked_around(certificate: Certificate, here: Examined, examined: Callable) -> Certificate:
    """Return the certificate with its undecided rows as they come out at other parameters."""
    zeros, looked = {row.name for row in certificate.rows if row.why == ZERO}, False
    for move in (_nearby, _anew):
        if not any(row.is_undecided for row in certificate.rows):
            break
        looked = True
        try:
            there, found = examined(move(here.truth), *here.truth.args[1:])
        except Exception:  # outside of the domain of J, or of the candidate
            zeros = set()
            continue
        zeros &= there.truth.zeros
        # A candidate that says the same everywhere was not asked there
        one, other = here.answer.gradient, there.answer.gradient
        recorded = all(name in other and np.array_equal(one[name], other[name]) for name in one)
        if not recorded and not there.truth.disputes:
            certificate = _settled(certificate, found)
    if not looked or not zeros:
        return certificate
    # Exactly zero, here and there
    rows = tuple(
        row._replace(verdict=Verdict.RIGHT, why="")
        if row.name in zeros and row.why == ZERO
        else row
        for row in certificate.rows
    )
    note = f"{listed(sorted(zeros))}: exactly zero, here and at other parameters"
    return dataclasses.replace(certificate, rows=rows, notes=(*certificate.notes, note))


def _nearby(truth: Truth) -> Any:
    """Half as large, with noise: away from a minimum and from saturation."""

    def moved(array: np.ndarray) -> np.ndarray:
        # 0.05: a twentieth tells one sample or unit from another
        noise = np.random.default_rng(array.size).standard_normal(array.shape)
        return (array * (0.5 + 0.05 * noise)).astype(array.dtype)

    return mapped(moved, truth.args[0])


def _anew(truth: Truth) -> Any:
    """Drawn as for training, for inputs of any size: nothing is dead and nothing saturated."""
    rng = np.random.default_rng(0)

    def drawn(array: np.ndarray) -> np.ndarray:
        fan_in = array.shape[-2] if array.ndim > 1 else 10  # a bias is a third of a weight's sum
        return (rng.standard_normal(array.shape) / fan_in**0.5).astype(array.dtype)

    params = mapped(drawn, truth.args[0])
    if not truth.tapes:
        return params
    X = truth.tapes[0].records[0].A_prev
    size = np.sqrt(np.mean(X**2, axis=0, keepdims=True)).T
    W1 = by_name(params)["W1"]
    return replaced(params, "W1", (W1 / np.where(size > 0, size, 1)).astype(W1.dtype))


def _settled(certificate: Certificate, there: Certificate) -> Certificate:
    """The certificate with its undecided rows as they came out there."""
    # What is wrong there is wrong; what is right there has to be right here too, if one can tell
    nearby, settled = {row.name: row for row in there.rows}, {}
    for row in certificate.rows:
        telling = (Verdict.RIGHT, Verdict.WRONG) if _agrees(row) else (Verdict.WRONG,)
        if row.is_undecided and nearby[row.name].verdict in telling:
            settled[row.name] = row.why
    if not settled:
        return certificate
    # The same certificate with these rows, and the reasons
    rows = tuple(nearby[row.name] if row.name in settled else row for row in certificate.rows)
    notes = [
        f"{listed([name for name in settled if settled[name] == why])}: {why.split(':')[0]}, "
        "so compared at other parameters"
        for why in dict.fromkeys(settled.values())
    ]
    return dataclasses.replace(
        certificate,
        rows=rows,
        diagnoses=there.diagnoses if any(row.is_wrong for row in rows) else (),
        notes=(*certificate.notes, *notes),
    )


def _agrees(row: Row) -> bool:
    """Whether the row is right here, as far as that can be told."""
    near = row.numbers is not None and row.numbers.difference <= row.tolerance
    return near or row.why in (ZERO, LOST, DOUBTFUL)
