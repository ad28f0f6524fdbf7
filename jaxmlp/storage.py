"""Parameters: a tuple of layers, input side first; long runs of equal layers as one stacked array.

A plain `Layer` holds `W (d_in, d_out)`; a stacked one holds n layers of equal shape as
`W (n, d, d)`, `b (n, d)`. Every function of the package accepts any grouping of the right layers.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

if TYPE_CHECKING:
    from jaxmlp.mlp import MLP

STACK_FROM = 32


class Layer(NamedTuple):
    """Hold one layer's parameters, or those of n stacked layers (then with a leading n).

    W: `(d_in, d_out)`; b: `(d_out,)`, None without biases; slope: `()`, PReLU's, None elsewhere.
    """

    W: Float[Array, "*n d_in d_out"]
    b: Float[Array, "*n d_out"] | None = None
    slope: Float[Array, "*n"] | None = None

    def __repr__(self):
        fields = [(name, value) for name, value in self._asdict().items() if value is not None]
        if getattr(self.W, "ndim", 2) == 3:
            shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in fields)
            return f"Layer({self.W.shape[0]} layers: {shapes})"
        return f"Layer({', '.join(f'{name}={value!r}' for name, value in fields)})"


def is_stacked(layer: Layer) -> bool:
    """Whether the Layer holds several layers."""
    return jnp.ndim(layer.W) == 3


def slopes(layer: Layer) -> tuple:
    """What the layer's activation takes after its own arguments: PReLU's slope, else nothing."""
    return () if layer.slope is None else (layer.slope,)


def count(layer: Layer) -> int:
    """How many layers the Layer holds."""
    return layer.W.shape[0] if is_stacked(layer) else 1


def layers(params: Iterable[Layer]) -> list[Layer]:
    """Return one plain Layer for each of the layers 1..L, whatever the storage.

    Example:
      >>> import jax, jaxmlp
      >>> mlp = jaxmlp.MLP((2, *[8] * 50, 3), hidden="tanh", output="softmax")
      >>> params = mlp.init(jax.random.key(0), "lecun")
      >>> len(params), len(layers(params)), layers(params)[49].W.shape
      (3, 51, (8, 8))
    """
    plain = []
    for layer in params:
        if not is_stacked(layer):
            plain.append(layer)
            continue
        columns = [[None] * count(layer) if leaf is None else list(leaf) for leaf in layer]
        plain.extend(Layer(*leaves) for leaves in zip(*columns, strict=True))
    return plain


def stack(layers: Iterable[Layer], mlp: "MLP | None" = None) -> tuple[Layer, ...]:
    """Return the layers in the storage of `mlp.init`: runs of equal layers as one stacked Layer.

    Args:
      layers: plain layers, layer 1 first.
      mlp: the network; its `stack_from` and activations decide. Without it runs of equal shape
        longer than 32 are grouped.
    """
    layers = list(layers)
    groups = _equal_runs(layers) if mlp is None else [run.count or 1 for run in mlp.runs]
    if sum(groups) != len(layers):
        raise ValueError(f"got {len(layers)} layers for a network of {sum(groups)}")
    stacked = [False] * len(groups) if mlp is None else [run.count is not None for run in mlp.runs]
    if mlp is None:
        stacked = [n > STACK_FROM for n in groups]
    params, rest = [], iter(layers)
    for n, as_one in zip(groups, stacked, strict=True):
        run = list(itertools.islice(rest, n))
        params.extend([jax.tree.map(lambda *leaves: jnp.stack(leaves), *run)] if as_one else run)
    return tuple(params)


def _equal_runs(layers: list[Layer]) -> list[int]:
    """Lengths of the runs of layers with equal shapes."""

    def shapes(layer):
        return tuple(None if leaf is None else jnp.shape(leaf) for leaf in layer)

    return [len(list(run)) for _, run in itertools.groupby(layers, key=shapes)]


def as_dict(params: Iterable[Layer]) -> dict[str, Array]:
    """Return `{"W1": ..., "b1": ..., "W2": ...}`, as the notes number them; `slope1` for PReLU.

    Example:
      >>> import jax, jaxmlp
      >>> list(as_dict(jaxmlp.MLP((2, 4, 3)).init(jax.random.key(0))))
      ['W1', 'b1', 'W2', 'b2']
    """
    return {
        f"{name}{number}": leaf
        for number, layer in enumerate(layers(params), start=1)
        for name, leaf in layer._asdict().items()
        if leaf is not None
    }


def from_dict(arrays: Mapping[str, Array], mlp: "MLP | None" = None) -> tuple[Layer, ...]:
    """Return the parameters that `as_dict` made a dictionary of, in the storage of `stack`.

    Raises:
      ValueError: for a name that is not W, b or slope with the number of a layer.
    """
    numbers = [int(name[1:]) for name in map(str, arrays) if re.fullmatch(r"W\d+", name)]
    L = min(max(numbers, default=0), len(arrays) + 1)
    expected = {f"{field}{number}" for field in Layer._fields for number in range(1, L + 1)}
    unknown = sorted(set(map(str, arrays)) - expected)
    missing = sorted({f"W{number}" for number in range(1, max(L, 1) + 1)} - set(arrays))
    if unknown or missing:
        raise ValueError(
            f"expected W1..WL (and b1.., slope1..); unknown: {unknown}, missing: {missing}"
        )
    plain = [
        Layer(arrays[f"W{number}"], arrays.get(f"b{number}"), arrays.get(f"slope{number}"))
        for number in range(1, L + 1)
    ]
    return stack(plain, mlp)


def weight_mask(params: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Return True at every W and False elsewhere: what weight decay may touch.

    Example:
      >>> import optax
      >>> decay = optax.add_decayed_weights(1e-3, mask=weight_mask)
    """
    masks = [jax.tree.map(lambda _: False, layer)._replace(W=True) for layer in params]
    return jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(masks))
