"""Do per-sample gradients find wrong labels in any JAX model, and what do they cost?

An Equinox MLP, a Flax network with layer norm, an attention block and a convolution in plain
functions learn digits with some labels flipped; the norm of each sample's gradient is to find
them. What the norms cost is measured against a plain gradient, beside `vmap(grad)` and, if they are
installed, jax_privacy, BackPACK and Opacus.
"""
