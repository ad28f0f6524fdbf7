"""How fast is it? Ratios against rivals, measured in turns.

Every rival does the same work on the same data. In each round every rival runs once, in changing
order. A ratio is the median over the rounds of our time divided by the rival's: if it is below 1,
the hand-written pass is faster.
"""
