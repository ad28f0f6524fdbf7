"""Do 10,000 layers train?

A tanh network without any remedy, at the edge of chaos. With orthogonal weights times the root of
1.05 the gradient passes 10,000 layers; with Gaussian weights of the same variance it loses decades.
The orthogonal network then learns digits, and the panel records it.

Source: L. Xiao et al., "Dynamical isometry and a mean field theory of CNNs", 2018.
"""
