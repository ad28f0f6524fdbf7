"""The backward pass of the (2, 4, 3) network, to be filled in.

Rows are samples. Hidden activation: relu; output: softmax; the loss is
J = -sum(Y log A) / m, m the number of samples.

    python -m experiments.student FILE
"""

import numpy as np


def backward(params, X, Y):
    """Return every derivative by its name. X (m, 2), Y (m, 3)."""
    W1, b1, W2, b2 = params
    m = len(X)

    Z1 = X @ W1 + b1  # (m, 4)
    A1 = np.maximum(Z1, 0)
    Z2 = A1 @ W2 + b2  # (m, 3)
    A2 = np.exp(Z2) / np.exp(Z2).sum(axis=1, keepdims=True)

    dZ2 = ...  # (m, 3)
    dW2 = ...  # (4, 3)
    db2 = ...  # (3,)
    dA1 = ...  # (m, 4)
    dZ1 = ...  # (m, 4)
    dW1 = ...  # (2, 4)
    db1 = ...  # (4,)
    return {
        "dZ2": dZ2,
        "dW2": dW2,
        "db2": db2,
        "dA1": dA1,
        "dZ1": dZ1,
        "dW1": dW1,
        "db1": db1,
    }
