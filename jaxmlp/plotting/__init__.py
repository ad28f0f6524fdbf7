"""Figures: functions that draw on the axes they are given, and return them."""

from jaxmlp.plotting.comparison import against_prediction, correlations, measured_factors
from jaxmlp.plotting.flow import (
    decades_lost,
    depth_sweep,
    depth_sweep_panels,
    derivative_histograms,
    float32_limits,
    gradient_flow,
)
from jaxmlp.plotting.style import COLOURS, new_axes
from jaxmlp.plotting.theory import phase_diagram, prediction_band

__all__ = [
    "COLOURS",
    "against_prediction",
    "correlations",
    "decades_lost",
    "depth_sweep",
    "depth_sweep_panels",
    "derivative_histograms",
    "float32_limits",
    "gradient_flow",
    "measured_factors",
    "new_axes",
    "phase_diagram",
    "prediction_band",
]
