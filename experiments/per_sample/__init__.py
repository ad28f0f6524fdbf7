"""Do the samples with the largest gradients have wrong labels, and is it good to drop them?

A share of the training labels is flipped. Scores of every sample, read off the hand-written
backward pass, are to find them; training on the samples that a score keeps tells what it is worth.
GraNd is the norm of a sample's gradient over all parameters, EL2N that of its softmax error a - y,
both averaged over networks.

M. Paul, S. Ganguli, G. Dziugaite, "Deep learning on a data diet: finding important examples early
in training", 2021. A. Kirsch, "Does 'Deep learning on a data diet' reproduce? Overall yes, but
GraNd at initialization does not", 2023.
"""
