"""Why is one layer not enough, and a hidden layer without a non-linearity no better?

Three arms of a spiral in the plane, 100 points each, meet softmax regression, a network whose
hidden layer is linear, and one whose hidden layer is not; all in float64, by full-batch gradient
descent with L2 decay on the weights: loss + decay/2 sum W^2. The shapes of the lecture's
(2, 4, 3) network are printed beside its slips.

Seed 0 is the published data, and the weights that the notes' program draws after them with NumPy's
seed 0 (their page shows another draw). Any other seed draws another spiral and other weights.

Source: A. Karpathy, CS231n notes, "Minimal neural network case study".
"""
