"""Find the matrix products of a loss of which one side is a parameter.

The loss of one sample is traced to a jaxpr, a list of equations. Each parameter is followed through
equations that only arrange its numbers differently, such as a transpose. If such a view of it is
one side of a `dot_general`, the product is `Z = A @ W` at t positions, and A and dZ are enough for
the gradient. If a parameter enters any other equation, that is an obstacle: its gradient is formed.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array, Float

# Equations that arrange the numbers of one array differently
LAYOUTS = {"transpose", "reshape", "slice", "split", "squeeze", "expand_dims", "rev"}
SAME = {"copy", "copy_p", "name"}
# Equations that only call a program, and the parameter that holds it
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
REMAT = {"remat2": "jaxpr", "checkpoint": "jaxpr", "remat": "jaxpr"}
OBSTACLES = {
    "custom_jvp_call": "enters a custom derivative rule",
    "custom_vjp_call": "enters a custom derivative rule",
    "scan": "enters a loop (scan)",
    "while": "enters a loop (while)",
    "cond": "enters a branch (cond)",
    "gather": "is looked up (gather)",
    "conv_general_dilated": "enters a convolution",
}


class View(NamedTuple):
    """Describe a parameter in another layout: the number of its leaf, and the steps to the view."""

    leaf: int
    steps: tuple[Callable, ...] = ()


class Use(NamedTuple):
    """Describe a product with a weight, `Z (t, d_out) = A (t, d_in) @ W` in each sample.

    where: the number of the equation in its program, behind those of the equations it is inside.
    side: 0 or 1, which operand W is. summed, kept: the axes of W that are and are not summed over.
    rows: the axes of the other operand, those of the positions first. positions: the lengths of
    the latter.
    """

    where: tuple[int, ...]
    side: int
    view: View
    W_shape: tuple[int, ...]
    summed: tuple[int, ...]
    kept: tuple[int, ...]
    rows: tuple[int, ...]
    positions: tuple[int, ...]
    dtype: Any
    precision: str | None

    @property
    def t(self) -> int:
        return math.prod(self.positions)

    @property
    def d_in(self) -> int:
        return math.prod(self.W_shape[axis] for axis in self.summed)

    @property
    def d_out(self) -> int:
        return math.prod(self.W_shape[axis] for axis in self.kept)

    def input(self, operand: Array) -> Float[Array, "t d_in"]:
        """Return A, from the operand that is not the weight."""
        if not jnp.issubdtype(operand.dtype, jnp.floating):  # integers, multiplied as floats
            operand = operand.astype(self.dtype)
        return operand.transpose(self.rows).reshape(self.t, self.d_in)

    def output(self, Z: Float[Array, "t d_out"]) -> Array:
        """Return Z in the axes of the equation's result."""
        kept = tuple(self.W_shape[axis] for axis in self.kept)
        if self.side == 1:
            return Z.reshape(self.positions + kept)
        return Z.T.reshape(kept + self.positions)

    def place(self, dW: Float[Array, "d_in d_out"], shape: tuple[int, ...]) -> Array:
        """Return the gradient in the axes of the leaf; it is 0 outside the view."""
        axes = self.summed + self.kept
        dW = dW.reshape([self.W_shape[axis] for axis in axes]).transpose(np.argsort(axes))
        leaf = jax.ShapeDtypeStruct(shape, dW.dtype)
        return jax.linear_transpose(lambda leaf: laid_out(self.view, leaf), leaf)(dW)[0]


class Leaf(NamedTuple):
    """Describe a parameter: the products that use it, or the obstacle that bars this way."""

    name: str
    shape: tuple[int, ...]
    dtype: Any
    uses: tuple[Use, ...] = ()
    obstacle: str | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Program(NamedTuple):
    """Hold the traced loss of one sample (of the leaves of params, x and y) and its parameters."""

    traced: ClosedJaxpr
    leaves: tuple[Leaf, ...]

    @property
    def uses(self) -> dict[tuple[int, ...], Use]:
        return {use.where: use for leaf in self.leaves for use in leaf.uses}


def trace(loss: Callable, params: Any, x: Any, y: Any) -> Program:
    """Trace the loss of one sample, and find the products or the obstacle of each parameter."""
    named, _ = jax.tree_util.tree_flatten_with_path(params)
    try:
        traced, out = jax.make_jaxpr(loss, return_shape=True)(params, x, y)
    except NameError as error:
        if "unbound axis name" not in str(error):
            raise
        raise ValueError(
            "loss must be of one sample, but it uses statistics of the batch, over which no sample "
            f"has a gradient of its own: {error}"
        ) from error
    _check_scalar(out)
    # Follow the parameters from the inputs, which they lead, to the outputs
    found: list[list[Use | str]] = [[] for _ in named]
    rest = [None] * (len(traced.jaxpr.invars) - len(named))
    outputs = _follow(traced.jaxpr, [*map(View, range(len(named))), *rest], (), found)
    for view in outputs:
        _note(found, view, "is the loss itself")
    # What was found of each
    leaves = []
    for (path, value), uses in zip(named, found, strict=True):
        leaf = Leaf(jax.tree_util.keystr(path), value.shape, value.dtype)
        obstacle = _obstacle(leaf, uses)
        leaves.append(leaf._replace(obstacle=obstacle, uses=() if obstacle else tuple(uses)))
    return Program(traced, tuple(leaves))


