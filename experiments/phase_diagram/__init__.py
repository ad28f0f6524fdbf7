"""Which variances of weights and biases let gradients through?

The plane of (sigma_w2, sigma_b2) is coloured by chi_1, the factor by which the squared norm of dz
changes at every layer according to mean-field theory. Gradients vanish below 1 and explode above.
The line chi_1 = 1 is the edge of chaos. Dots are networks that were drawn and measured, in the same
colours.

Source: S. Schoenholz et al., "Deep information propagation", 2017.
"""
