"""Mean-field theory of wide networks: predictions for any activation, without a network.

`z[l] = W[l] phi(z[l-1]) + b[l]`, `W ~ N(0, sigma_w2 / fan_in)`, `b ~ N(0, sigma_b2)`.

    fixed_point("tanh", 1.5, 0.05)               where length and correlation settle, and how fast
    critical_point("tanh", sigma_b2=0.05)        the variances at which gradients keep their size
    half_stable_point("gelu")                    a critical point that attracts from one side
    criticality_table()                          critical points of every activation
    predict("tanh", 1.0, 0.0, depth=50, width=256, num_nets=20)     each layer, with a band
    predict("relu", 2.0, 0.0, depth=50, residual="1/sqrt(depth)", norm="layer")     with remedies
    phase_diagram("tanh", sigma_w2_grid, sigma_b2_grid)             fixed points over a grid
    jacobian("tanh", 1.05, 2e-5, depth=50, weights="orthogonal")    its singular values
    linear_exponents(64)                         growth rates of linear layers

Read quadrature, integrals, lengths, correlations, remedies, fixed_points, critical, predictions,
finite_width, finite_streams, spectra. Everything runs on the host in float64, whatever the caller's
precision, and is accurate to 1e-10. chi_1 of step and sign is 0, because their derivative is 0
almost everywhere.
"""

from jaxmlp.meanfield.correlations import correlation_map
from jaxmlp.meanfield.critical import (
    CriticalPoint,
    critical_point,
    criticality_table,
    half_stable_point,
)
from jaxmlp.meanfield.diagram import PhaseDiagram, phase_diagram
from jaxmlp.meanfield.fixed_points import FixedPoint, fixed_point
from jaxmlp.meanfield.integrals import Moments, moments
from jaxmlp.meanfield.lengths import length_map
from jaxmlp.meanfield.predictions import Prediction, predict, variances
from jaxmlp.meanfield.spectra import (
    GatedExponents,
    Jacobian,
    jacobian,
    linear_exponents,
    relu_exponents,
)

__all__ = [
    "CriticalPoint",
    "FixedPoint",
    "GatedExponents",
    "Jacobian",
    "Moments",
    "PhaseDiagram",
    "Prediction",
    "correlation_map",
    "critical_point",
    "criticality_table",
    "fixed_point",
    "half_stable_point",
    "jacobian",
    "length_map",
    "linear_exponents",
    "moments",
    "phase_diagram",
    "predict",
    "relu_exponents",
    "variances",
]
