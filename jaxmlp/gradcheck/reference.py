"""What is right: autodiff of J in float64, and whether it may be trusted.

Autodiff of J is a reference only if J holds no rule of the user's own: `jax.grad` of a function
with a `custom_vjp` repeats that rule. The rules that JAX itself gives to functions of `jax.nn` and
`jax.numpy` are trusted.
"""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp import losses
from jaxmlp.gradcheck.judge import flushed
from jaxmlp.gradcheck.names import (
    Arrays,
    by_name,
    cast,
    dtype_of,
    eps_of,
    is_layered,
    listed,
    split,
)
from jaxmlp.gradcheck.rounding import Rounding, rounding
from jaxmlp.gradcheck.tape import Tape, backward, backward_steps, forward, forward_steps, walk
from jaxmlp.objective import Objective
from jaxmlp.storage import count, layers

FLOAT64 = np.dtype(np.float64)


class Truth(NamedTuple):
    """What is right for one J at one set of arguments.

    J: under test; plain: what autodiff differentiates, J or the caller's reference. value,
    gradient: computed in dtype, float64 unless J cannot run in it. trusted: whether autodiff of
    plain is independent of rules of the user's own. narrow: the precision that J computes in, if it
    casts to less than float64. notes, disputes: for the certificate.

    Of an Objective alone: the tapes that are right, the first by the formulas and the second, if
    there is one, for targets whose rows sum to 1 up to rounding only; the steps of the first; also:
    the gradient and the steps of the second; and how rounding grows in the first.
    """

    J: Any
    plain: Callable
    args: tuple
    value: float
    gradient: Arrays
    dtype: np.dtype
    trusted: bool = True
    narrow: np.dtype = FLOAT64
    notes: tuple[str, ...] = ()
    disputes: tuple[str, ...] = ()
    tapes: tuple[Tape, ...] = ()
    steps: Arrays = {}  # noqa: RUF012
    also: Arrays = {}  # noqa: RUF012
    rounding: Rounding | None = None

    @property
    def layered(self) -> bool:
        return is_layered(self.args[0])

    @property
    def num_layers(self) -> int:
        """L, or the number of arrays outside of networks: the rounding error grows with it."""
        return sum(map(count, self.args[0])) if self.layered else len(self.gradient)

    @property
    def zeros(self) -> set[str]:
        """The arrays that are exactly zero and have to be.

        In a network these are only the arrays below an act' that is 0, as that of a step.
        """
        zero = {name for name, array in self.gradient.items() if not array.any()}
        if not self.tapes:
            return zero
        flat = [r.prime is not None and not r.prime.any() for r in self.tapes[0].records]
        return {name for name in zero if any(flat[split(name)[1] - 1 :])}


def establish(J: Callable, args: tuple, reference: Callable | None) -> Truth:
    """Return what is right; what J itself refuses raises."""
    # Autodiff, in float64 if J runs in it
    plain = J if reference is None else reference
    dtype, notes = FLOAT64, []
    try:
        value, gradient = autodiff(plain, args, FLOAT64)
    except Exception as error:  # whatever J makes of float64
        dtype = dtype_of(args[0])
        if dtype == FLOAT64:
            raise
        value, gradient = autodiff(plain, args, dtype)
        reason = (str(error).splitlines() or [""])[0]
        said = f"J does not run in float64 ({type(error).__name__}: {reason})"
        notes.append(f"{said}: compared in {dtype}")
    # Rules and casts inside
    rules, narrow = look_inside(plain, args, dtype)
    if narrow:
        notes.append(f"J casts to {narrow} inside: the reference is no better than that")
    disputes = _not_finite(value, gradient)
    if reference is not None:
        disputes += _reference_disputes(J, args, value, dtype, rules)
        if own := look_inside(J, args, dtype)[0]:
            held = ", ".join(own)
            notes.append(f"J holds a rule of your own, {held}: judged by the reference instead")
    elif rules:
        notes.append(
            f"J holds a rule of your own, {', '.join(rules)}: autodiff of J is the rule under "
            "test, so the numeric route judges; reference= takes a plain function"
        )
    trusted = reference is not None or not rules
    truth = Truth(J, plain, args, value, gradient, dtype, trusted, np.dtype(narrow or dtype))
    truth = truth._replace(notes=tuple(notes), disputes=tuple(disputes))
    return _with_tape(truth) if isinstance(J, Objective) and dtype == FLOAT64 else truth


def _not_finite(value: float, gradient: Arrays) -> list[str]:
    if not np.isfinite(value):
        return [f"J is {value} here: there is no gradient to compare with"]
    names = [name for name, array in gradient.items() if not np.isfinite(array).all()]
    if names:
        return [f"J is finite here, but its gradient by autodiff is not, in {listed(names)}"]
    return []


