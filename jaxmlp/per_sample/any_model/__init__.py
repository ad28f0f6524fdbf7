"""The instruments of any JAX model: Flax, Equinox, Haiku, plain functions.

`of(loss, names)` takes the loss of one sample. Its results are those of
`jax.vmap(jax.grad(loss), (None, 0, 0))`, leaf by leaf. If the parameters are weights of matrix
products, they cost about as much as one gradient:

1. `tracing` traces the loss and finds the products of which one side is a parameter.
2. `derivatives` adds a zero probe to the result of each product and differentiates once, in the
   probes and in all other parameters. That gives A and dZ of each product.
3. `readouts` computes every quantity from A and dZ.
4. `instruments` merges microbatches and finishes the results.

`explain` says which parameters have such products. Of per_sample, only this package uses autodiff.
"""

from jaxmlp.per_sample.any_model.edge import of
from jaxmlp.per_sample.any_model.explanation import explain

__all__ = ["explain", "of"]
