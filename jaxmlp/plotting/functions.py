"""An activation and its derivative."""

import itertools

import numpy as np

from jaxmlp.plotting.style import BLUE, GREEN, ORANGE, bare, new_axes


def activation(act, ax=None, *, reach: float = 4.0):
    """Draw a jaxmlp.Activation and its hand-written derivative for |z| up to `reach`.

    Lines break at its kinks, where dots mark the values taken; PReLU has its derivative in the
    slope too, `min(z, 0)` (D9).
    """
    ax = new_axes(ax)
    kinks = np.array([kink for kink in act.kinks if abs(kink) < reach], np.float32)
    aside = 1e-5 * reach
    for low, high in itertools.pairwise([-reach, *kinks, reach]):
        z = np.linspace(low + aside, high - aside, 201, dtype=np.float32)
        A = act.fn(z)
        ax.plot(z, A, color=BLUE, label="function")
        ax.plot(z, act.derivative(z, A), color=ORANGE, ls="--", label="derivative")
        if act.slope is not None:
            ax.plot(z, np.minimum(z, 0), color=GREEN, ls=":", label="derivative in the slope")
    if kinks.size:
        A = act.fn(kinks)
        ax.plot(kinks, A, ".", color=BLUE)
        ax.plot(kinks, act.derivative(kinks, A), ".", color=ORANGE)
    ax.set(xlabel="z", xlim=(-reach, reach))
    return bare(ax)
