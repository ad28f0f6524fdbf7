"""The network as a value: its description, how it is drawn, and the forward pass.

Z[l] = A[l-1] @ W[l] + b[l]        A[l] = act[l](Z[l])        A[0] = X, rows are samples
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmlp import activations, checks, initializers
from jaxmlp.activations import Activation
from jaxmlp.initializers import Initializer
from jaxmlp.storage import STACK_FROM, Layer, count, is_stacked, slopes


class Run(NamedTuple):
    """Consecutive layers that `init` stores as one Layer: `count` of them, None for a plain one."""

    first: int
    count: int | None
    shape: tuple[int, ...]
    activation: Activation


class Segment(NamedTuple):
    """Consecutive layers of one activation within one entry of params; what a loop walks."""

    entry: int
    count: int | None
    activation: Activation
    layer: Layer


@dataclasses.dataclass(frozen=True, repr=False)
class MLP:
    """Describe a multilayer perceptron; the parameters live elsewhere, in a tuple of Layers.

    Args:
      sizes: `(d_0, ..., d_L)`: inputs, hidden widths, outputs; L weight layers. `(d, 1)` is one
        neuron, `(d, K)` a softmax regression.
      hidden: activation of the hidden layers: a name, an Activation, or one for each of them;
        ignored when there is no hidden layer.
      output: activation of the last layer.
      use_bias: whether `Z = A W + b` has its b.
      stack_from: a run of more than so many hidden layers of the same shape and activation is
        stored as one stacked Layer, which a loop walks; None never stacks.

    Raises:
      TypeError, ValueError: for sizes that are not integers of at least 1, unknown activations,
        a wrong number of them, softmax as a hidden activation.

    Example:
      >>> MLP((2, 4, 3), hidden="relu", output="softmax")
      MLP (2, 4, 3): 27 parameters
        layer 1: W (2, 4), b (4,), relu
        layer 2: W (4, 3), b (3,), softmax
    """

    sizes: tuple[int, ...]
    _: dataclasses.KW_ONLY
    hidden: Any = "relu"
    output: Any = "softmax"
    use_bias: bool = True
    stack_from: int | None = STACK_FROM

    def __post_init__(self):
        sizes = _checked_sizes(self.sizes)
        hidden = _checked_hidden(self.hidden, len(sizes) - 2)
        if not isinstance(self.use_bias, bool):
            raise TypeError(f"use_bias must be True or False, got {self.use_bias!r}")
        if self.stack_from is not None:
            checks.integer("stack_from", self.stack_from, at_least=1)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "hidden", hidden)
        object.__setattr__(self, "output", activations.get(self.output))

    def __hash__(self):
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        # kept, because jit hashes its static arguments at every call, and sizes may be 10,000 long
        return hash((self.sizes, self.hidden, self.output, self.use_bias, self.stack_from))

    @property
    def num_layers(self) -> int:
        """L, the number of weight layers: depth + 1."""
        return len(self.sizes) - 1

    @property
    def depth(self) -> int:
        """The number of hidden layers."""
        return len(self.sizes) - 2

    @functools.cached_property
    def activations(self) -> tuple[Activation, ...]:
        """The activations of layers 1..L, the output's last."""
        return (*self.hidden, self.output)

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned: weights, biases and PReLU slopes."""
        weights = sum(d_in * d_out for d_in, d_out in itertools.pairwise(self.sizes))
        biases = sum(self.sizes[1:]) if self.use_bias else 0
        return weights + biases + sum(act.slope is not None for act in self.activations)

    @functools.cached_property
    def runs(self) -> tuple[Run, ...]:
        """How `init` stores the layers."""
        shapes = itertools.pairwise(self.sizes)
        hidden = list(zip(range(1, self.num_layers), shapes, self.hidden, strict=False))
        runs = []
        for (shape, act), group in itertools.groupby(hidden, key=lambda layer: layer[1:]):
            first, *rest = (number for number, _, _ in group)
            if self.stack_from is not None and len(rest) + 1 > self.stack_from:
                runs.append(Run(first, len(rest) + 1, shape, act))
            else:
                runs.extend(Run(number, None, shape, act) for number in (first, *rest))
        runs.append(Run(self.num_layers, None, self.sizes[-2:], self.output))
        return tuple(runs)

    def __repr__(self):
        sizes = repr(self.sizes)
        if len(self.sizes) > 12:
            sizes = f"({', '.join(map(str, self.sizes[:3]))}, ..., {self.sizes[-1]})"
        lines = [f"MLP {sizes}: {self.num_parameters:,} parameters"]
        for run in self.runs:
            n, (d_in, d_out) = run.count, run.shape
            lead = () if n is None else (n,)
            number = (
                f"layer {run.first}" if n is None else f"layers {run.first}-{run.first + n - 1}"
            )
            bias = f", b {(*lead, d_out)}" if self.use_bias else ""
            lines.append(f"  {number}: W {(*lead, d_in, d_out)}{bias}, {run.activation.name}")
        return "\n".join(lines)

    def init(
        self, key: Array, init: str | Initializer | Callable = "he", *, dtype: Any = None
    ) -> tuple[Layer, ...]:
        """Draw the parameters; layer l comes from `jax.random.fold_in(key, l)`.

        Networks of different depth therefore share their first layers.

        Args:
          key: a PRNG key.
          init: "lecun", "glorot", "he", "orthogonal", `initializers.gaussian(sigma_w2, sigma_b2)`,
            or any `jax.nn.initializers` callable for W (then b = 0).
          dtype: float32 by default, float64 under x64.

        Example:
          >>> params = MLP((2, 4, 3)).init(jax.random.key(0), "he")
          >>> [layer.W.shape for layer in params]
          [(2, 4), (4, 3)]
        """
        key, init = checks.prng_key(key), initializers.get(init)
        dtype = jnp.zeros((), dtype).dtype if dtype is not None else jnp.zeros(()).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"parameters must be floating, got dtype {dtype}")
        if init.sigma_b2 and not self.use_bias:
            raise ValueError(f"{init.name} draws biases, but this MLP has use_bias=False")
        return tuple(
            _draw_run(init, run._replace(first=0), self.use_bias, dtype, key, run.first)
            for run in self.runs  # first is traced, so that equal layers compile once
        )

    def apply(self, params: Sequence[Layer], X: Array) -> Array:
        """Return the output A[L]: X `(m, d_0)` -> `(m, d_L)`; one sample `(d_0,)` -> `(d_L,)`.

        Raises:
          ValueError: for a wrong shape, NaN or infinity, or parameters of another network.
          TypeError: for X that is not floating or not of the parameters' dtype.
        """
        dtype = check_params(self, params)
        X = check_inputs(self, X, dtype, ranks=(1, 2))
        return _apply(self, params, X)


# --- the forward pass -----------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="mlp")
def _apply(mlp: MLP, params, X):
    if X.ndim == 1:
        return forward(mlp, params, X[None])[1][0]
    return forward(mlp, params, X)[1]


def layer_forward(activation: Activation, layer: Layer, A: Array) -> tuple[Array, Array]:
    """Return Z and the layer's output A (E2)."""
    Z = A @ layer.W
    if layer.b is not None:
        Z = Z + layer.b
    return Z, activation.fn(Z, *slopes(layer))


