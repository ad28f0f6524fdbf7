"""To which depth do random networks train?

Training accuracy over depth and sigma_w2, the variance of the weights, after a few hundred steps of
plain gradient descent, with six times the depth over which mean-field theory says two inputs still
differ, xi_c. Beside tanh, the same map for ReLU and for a residual network.

Source: S. Schoenholz et al., "Deep information propagation", 2017, figure 5.
"""
