"""The network: its description, the random draw of its parameters, and its forward pass.

Z[l] = A[l-1] @ W[l] + b[l]        A[l] = act[l](Z[l])        A[0] = X, rows are samples

A residual and a norm add steps between Z and A: see `layer`.
"""

import dataclasses
import functools
import itertools
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from jaxmlp import activations, checks, edge, initializers, norms, walk
from jaxmlp.activations import Activation
from jaxmlp.initializers import Initializer
from jaxmlp.layer import REZERO, Params, Spec, started
from jaxmlp.layer import forward as layer_forward
from jaxmlp.storage import STACK_FROM, Layer, canonical
from jaxmlp.walk import Rule, Run

INVERSE_ROOT = "1/sqrt(depth)"


@dataclasses.dataclass(frozen=True, repr=False)
class MLP:
    """Describe a multilayer perceptron. Its parameters are kept apart, in a tuple of Layers.

    Args:
      sizes: `(d_0, ..., d_L)`: inputs, hidden widths, outputs. There are L weight layers. `(d, 1)`
        is one neuron, `(d, K)` a softmax regression.
      hidden: activation of the hidden layers: a name, an Activation, or a sequence with one for
        each of them. It is ignored if there is no hidden layer.
      output: activation of the last layer.
      use_bias: whether the layers have biases b.
      residual: alpha in `S = S_prev + alpha Z`: a number above 0; "1/sqrt(depth)"; "rezero", one
        learned alpha for each layer, which starts at 0; or None for no residual. Only the hidden
        layers 2..depth with d_in = d_out have it.
      norm: "layer" or "rms", before the activation of every hidden layer; None for no norm. With
        a residual this is the pre-norm residual network. Nothing is learned in a norm.
      norm_eps: the number added to the variance under the root.
      stack_from: a run of more than this many hidden layers of equal shape and Spec is stored as
        one stacked Layer, through which a compiled loop walks; None never stacks.

    Raises:
      TypeError, ValueError: for sizes that are not integers of at least 1, unknown activations,
        a wrong number of them, softmax as a hidden activation, a residual that is not above 0,
        and batch normalisation.

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
    residual: float | str | None = None
    norm: str | None = None
    norm_eps: float = 1e-6
    stack_from: int | None = STACK_FROM

    def __post_init__(self):
        sizes = _checked_sizes(self.sizes)
        hidden = _checked_hidden(self.hidden, len(sizes) - 2)
        if not isinstance(self.use_bias, bool):
            raise TypeError(f"use_bias must be True or False, got {self.use_bias!r}")
        if self.stack_from is not None:
            checks.integer("stack_from", self.stack_from, at_least=1)
        norms.get(self.norm, self.norm_eps)  # refuses an unknown norm
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "hidden", hidden)
        object.__setattr__(self, "output", activations.get(self.output))
        object.__setattr__(self, "residual", _checked_residual(self.residual))

    def __hash__(self):
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        # jit hashes its static arguments at every call, and `sizes` may hold 10,000 numbers
        return hash(tuple(getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "_"))

    def __getstate__(self):
        # The cached hash is not pickled, because hashes of strings differ between processes
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "_"}

    @property
    def num_layers(self) -> int:
        """Return L, the number of weight layers: depth + 1."""
        return len(self.sizes) - 1

    @property
    def depth(self) -> int:
        """Return the number of hidden layers."""
        return len(self.sizes) - 2

    @functools.cached_property
    def activations(self) -> tuple[Activation, ...]:
        """Return the activations of the layers 1..L; the last is the output's."""
        return (*self.hidden, self.output)

    @functools.cached_property
    def specs(self) -> tuple[Spec, ...]:
        """Return the Specs of the layers 1..L."""
        norm = norms.get(self.norm, self.norm_eps)
        alpha = self.depth**-0.5 if self.residual == INVERSE_ROOT and self.depth else self.residual
        # Each hidden layer has one of two Specs of its activation: without or with the residual
        pairs = itertools.pairwise(self.sizes)
        acts = {act: (Spec(act, norm), Spec(act, norm, alpha)) for act in self.hidden}
        hidden = [
            acts[act][number > 1 and d_in == d_out]
            for number, (act, (d_in, d_out)) in enumerate(zip(self.hidden, pairs, strict=False), 1)
        ]
        return (*hidden, Spec(self.output))

    @property
    def num_parameters(self) -> int:
        """Return how many numbers are learned: weights, biases, PReLU's slopes, ReZero's gates."""
        weights = sum(d_in * d_out for d_in, d_out in itertools.pairwise(self.sizes))
        biases = sum(self.sizes[1:]) if self.use_bias else 0
        return weights + biases + sum(len(spec.fields(False)) - 1 for spec in self.specs)

    @functools.cached_property
    def runs(self) -> tuple[Run, ...]:
        """Return how `init` stores the layers: one Run for each plain layer and for each stack."""
        layers = zip(itertools.count(1), itertools.pairwise(self.sizes), self.specs, strict=False)
        *hidden, output = layers
        runs = []
        for (shape, spec), group in itertools.groupby(hidden, key=lambda layer: layer[1:]):
            first, *rest = (number for number, _, _ in group)
            if self.stack_from is not None and len(rest) + 1 > self.stack_from:
                runs.append(Run(first, len(rest) + 1, shape, spec))
            else:
                runs.extend(Run(number, None, shape, spec) for number in (first, *rest))
        number, shape, spec = output
        return (*runs, Run(number, None, shape, spec))

    def __repr__(self):
        sizes = repr(self.sizes)
        if len(self.sizes) > 12:
            sizes = f"({', '.join(map(str, self.sizes[:3]))}, ..., {self.sizes[-1]})"
        lines = [f"MLP {sizes}: {self.num_parameters:,} parameters"]
        for run in self.runs:
            n, (d_in, d_out), spec = run.count, run.shape, run.spec
            # One line for each plain layer or stack
            lead = () if n is None else (n,)
            number = (
                f"layer {run.first}" if n is None else f"layers {run.first}-{run.first + n - 1}"
            )
            parts = [f"W {(*lead, d_in, d_out)}"]
            parts += [f"b {(*lead, d_out)}"] if self.use_bias else []
            parts += [] if spec.norm is None else [f"{spec.norm.name} norm"]
            parts.append(spec.activation.name)
            if spec.residual is not None:
                alpha = spec.residual
                parts.append(f"residual {alpha if isinstance(alpha, str) else f'{alpha:.4g}'}")
            lines.append(f"  {number}: {', '.join(parts)}")
        return "\n".join(lines)

    def init(
        self, key: Array, init: str | Initializer | Callable = "he", *, dtype: Any = None
    ) -> Params:
        """Draw the parameters; layer l is drawn from `jax.random.fold_in(key, l)`.

        So networks of different depth have their first layers in common.

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
            for run in self.runs  # `first` is a traced number, so equal layers compile once
        )

    def apply(self, params: Sequence[Layer], X: Array) -> Array:
        """Return the output A[L]: X `(m, d_0)` -> `(m, d_L)`; one sample `(d_0,)` -> `(d_L,)`.

        Raises:
          ValueError: for a wrong shape, NaN or infinity, and parameters of another network.
          TypeError: for an X that is not floating, or not of the parameters' dtype.
        """
        params = edge.as_layers(params)
        dtype = edge.checked_params(self, params)
        X = edge.checked_inputs(self.sizes[0], X, dtype, ranks=(1, 2))
        return _apply(self, params, X)


# --- the forward pass -----------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="mlp")
def _apply(mlp: MLP, params, X):
    if X.ndim == 1:
        return forward(mlp, params, X[None])[1][0]
    return forward(mlp, params, X)[1]


def forward(mlp: MLP, params: Sequence[Layer], X: Inexact[Array, "m d_0"]):
    """Return `(Z[L], A[L])`, save nothing. It is plain JAX, so autodiff can differentiate it."""

    def one(spec: Spec, layer: Layer, carry):
        passed = layer_forward(spec, layer, *carry)
        return (passed.A, passed.S), None, None

    rule = Rule(one, one)  # the second is never called, because nobody walks back
    (A, Z), _, _ = walk.forward(rule, mlp.runs, canonical(mlp.runs, params), (X, None))
    return Z, A


# --- the random draw ------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _draw_run(init: Initializer, run: Run, use_bias: bool, dtype, key, first) -> Layer:
    def draw(number):
        W, b = initializers.draw(init, jax.random.fold_in(key, number), run.shape, use_bias, dtype)
        return started(run.spec, W, b)

    if run.count is None:
        return draw(first)
    # Not vmap: the draw of 10,000 layers of width 128 takes 2.7 GiB at once, in a loop 0.85 GiB
    return jax.lax.map(draw, first + jnp.arange(run.count))


# --- checks of the description --------------------------------------------------------------------


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


def _checked_residual(residual: Any) -> float | str | None:
    if residual is None or residual in (INVERSE_ROOT, REZERO):
        return residual
    if isinstance(residual, str):
        raise checks.unknown_name("residual", residual, (INVERSE_ROOT, REZERO))
    if isinstance(residual, bool) or not isinstance(residual, numbers.Real):
        raise TypeError(
            f'residual must be None, a number, "{INVERSE_ROOT}" or "{REZERO}", got {residual!r}'
        )
    return checks.positive_number("residual", residual)
