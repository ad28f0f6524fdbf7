"""The statements of the notes about activations, measured."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp
from experiments.activations.measured import curve, grid
from jaxmlp import activations as acts

SOFTMAX_Z = (1.1, 2.2, 0.2, -1.7)  # B1's example
TASKS = (
    "D13 output unit: linear for regression; sigmoid, tanh or softmax for classification "
    "(sigmoid for two classes\n    or several labels at once, softmax for one of many). "
    "Hidden units: sigmoid, tanh, ReLU."
)


def identities(reach: float) -> dict[str, float]:
    """Return the largest difference of the two sides of each identity of D2-D11, |z| <= reach."""
    z = grid(reach)
    below, e, sigmoid = z[z < 0], np.exp(z), acts.sigmoid.fn(z)
    elu, prelu = acts.elu(0.5), acts.prelu.fn
    sides = {
        "D2  step, 1/2 at 0; one of the notes has 1": (acts.step.fn(z), jnp.heaviside(z, 1.0)),
        "D5  sigmoid = 1/(1 + e^-z)": (sigmoid, 1 / (1 + np.exp(-z))),
        "D5  sigmoid = e^z/(e^z + 1)": (sigmoid, e / (e + 1)),
        "D6  tanh z = 2 sigmoid(2z) - 1": (acts.tanh.fn(z), 2 * acts.sigmoid.fn(2 * z) - 1),
    }
    for alpha in (0.25, 1.0, 1.5):
        name = f"D9  prelu = max(alpha z, z), alpha = {alpha:g}"
        sides[name] = prelu(z, alpha), np.maximum(alpha * z, z)
    sides |= {
        "D10 elu below 0: f + alpha = alpha e^z, alpha = 0.5": (
            elu.fn(below) + 0.5,
            0.5 * np.exp(below),
        ),
        "D11 softplus: derivative = sigmoid": (curve(acts.softplus, z).hand, sigmoid),
    }  # fmt: skip
    return {name: float(abs(one - other).max()) for name, (one, other) in sides.items()}


def slope_difference(reach: float) -> float:
    """Return D9: PReLU's derivative in its slope, min(z, 0), by hand against autodiff.

    One neuron a = prelu(z), and the loss |a - y| with y below a, whose derivative in a is 1.
    """
    J = jaxmlp.Objective(jaxmlp.MLP((1, 1), output="prelu", use_bias=False), "norm")
    z = grid(reach, (0,))[:, None, None]
    params = (jaxmlp.Layer(jnp.ones((1, 1)), None, jnp.asarray(0.25)),)
    Y = np.where(z > 0, z, 0.25 * z) - 1
    (hand,), (auto,) = (
        jax.vmap(jax.jit(transform(J)), (None, 0, 0))(params, z, Y)
        for transform in (jaxmlp.grad, jax.grad)
    )
    both = np.stack([hand.slope, auto.slope]) - np.minimum(z, 0).ravel()
    return float(np.abs(both).max())


def softmax_jacobian(z=SOFTMAX_Z):
    """Return B1, B2: s, its Jacobian by hand, and the largest difference from autodiff."""
    softmax, z = acts.softmax.fn, jnp.asarray(z)
    s = softmax(z)
    hand = acts.softmax_vjp(jnp.tile(s, (len(s), 1)), jnp.eye(len(s)))
    return np.asarray(s), np.asarray(hand), float(abs(hand - jax.jacrev(softmax)(z)).max())


def statements(reach: float) -> list[str]:
    """Return rows of the notes' remarks, measured."""
    reach = min(reach, 700.0)  # beyond 709 e^z overflows, and e^z/(e^z + 1) is no number
    s, jacobian, error = softmax_jacobian()
    return [
        f"\nLargest difference for |z| <= {reach:g}:",
        *(f"  {name}: {found:.1e}" for name, found in identities(reach).items()),
        f"  D9  prelu: its derivative in the slope by hand, by jax, and min(z, 0): "
        f"{slope_difference(reach):.1e}",
        f"B1  softmax{SOFTMAX_Z} = {tuple(s.round(4).tolist())}; slip: the notes cut the last, "
        f"{s[-1]:.4f}, to 0.013.",
        f"B2  its Jacobian, s_i (1 - s_i) and -s_i s_k; by hand and by jax differ by {error:.0e}:",
        *("    " + "".join(f"{value:9.4f}" for value in row) for row in jacobian),
        TASKS,
    ]