def forward(mlp: MLP, params, X: Float[Array, "m d_0"]):
    """Return `(Z[L], A[L])` and keep nothing; plain JAX, which autodiff differentiates as it is."""
    Z = A = X
    for segment in segments(mlp, params):
        if segment.count is None:
            Z, A = layer_forward(segment.activation, segment.layer, A)
        else:
            one = functools.partial(layer_forward, segment.activation)
            A, _ = jax.lax.scan(lambda A, layer: (one(layer, A)[1], None), A, segment.layer)  # noqa: B023
    return Z, A


def segments(mlp: MLP, params: Sequence[Layer]) -> list[Segment]:
    """Cut params where entry or activation changes; the output layer always stands alone."""
    cut, number = [], 0
    for entry, layer in enumerate(params):
        if not is_stacked(layer):
            cut.append(Segment(entry, None, mlp.activations[number], layer))
            number += 1
            continue
        names = mlp.activations[number : number + count(layer)]
        is_last = [number + i + 1 == mlp.num_layers for i in range(len(names))]
        lo = 0
        for (act, last), group in itertools.groupby(zip(names, is_last, strict=True)):
            n = len(list(group))
            part = layer if n == count(layer) else jax.tree.map(lambda x: x[lo : lo + n], layer)  # noqa: B023
            if last:
                cut.append(Segment(entry, None, act, jax.tree.map(lambda x: x[0], part)))
            else:
                cut.append(Segment(entry, n, act, part))
            lo += n
        number += count(layer)
    return cut


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _draw_run(init: Initializer, run: Run, use_bias: bool, dtype, key, first) -> Layer:
    def draw(number):
        W, b = initializers.draw(init, jax.random.fold_in(key, number), run.shape, use_bias, dtype)
        slope = None if run.activation.slope is None else jnp.asarray(run.activation.slope, dtype)
        return Layer(W, b, slope)

    if run.count is None:
        return draw(first)
    # a loop and not vmap: one draw of 10,000 layers of 128 peaks at 2.7 GiB, this at 0.85
    return jax.lax.map(draw, first + jnp.arange(run.count))


