"""Figures: functions that draw on the axes they are given, and return them."""

from jaxmlp.plotting.cost import cost_against_batch
from jaxmlp.plotting.flow import (
    decades_lost,
    depth_sweep,
    depth_sweep_panels,
    derivative_histograms,
    float32_limits,
    gradient_flow,
)
from jaxmlp.plotting.samples import bands, images, norms_by_layer, precision_recall, through_epochs
from jaxmlp.plotting.style import new_axes

__all__ = [
    "bands",
    "cost_against_batch",
    "decades_lost",
    "depth_sweep",
    "depth_sweep_panels",
    "derivative_histograms",
    "float32_limits",
    "gradient_flow",
    "images",
    "new_axes",
    "norms_by_layer",
    "precision_recall",
    "through_epochs",
]
