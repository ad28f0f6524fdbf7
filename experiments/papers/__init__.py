"""Do the classic figures on gradients in deep networks come out again?

Ten papers, each with a figure, and one table: the published number, that of theory, and the one
measured here, at a size for two cores. Each module is one paper.
"""
