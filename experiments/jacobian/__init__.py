"""How far do the singular values of a deep network's Jacobian spread?

For linear, ReLU and tanh networks of 10, 100 and 1,000 layers, with Gaussian and with orthogonal
weights: the singular values of d output / d input in decades a layer, beside the exponents of
theory, and the growth of each direction from layer to layer.

Sources: C. M. Newman 1986, "The distribution of Lyapunov exponents"; J. Pennington, S. Schoenholz &
S. Ganguli 2017, "Resurrecting the sigmoid in deep learning through dynamical isometry".
"""
