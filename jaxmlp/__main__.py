"""`python -m jaxmlp` compares the hand-written gradient of the (2, 4, 3) network with `jax.grad`.

`python -m jaxmlp show H1` prints one row of the lecture with its numbers. `show` alone lists the
rows, and `show --page` prints experiments/LECTURE.md.
"""

import platform
import sys

import jax
import numpy as np

import jaxmlp
from jaxmlp.compare import relative_difference


def main() -> None:
    """Print the network, its gradient by hand against jax for each layer, and a training."""
    data = jaxmlp.datasets.spiral()
    mlp = jaxmlp.MLP((2, 4, 3), hidden="relu", output="softmax")
    J = jaxmlp.Objective(mlp, "cross_entropy")
    params = mlp.init(jax.random.key(0), "he")
    print(f"The spiral: X {data.X.shape}, {data.num_classes} classes. The network:\n\n{mlp}\n")

    value, grads = jaxmlp.value_and_grad(J)(params, data.X, data.Y)
    reference = jax.grad(J)(params, data.X, data.Y)  # autodiff, for comparison
    print("What each layer computes on the way forward and back:\n")
    for number, t in enumerate(jaxmlp.trace(J)(params, data.X, data.Y), start=1):
        names = ("Z", "A", "dA", "dZ", "dW", "db")  # without a residual S and U are Z
        shapes = [f"{name}{number} {getattr(t, name).shape}" for name in names]
        print("  " + "  ".join(shapes))

    print(f"\nJ = {value:.6f}, the gradient by hand against jax.grad:\n")
    for number, difference in enumerate(np.asarray(relative_difference(grads, reference)), 1):
        print(f"  layer {number}: largest relative difference {difference:.1e}")

    params, history = jaxmlp.fit(J, params, data.X, data.Y, optimizer=0.1, epochs=10_000)
    print(
        f"\nAfter 10,000 steps of gradient descent: J = {history.loss[-1]:.3f}, "
        f"{history.accuracy[-1]:.0%} of the points right.\n"
    )
    device = jax.devices()[0]
    print(
        f"jaxmlp {jaxmlp.__version__}, jax {jax.__version__}, Python {platform.python_version()}, "
        f"{device.platform} ({device.device_kind})"
    )


def show(*words: str) -> str:
    """Return the rows of these names as text; without names their list; for "--page" the page."""
    from jaxmlp import lecture

    if words == ("--page",):
        return lecture.page(lecture.ROWS.values()).rstrip()
    if words:
        return "\n\n".join(lecture.text(lecture.row(key)) for key in words)
    rows = (f"{row.key:4} {row.title}: {row.formula}" for row in lecture.ROWS.values())
    return "\n".join([lecture.LETTERS, "", *rows])


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "show":
        try:
            print(show(*sys.argv[2:]))
        except ValueError as error:
            raise SystemExit(f"error: {error}") from None
    else:
        raise SystemExit(f"error: expected nothing, or show as in 'show E3', got {sys.argv[1]!r}")
