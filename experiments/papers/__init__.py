"""Do the classic figures on gradients in deep networks come out again?

Ten papers, one figure each and one table: what was published, what follows from theory, and what is
measured here, scaled to two cores. A module holds one paper.
"""
