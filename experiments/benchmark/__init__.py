"""How fast is it? Ratios against rivals, measured in turns.

Every rival does the same work on the same data. In each round every rival runs once, in changing
order; a ratio is the median over the rounds of one time divided by the other. Below 1 the
hand-written pass is faster.
"""
