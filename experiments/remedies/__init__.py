"""What cures a network of 100 layers?

Sigmoid, tanh and ReLU networks: plain with three initialisations, with residual connections, with
layer and RMS norms, with both, and with ReZero's learned gates. For each the gradient flow at
birth, beside mean-field theory, and how well the best of four learning rates fits digits.

Sources: K. He et al. 2016, "Identity mappings in deep residual networks"; J. L. Ba et al. 2016,
"Layer normalization"; T. Bachlechner et al. 2020, "ReZero is all you need".
"""
