"""In which networks do gradients vanish, and in which do they survive?

Networks of 2 to 1,000 hidden layers get the same handwritten digits. At every layer the norm of
each sample's own derivative dZ and that of the weight gradient are measured, even if they are far
smaller than float32 can hold.
"""
