"""Do the samples with the largest gradients have wrong labels, and is it good to drop them?

Some of the training labels are flipped. Scores of every sample, computed in the hand-written
backward pass, should find them. Training on the samples that a score keeps shows what the score is
worth. GraNd is the norm of a sample's gradient over all parameters, EL2N that of its softmax error
a - y; both are averaged over networks.

M. Paul, S. Ganguli, G. Dziugaite, "Deep learning on a data diet: finding important examples early
in training", 2021. A. Kirsch, "Does 'Deep learning on a data diet' reproduce? Overall yes, but
GraNd at initialization does not", 2023.
"""
