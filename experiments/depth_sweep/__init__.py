"""In which networks do gradients vanish, and in which do they survive?

Networks of 2 to 1,000 hidden layers meet the same handwritten digits; at every layer the norm of
each sample's own derivative dZ is measured, and that of the weight gradient, also far below the
numbers that float32 can hold.
"""
