"""Do 10,000 layers train?

A tanh network without any remedy, at the edge of chaos: orthogonal weights times the root of 1.05
let the gradient through 10,000 layers, Gaussian ones of the same variance lose it in decades. The
orthogonal network then learns digits, watched by the panel.

Source: L. Xiao et al., "Dynamical isometry and a mean field theory of CNNs", 2018.
"""
