"""How far do the singular values of a deep network's Jacobian spread?

Linear, ReLU and tanh networks of 10, 100 and 1,000 layers with Gaussian and with orthogonal
weights: the spectrum of d output / d input in decades a layer, beside the exponents of the theory,
and how each direction grows from layer to layer.

Sources: C. M. Newman 1986, "The distribution of Lyapunov exponents"; J. Pennington, S. Schoenholz &
S. Ganguli 2017, "Resurrecting the sigmoid in deep learning through dynamical isometry".
"""
