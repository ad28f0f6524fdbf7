"""Why is one layer not enough, and a hidden layer without a non-linearity no better?

Three arms of a spiral in the plane, 100 points each, are learned by softmax regression, by a
network with a linear hidden layer, and by one with a non-linear one. They are trained in float64 by
full-batch gradient descent with L2 decay on the weights: loss + decay/2 sum W^2. The shapes of the
lecture's (2, 4, 3) network are printed beside its slips.

Seed 0 gives the published data, and the weights that the notes' program draws after them with
NumPy's seed 0 (their page shows another draw). Other seeds draw other spirals and weights.

Source: A. Karpathy, CS231n notes, "Minimal neural network case study".
"""
