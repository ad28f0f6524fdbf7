"""What can one neuron learn, and do the numbers of the lecture hold?

The lecture's numbers, computed; the chain rule of one neuron, factor by factor; six vehicles
learnt by one neuron and by a 3-4-2 network, updated after every sample, mini-batch or epoch, on
raw and on standardised inputs; two handwritten digits told apart by one neuron; gradient descent
on a parabola, and the slip that climbs it.
"""
