"""Figures: functions that draw on the axes they are given, and return them."""

from jaxmlp.plotting.flow import decades_lost, depth_sweep, gradient_flow
from jaxmlp.plotting.functions import activation
from jaxmlp.plotting.style import COLOURS, new_axes
from jaxmlp.plotting.theory import phase_diagram, prediction_band
from jaxmlp.plotting.training import decision_regions, learning_curves, panel

__all__ = [
    "COLOURS",
    "activation",
    "decades_lost",
    "decision_regions",
    "depth_sweep",
    "gradient_flow",
    "learning_curves",
    "new_axes",
    "panel",
    "phase_diagram",
    "prediction_band",
]
