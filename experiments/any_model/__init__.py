"""Do per-sample gradients find wrong labels in any JAX model, and what do they cost?

An Equinox MLP, a Flax network with layer norm, an attention block and a convolution in plain
functions learn digits of which some labels are flipped. The norm of each sample's gradient should
find these labels. Its cost over a plain gradient is measured, and so is that of `vmap(grad)` and,
if they are installed, of jax_privacy, BackPACK and Opacus.
"""
