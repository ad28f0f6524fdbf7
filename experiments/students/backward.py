"""The backward pass of the (2, 4, 3) network: E3 of the lecture, step by step, with a mistake.

Rows are samples, the hidden activation is ReLU, the output softmax with the cross-entropy, and J is
the mean over the m samples. One step is wrong. Which?

    python -m experiments.student experiments/students/backward.py
"""

import numpy as np


def backward(params, X, Y):
    """Return every derivative by its name. X (m, 2), Y (m, 3) one-hot."""
    W1, b1, W2, b2 = params
    m = len(X)

    Z1 = X @ W1 + b1  # (m, 4)
    A1 = np.maximum(Z1, 0)
    Z2 = A1 @ W2 + b2  # (m, 3)
    A2 = np.exp(Z2) / np.exp(Z2).sum(axis=1, keepdims=True)

    dZ2 = A2 - Y  # (m, 3)
    dW2 = A1.T @ dZ2 / m  # (4, 3)
    db2 = dZ2.mean(axis=0)  # (3,)
    dA1 = dZ2 @ W2.T  # (m, 4)
    dZ1 = dA1  # (m, 4)
    dW1 = X.T @ dZ1 / m  # (2, 4)
    db1 = dZ1.mean(axis=0)  # (4,)
    return {
        "dZ2": dZ2, "dW2": dW2, "db2": db2, "dA1": dA1, "dZ1": dZ1, "dW1": dW1, "db1": db1,
    }  # fmt: skip
