"""What cures a network of 100 layers?

Sigmoid, tanh and ReLU networks: plain with three initialisations, with residual connections, with
layer and RMS norms, with both, and with ReZero's learned gates. For each the gradient flow at birth
is measured beside mean-field theory, and so is the accuracy on digits with the best of four
learning rates.

Sources: K. He et al. 2016, "Identity mappings in deep residual networks"; J. L. Ba et al. 2016,
"Layer normalization"; T. Bachlechner et al. 2020, "ReZero is all you need".
"""
