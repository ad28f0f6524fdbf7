"""A laboratory for gradient flow in multilayer perceptrons."""

from jaxmlp import activations, initializers, losses
from jaxmlp.activations import Activation
from jaxmlp.backprop import LayerTrace, grad, trace, value_and_grad
from jaxmlp.mlp import MLP
from jaxmlp.objective import Objective
from jaxmlp.storage import Layer, as_dict, from_dict, layers, stack, weight_mask
from jaxmlp.train import History, Metrics, fit, train_step
