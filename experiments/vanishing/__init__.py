"""What vanishes in a deep network, what does not, and which weights never move?

The product of activation derivatives against the gradient itself, weights that a step leaves as
they are to the last bit, ReLU units that died, and what the lecture says of activations, measured
on handwritten digits and on the spiral.
"""