def _reference_disputes(J: Callable, args: tuple, right: float, dtype, rules) -> list[str]:
    if not np.isfinite(right):
        return []
    found = []
    if rules:
        found.append(f"the reference holds a rule of its own, {', '.join(rules)}")
    with jax.enable_x64(dtype == FLOAT64):
        value = float(J(*cast(args, dtype)))
    # Two functions of the same values round differently: by a thousand eps at the most
    if not abs(value - right) <= max(1e-6, 1e3 * eps_of(dtype)) * abs(right):
        found.append(f"J is {value:.10g} here, but the reference {right:.10g}")
    return found


def _with_tape(truth: Truth) -> Truth:
    with jax.enable_x64(True), np.errstate(all="ignore"):
        params, X, Y = cast(truth.args, FLOAT64)
        plain = layers(jax.tree.map(np.asarray, params))
        tape = forward(truth.J, plain, X, Y)
        growth = rounding(truth.J, plain, X, Y, tape)
        tapes, also = [tape], {}
        # J's derivative is A sum(Y) - Y, the formula A - Y: the same for rows right to 4 eps
        off = np.abs(tape.Y.sum(axis=1) - 1).max(initial=0)
        if truth.J.loss == losses.cross_entropy and off > 4 * eps_of(FLOAT64):
            tapes.append(tape._replace(dZ=tape.records[-1].A - tape.Y))
            also = backward(tapes[1])
        steps = forward_steps(tape)
        for place in walk(tape):
            steps |= backward_steps(place)
    return truth._replace(tapes=tuple(tapes), steps=steps, also=also, rounding=growth)


# --- autodiff -------------------------------------------------------------------------------------


def autodiff(J: Callable, args: tuple, dtype) -> tuple[float, Arrays]:
    """Return J and `jax.grad(J)` by name at args, computed in dtype."""
    dtype = np.dtype(dtype)
    with jax.enable_x64(dtype == FLOAT64):
        if dtype == FLOAT64 or dtype_of(args[0]) != dtype:
            args = cast(args, dtype)
        value, gradient = run(jax.value_and_grad, J, args)
        return float(value), {name: flushed(leaf) for name, leaf in by_name(gradient).items()}


def run(transform: Callable, J: Callable, args: tuple) -> Any:
    """Return `transform(J)(*args)`, compiled if J can be hashed and looks at no values."""
    try:
        kept = _kept(transform, J)
    except TypeError:  # J cannot be hashed
        return transform(J)(*args)
    try:
        return kept[0](*args)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        kept[0] = transform(J)  # and it is not compiled again
        return kept[0](*args)


@functools.lru_cache(maxsize=128)  # functions that are looked at in turn
def _kept(transform: Callable, J: Callable) -> list[Callable]:
    return [jax.jit(transform(J))]


# --- may autodiff be trusted ----------------------------------------------------------------------


def look_inside(J: Callable, args: tuple, dtype) -> tuple[tuple[str, ...], str | None]:
    """Return the user's own rules in J's jaxpr, and a dtype that it casts to from float64.

    None of them is found if J cannot be traced.
    """
    with jax.enable_x64(dtype == FLOAT64):
        try:
            jaxpr = jax.make_jaxpr(J)(*cast(args, dtype)).jaxpr
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            return (), None
    # Rules that are not JAX's, and casts
    rules, narrow = [], None
    for eqn in _equations(jaxpr):
        if "custom_vjp" in eqn.primitive.name or "custom_jvp" in eqn.primitive.name:
            sources = list(_sources(eqn.params))
            if not sources or not all(map(_is_jax, sources)):
                rules.append(sources[0] if sources else eqn.primitive.name)
        elif eqn.primitive.name == "convert_element_type":
            to = np.dtype(eqn.params["new_dtype"])
            was = eqn.invars[0].aval.dtype
            if was == FLOAT64 and jax.numpy.issubdtype(to, np.floating) and to != FLOAT64:
                narrow = str(to)
    return tuple(dict.fromkeys(rules)), narrow


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation, also those inside loops, branches and jitted functions."""
    for eqn in jaxpr.eqns:
        yield eqn
        is_jaxpr = lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")  # noqa: E731
        for inner in filter(is_jaxpr, jax.tree.leaves(eqn.params, is_leaf=is_jaxpr)):
            yield from _equations(inner if hasattr(inner, "eqns") else inner.jaxpr)


def _sources(params: dict[str, Any]) -> Iterator[str]:
    """Where the function and its rule are written: "relu at .../jax/_src/nn/functions.py:71"."""
    for value in params.values():
        info = getattr(getattr(value, "debug_info", None), "func_src_info", None)
        if info:
            yield info


def _is_jax(source: str) -> bool:
    return source.split(" at ")[-1].startswith(os.path.dirname(jax.__file__) + os.sep)