# --- what may come in -----------------------------------------------------------------------------


def _checked_sizes(sizes) -> tuple[int, ...]:
    try:
        sizes = tuple(sizes)
    except TypeError:
        raise TypeError(f"sizes must be a sequence (d_0, ..., d_L), got {sizes!r}") from None
    if len(sizes) < 2:
        raise ValueError(f"sizes must hold at least inputs and outputs, (d_0, d_1), got {sizes}")
    return tuple(checks.integer(f"sizes[{i}]", d, at_least=1) for i, d in enumerate(sizes))


def _checked_hidden(hidden, depth: int) -> tuple[Activation, ...]:
    if depth == 0:
        return ()
    if isinstance(hidden, list | tuple):
        if len(hidden) != depth:
            raise ValueError(
                f"hidden names {len(hidden)} activations, but there are {depth} hidden layers"
            )
        resolved = tuple(map(activations.get, hidden))
    else:
        resolved = (activations.get(hidden),) * depth
    if activations.softmax in resolved:
        raise ValueError("softmax is an output activation and cannot be hidden")
    return resolved


def check_params(mlp: MLP, params: Any):
    """Refuse parameters of another network; return their dtype."""
    if not isinstance(params, list | tuple) or isinstance(params, Layer):
        raise TypeError(f"params must be a tuple of Layers, got {type(params).__name__}")
    number, dtypes = 0, set()
    for layer in params:
        if not isinstance(layer, Layer):
            raise TypeError(f"params must be a tuple of Layers, but one is {type(layer).__name__}")
        n = count(layer)
        if n == 0:
            raise ValueError("params hold a stack of no layers")
        for i in range(number, min(number + n, mlp.num_layers)):
            _check_layer(mlp, i, layer)
        number += n
        dtypes |= {jnp.result_type(leaf) for leaf in jax.tree.leaves(layer)}
    if number != mlp.num_layers:
        raise ValueError(f"params hold {number} layers, but the network has {mlp.num_layers}")
    if len(dtypes) != 1 or not jnp.issubdtype(next(iter(dtypes)), jnp.floating):
        raise TypeError(f"params must have one floating dtype, got {sorted(map(str, dtypes))}")
    return dtypes.pop()


def _check_layer(mlp: MLP, i: int, layer: Layer) -> None:
    d_in, d_out = mlp.sizes[i : i + 2]
    has_slope = mlp.activations[i].slope is not None
    shapes = (d_in, d_out), (d_out,) if mlp.use_bias else None, () if has_slope else None
    for name, leaf, shape in zip(Layer._fields, layer, shapes, strict=True):
        lead = (count(layer),) if is_stacked(layer) and shape is not None else ()
        given = None if leaf is None else jnp.shape(leaf)
        shape = None if shape is None else (*lead, *shape)
        if given != shape:
            given, shape = ("none" if s is None else s for s in (given, shape))
            raise ValueError(
                f"params are of another network: {name} of layer {i + 1} is {given}, "
                f"expected {shape}"
            )


def check_inputs(mlp: MLP, X: Any, dtype, ranks: tuple[int, ...] = (2,)) -> Array:
    """Refuse X of a wrong rank, width or kind, empty or not finite; return it as a JAX array."""
    X = as_array("X", X)
    if not jnp.issubdtype(X.dtype, jnp.floating):
        raise TypeError(f"X must be floating, got dtype {X.dtype}")
    if X.ndim not in ranks:
        shapes = {1: f"({mlp.sizes[0]},)", 2: f"(m, {mlp.sizes[0]})"}
        expected = " or ".join(shapes[rank] for rank in reversed(ranks))
        raise ValueError(f"X must have shape {expected}, got {X.shape}")
    if X.shape[-1] != mlp.sizes[0]:
        raise ValueError(f"X has {X.shape[-1]} features, but the network takes {mlp.sizes[0]}")
    if X.shape[0] == 0:
        raise ValueError("X holds no samples")
    X = as_jax("X", X)
    if X.dtype != dtype:
        raise TypeError(f"X is {X.dtype}, but the parameters are {dtype}: cast one of them")
    return X


def as_jax(name: str, values: Any) -> Array:
    """Return a JAX array; refused where an entry is not finite, or is not once it is float32."""
    with np.errstate(over="ignore"):
        array = jnp.asarray(values)
    if checks.is_concrete(array):
        checks.finite(name, np.asarray(array))
    return array


def as_array(name: str, values: Any):
    """Return JAX and NumPy arrays as they are and anything else as a NumPy array."""
    if isinstance(values, jax.Array | np.ndarray):
        array = values
    else:
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"{name} is not an array: {error}") from None
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) or array.dtype.kind in "OUSMm":
        raise TypeError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    return array
