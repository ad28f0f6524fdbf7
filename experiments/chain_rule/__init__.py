"""What are the factors of the chain rule, as numbers?

For a network: every intermediate of the backward pass, beside autodiff of the same intermediate.
For one of its weights: every path from the weight to an output, the factors on the way, and the
sum of their products beside jax.grad. Then the same for the network of the lecture. In float64.
"""
