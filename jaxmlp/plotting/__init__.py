"""Figures: functions that draw on the axes they are given, and return them."""

from jaxmlp.plotting.comparison import against_prediction, correlations, measured_factors
from jaxmlp.plotting.cost import cost_against_batch
from jaxmlp.plotting.flow import (
    decades_lost,
    depth_sweep,
    depth_sweep_panels,
    derivative_histograms,
    float32_limits,
    gradient_flow,
)
from jaxmlp.plotting.functions import (
    activation,
    activation_panels,
    decision_regions,
    derivative_difference,
)
from jaxmlp.plotting.graph import network, path_sum
from jaxmlp.plotting.samples import bands, images, norms_by_layer, precision_recall, through_epochs
from jaxmlp.plotting.style import COLOURS, new_axes
from jaxmlp.plotting.theory import phase_diagram, prediction_band
from jaxmlp.plotting.training import descents, learning_curves, weight_image
from jaxmlp.plotting.vanishing import (
    accuracy_by_depth,
    largest_activations,
    largest_inputs,
    relative_to_output,
    unchanged_bits,
)

__all__ = [
    "COLOURS",
    "accuracy_by_depth",
    "activation",
    "activation_panels",
    "against_prediction",
    "bands",
    "correlations",
    "cost_against_batch",
    "decades_lost",
    "decision_regions",
    "depth_sweep",
    "depth_sweep_panels",
    "derivative_difference",
    "derivative_histograms",
    "descents",
    "float32_limits",
    "gradient_flow",
    "images",
    "largest_activations",
    "largest_inputs",
    "learning_curves",
    "measured_factors",
    "network",
    "new_axes",
    "norms_by_layer",
    "path_sum",
    "phase_diagram",
    "precision_recall",
    "prediction_band",
    "relative_to_output",
    "through_epochs",
    "unchanged_bits",
    "weight_image",
]
