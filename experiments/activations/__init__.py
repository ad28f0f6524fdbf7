"""What does an activation do to a number, and to a derivative?

Each activation with its derivative, and under it the difference between the derivative by hand and
autodiff, in float64. What is wanted of an activation (D13) is measured on a grid: its range,
steepness, symmetry, monotony, and where its derivative dies out or is exactly 0.
"""
