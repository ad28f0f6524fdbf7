"""What vanishes in a deep network, what does not, and which weights never move?

The product of activation derivatives is compared with the gradient itself. Weights that a step does
not change by a bit are counted, and so are dead ReLU units. The lecture's statements about
activations are measured on handwritten digits and on the spiral.
"""