def laid_out(view: View, leaf: Any) -> Any:
    """Return the view of a leaf."""
    for step in view.steps:
        leaf = step(leaf)
    return leaf


def inner(eqn: Any) -> Any:
    """Return the program that an equation calls; None if there is none, or if it has constants."""
    field = (CALLS | REMAT).get(eqn.primitive.name)
    program = None if field is None else eqn.params[field]
    if isinstance(program, ClosedJaxpr):
        return None if program.consts else program.jaxpr
    return program


def _follow(jaxpr, views: list, where: tuple, found: list) -> list:
    """Return the views among the outputs of a program, given those of its inputs; note each use."""
    env = {var: view for var, view in zip(jaxpr.invars, views, strict=True) if view is not None}

    def of(atom):
        return None if isinstance(atom, Literal) else env.get(atom)

    for i, eqn in enumerate(jaxpr.eqns):
        name, entering, outs = eqn.primitive.name, [of(atom) for atom in eqn.invars], []
        if not any(entering) or name == "stop_gradient":
            continue
        first = next(view for view in entering if view is not None)
        if inner(eqn) is not None:  # a call: follow the parameters inside
            outs = _follow(inner(eqn), entering, (*where, i), found)
        elif name in LAYOUTS:  # another view of the same parameter
            steps = (_step(eqn, k) for k in range(len(eqn.outvars)))
            outs = [View(first.leaf, (*first.steps, step)) for step in steps]
        elif name in SAME or (name == "convert_element_type" and _is_floating(eqn.outvars[0])):
            outs = [first]
        elif name == "dot_general":
            _note_product(eqn, entering, (*where, i), found)
        else:
            for view in entering:
                _note(found, view, OBSTACLES.get(name, f"enters `{name}`"))
        env |= {var: view for var, view in zip(eqn.outvars, outs, strict=False) if view is not None}
    return [of(atom) for atom in jaxpr.outvars]


def _step(eqn: Any, k: int) -> Callable:
    """Return the function from the array that enters an equation to its result number k."""

    def step(array):
        result = eqn.primitive.bind(array, **eqn.params)
        return result[k] if eqn.primitive.multiple_results else result

    return step


def _note(found: list, view: View | None, what: Use | str) -> None:
    """Note a use or an obstacle of a view's parameter."""
    if view is not None:
        found[view.leaf].append(what)


def _note_product(eqn: Any, views: list, where: tuple, found: list) -> None:
    """Note the use of a weight in a `dot_general`, or the obstacle."""
    summed, batched = eqn.params["dimension_numbers"]
    side = 0 if views[1] is None else 1
    # Obstacles
    what = None
    if None not in views:
        what = "is multiplied by another parameter"
    elif batched[0]:
        what = "enters a batched product"
    elif not _is_floating(eqn.outvars[0]):
        what = "enters a product that is not floating"
    if what is not None:
        for view in views:
            _note(found, view, what)
        return
    # A product Z = A @ W: which axes of W and of the other operand are what
    W, other = (eqn.invars[i].aval for i in (side, 1 - side))
    kept, free = (
        tuple(axis for axis in range(operand.ndim) if axis not in summed[i])
        for operand, i in ((W, side), (other, 1 - side))
    )
    use = Use(
        where, side, views[side], W.shape, tuple(summed[side]), kept,
        rows=(*free, *summed[1 - side]), positions=tuple(other.shape[axis] for axis in free),
        dtype=eqn.outvars[0].aval.dtype, precision=_precision(eqn.params["precision"]),
    )  # fmt: skip
    _note(found, views[side], use)


def _precision(given: Any) -> str | None:
    """Return the precision of a product in the form of `jax.default_matmul_precision`."""
    if isinstance(given, tuple):  # one for each operand: the finer
        given = max(given, key=lambda one: one.value)
    if isinstance(given, jax.lax.Precision):
        return given.name.lower()
    return getattr(given, "name", None)  # a preset algorithm has a name, None has none


def _is_floating(var: Any) -> bool:
    return jnp.issubdtype(var.aval.dtype, jnp.floating)


def _obstacle(leaf: Leaf, uses: list) -> str | None:
    """Return why the gradient must be formed; None if the products are enough."""
    for use in uses:
        if isinstance(use, str):
            return use
    if len(uses) < 2 or _are_disjoint(leaf, uses):
        return None
    return f"is used {len(uses)} times"


def _are_disjoint(leaf: Leaf, uses: list) -> bool:
    """Return whether no entry of the leaf is in two of the views."""
    if leaf.size >= 2**31:  # the entries could not be numbered in int32
        return False
    numbers = np.arange(leaf.size, dtype=np.int32).reshape(leaf.shape)
    seen = np.zeros(leaf.size, bool)
    for use in uses:
        with jax.ensure_compile_time_eval():
            entries = np.asarray(laid_out(use.view, numbers)).ravel()
        if seen[entries].any():
            return False
        seen[entries] = True
    return True


def _check_scalar(out: Any) -> None:
    """Refuse a loss that does not return one floating number."""
    wanted = "loss must return one number, the loss of one sample, but it returns"
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise TypeError(f"{wanted} {jax.tree.structure(out)}")
    if out.shape != ():
        raise ValueError(f"{wanted} an array of shape {out.shape}")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(f"loss must return a floating number to be differentiated, got {out.dtype}")
