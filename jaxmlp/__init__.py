"""A laboratory for gradient flow in multilayer perceptrons, in pure functions on JAX pytrees.

Every gradient is derived by hand, proven equal to `jax.grad`, and measurable at any depth.

    mlp = jaxmlp.MLP((2, 4, 3), hidden="relu", output="softmax")     describe a network
    params = mlp.init(jax.random.key(0), "he")                       draw its parameters
    J = jaxmlp.Objective(mlp, "cross_entropy")                       the mean loss J(params, X, Y)
    value, grads = jaxmlp.value_and_grad(J)(params, X, Y)            backpropagation by hand
    jaxmlp.trace(J)(params, X, Y)                                    every intermediate of it
    params, history = jaxmlp.fit(J, params, X, Y, optimizer=0.1, epochs=100)
    jaxmlp.fit_many(J, many, X, Y, optimizer=0.1, epochs=100)        networks stacked, each as alone
    jaxmlp.check_grads(candidate, J, params, X, Y)                   is my gradient right?
    jaxmlp.gradient_flow(J)(params, X, Y)                            log10 magnitudes at any depth
    jaxmlp.jacobian_spectrum(mlp)(params, X)                         singular values at any depth
    jaxmlp.instruments(J, ("grad", "per_sample_norms"))(params, X, Y)  each sample's own gradient
    jaxmlp.depth_sweep(activations=..., depths=..., X=X, Y=Y)        the same for many networks
    jaxmlp.training_sweep(depths=..., optimizer="adam:1e-3", num_steps=300, ...)  trained, too
    jaxmlp.meanfield.predict("tanh", 1.0, 0.0, depth=50, width=256)  what theory says of it

Read activations, losses, mlp, objective, backprop in this order and you have read the lecture.
"""

from jaxmlp import (
    activations,
    datasets,
    initializers,
    losses,
    meanfield,
    per_sample,
    plotting,
    sweep,
    testing,
)
from jaxmlp.activations import Activation
from jaxmlp.backprop import LayerTrace, grad, trace, value_and_grad
from jaxmlp.compare import relative_difference
from jaxmlp.flow import GradientFlow, gradient_flow
from jaxmlp.gradcheck import Certificate, Diagnosis, check_grads
from jaxmlp.layer import Layer
from jaxmlp.mlp import MLP
from jaxmlp.objective import Objective
from jaxmlp.per_sample import (
    GradientMoments,
    NoiseScale,
    clipped_grad,
    gradient_gram,
    gradient_moments,
    instruments,
    noise_scale,
    per_sample_grads,
    per_sample_norms,
    per_sample_sq_norms,
)
from jaxmlp.spectrum import LyapunovExponents, jacobian_spectrum, lyapunov_exponents
from jaxmlp.storage import as_dict, from_dict, layers, stack, weight_mask
from jaxmlp.sweep import SweepTable, depth_sweep, training_sweep
from jaxmlp.train import History, Metrics, Panel, fit, fit_many, panel, train_step

__version__ = "0.1.0"
__all__ = [
    "MLP",
    "Activation",
    "Certificate",
    "Diagnosis",
    "GradientFlow",
    "GradientMoments",
    "History",
    "Layer",
    "LayerTrace",
    "LyapunovExponents",
    "Metrics",
    "NoiseScale",
    "Objective",
    "Panel",
    "SweepTable",
    "activations",
    "as_dict",
    "check_grads",
    "clipped_grad",
    "datasets",
    "depth_sweep",
    "fit",
    "fit_many",
    "from_dict",
    "grad",
    "gradient_flow",
    "gradient_gram",
    "gradient_moments",
    "initializers",
    "instruments",
    "jacobian_spectrum",
    "layers",
    "losses",
    "lyapunov_exponents",
    "meanfield",
    "noise_scale",
    "panel",
    "per_sample",
    "per_sample_grads",
    "per_sample_norms",
    "per_sample_sq_norms",
    "plotting",
    "relative_difference",
    "stack",
    "sweep",
    "testing",
    "trace",
    "train_step",
    "training_sweep",
    "value_and_grad",
    "weight_mask",
]
