"""The instruments of any JAX model: Flax, Equinox, Haiku, plain functions.

`of(loss, names)` takes the loss of one sample. It is `jax.vmap(jax.grad(loss), (None, 0, 0))` leaf
by leaf, and costs about one gradient where the parameters are weights of matrix products:

1. `tracing` traces the loss and finds the products whose one side is a parameter;
2. `derivatives` adds a zero probe to each and differentiates once, in the probes and in all other
   parameters, which gives A and dZ of each product;
3. `readouts` reads every quantity off A and dZ;
4. `instruments` merges what microbatches say.

`explain` says which parameters have products. It is the one part of per_sample that uses autodiff.
"""

from jaxmlp.per_sample.any_model.edge import of
from jaxmlp.per_sample.any_model.explanation import explain

__all__ = ["explain", "of"]
