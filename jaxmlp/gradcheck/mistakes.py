"""The classic mistakes of a backward pass: the name of each, and what to write instead.

What numbers they make is said by `edits` of those in one array, by `steps` of those in a step of
the way back, and by `forwards` of those in the forward pass.
"""

from typing import NamedTuple

FACTORS = {
    "sum_not_mean": "too large by the number of samples: J is their mean, so divide by m, "
    "dW{l} = A{below}.T @ dZ{l} / m and db{l} = mean over the samples of dZ{l}",
    "mean_twice": "too small by the number of samples: divide by m once, in dZ or in dW and db "
    "(and not at all where J is a sum)",
    "mean_over_classes": "the outputs are summed and the samples averaged: divide by m, and "
    "neither divide nor multiply by the number of outputs",
    "factor_2": "2 times the right one: a factor 2 that does not belong, as that of (a - y)^2 "
    "where the loss is its half or a cross-entropy",
    "factor_half": "0.5 times the right one: the derivative of (a - y)^2 is 2 (a - y)",
    "sign": "the sign is turned: with J's gradient dZ is A - Y, not Y - A",
    "factor": "{factor} times the right one{why}",
}

# In one array of the gradient alone
ARRAYS = {
    "transposed": "a transpose is missing or too many: dW{l} = A{below}.T @ dZ{l} / m, and "
    "dA{below} = dZ{l} @ W{l}.T",
    "bias_not_summed": "one row for each sample is left: take their mean, "
    "db{l} = dZ{l}.mean(axis=0)",
    "bias_wrong_axis": "rows are samples, so the mean is over axis 0: db{l} = dZ{l}.mean(axis=0)",
    "bias_of_dW": "summed from dW{l}: take db{l} = dZ{l}.mean(axis=0)",
    "wrong_A": "dW{l} needs the layer's input: dW{l} = A{below}.T @ dZ{l} / m, not A{l}.T",
    "far_A": "dW{l} needs the layer's input, dW{l} = A{below}.T @ dZ{l} / m, not that of {down} "
    "below",
    "Z_for_A": "Z{below} stands in the place of A{below}: dW{l} = A{below}.T @ dZ{l} / m",
    "wrong_dZ": "the dZ of the layer above stands in the place of dZ{l}: "
    "dW{l} = A{below}.T @ dZ{l} / m, db{l} = dZ{l}.mean(axis=0)",
    "product_of_means": "the samples are averaged before the product: "
    "dW{l} = A{below}.T @ dZ{l} / m, the mean of the products",
    "some_samples": "it holds {which} of the samples only: a loop over the samples has to add, "
    "dW{l} += ..., from the first to the last",
    "rows_apart": "the rows of A{below} and of dZ{l} do not belong together: one of them is "
    "{order}",
    "wrong_slope": "dslope{l} is the sum of dA{l} * min(Z{l}, 0) over samples and units, divided "
    "by m; here it is taken of {what}",
    "wrong_array": "{what} was returned in the place of this array",
    "zeros": "all zeros: it was never computed",
    "extra_l2": "a multiple of W{l} is added: J has no L2 term, keep weight decay outside",
    "updated_parameter": "the parameter after a step of rate {rate} was returned: return its "
    "gradient",
    "rounded": "rounded to {digits} digits: return it as it is",
    "clipped": "clipped at {limit}: return it as it is",
}

NORM = "dS{l} = r (dU{l} - U{l} mean(U{l} dU{l}) - mean dU{l}), the last term for a layer norm"

# In one step of the way back, and so in everything below it
STEPS = {
    "no_derivative": "the activation's derivative is missing: dZ{l} = dA{l} * act'(Z{l})",
    "dA_for_dZ": "dA{l} stands in the place of dZ{l} = dA{l} * act'(Z{l})",
    "derivative_at_A": "the derivative is taken at A{l}: take it at Z{l}, "
    "dZ{l} = dA{l} * act'(Z{l})",
    "formula_of_Z": "the derivative's formula is one in A{l}, but Z{l} stands in it: "
    "dZ{l} = dA{l} * act'(Z{l})",
    "derivative_twice": "the activation's derivative is there twice: dZ{l} = dA{l} * act'(Z{l})",
    "no_derivative_but_A": "{what} stands in the place of act'(Z{l}): dZ{l} = dA{l} * act'(Z{l})",
    "gate_of_dA": "the derivative is taken at dA{l}: take it at Z{l}, dZ{l} = dA{l} * act'(Z{l})",
    "wrong_gate": "the derivative is that of another layer: dZ{l} = dA{l} * act'(Z{l})",
    "other_derivative": "the derivative is that of {other}, but the layer's activation is {own}: "
    "dZ{l} = dA{l} * act'(Z{l})",
    "stale_Z": "the derivative is taken at a Z{l} of other weights, a step of rate {rate} away: "
    "keep the Z{l} of the forward pass, and update after the backward pass",
    "updated_W": "W{l} was updated before it was used: compute dA{below} = dZ{l} @ W{l}.T with the "
    "W{l} of the forward pass, and update afterwards",
    "wrong_W": "the W of {other} stands in the place of W{l}: dA{below} = dZ{l} @ W{l}.T",
    "rows_moved": "the rows of dZ{l} are {order}: row i belongs to sample i",
    "wrong_loss_gradient": "dZ{l} is that of another loss: A - Y belongs to softmax with "
    "cross-entropy, sigmoid with binary cross-entropy and linear with half the squared error; "
    "elsewhere dZ{l} is dJ/dA{l} times the output's derivative",
    "wrong_residual": "dZ{l} needs the output A{l} and the target Y; here it is made of {what}",
    "no_skip": "the skip is missing on the way back: S{above} = S{l} + alpha Z{above}, so dS{l} is "
    "the norm's or the activation's share plus dS{above}",
    "skip_through_gate": "the skip hands down dS{above} as it is, not alpha dS{above}",
    "no_gate": "Z{l} enters the stream alpha times, and once: dZ{l} = alpha dS{l}",
    "norm_is_constant": "the norm is treated as a constant: its r depends on S{l} too, so "
    f"{NORM}",
    "norm_left_out": f"the norm's derivative is missing: {NORM}",
    "norm_without_mean": "the mean term belongs to a layer norm, which takes the mean off, and not "
    f"to an RMS norm: {NORM}",
    "norm_without_variance": f"the term of the variance is missing: {NORM}",
    "diagonal_jacobian": "softmax mixes the outputs: its Jacobian is a_i (1 - a_i) on the diagonal "
    "and -a_i a_k elsewhere",
}

# In the forward pass
FORWARDS = {
    "bias_left_out": "the forward pass leaves out the bias: Z{l} = A{below} @ W{l} + b{l}",
    "wrong_W_forward": "the forward pass takes {other} in the place of W{l}: "
    "Z{l} = A{below} @ W{l} + b{l}",
    "wrong_activation": "the forward pass takes {other} as the activation: A{l} = act(Z{l})",
    "wrong_output": "the forward pass takes {other} as the output: softmax is over the outputs of "
    "each sample, axis 1",
    "X_moved": "the rows of X are {order}, those of Y are not: sample i is row i of both",
    "X_scaled": "X is {what} first: take it as it is given",
    "Y_moved": "Y is taken with {what}",
    "after_a_step": "the forward pass is that of other weights, a step of rate {rate} away: "
    "compute Z and A anew after an update",
}

UNKNOWN = "unknown"
MENDS = {**FACTORS, **ARRAYS, **STEPS, **FORWARDS, UNKNOWN: "none of the known mistakes gives it"}

# What it costs to believe a mistake, in mistakes: 7 known ones are better than an unknown one
SPECIAL = 1.01  # of a mistake that may also look like a simpler one: then that one is named alone
FITTED = 1.25  # of a mistake with a fitted number: one without such a number is believed first
WEIGHTS = {
    "factor": FITTED, "extra_l2": FITTED, "updated_parameter": FITTED,
    "some_samples": SPECIAL, "other_derivative": SPECIAL, UNKNOWN: 8.0,
}  # fmt: skip


def weight(mistake: str) -> float:
    """Return what it costs to believe a mistake, in mistakes."""
    return WEIGHTS.get(mistake, 1.0)


# --- in words -------------------------------------------------------------------------------------


class Made(NamedTuple):
    """A mistake in one step of one layer."""

    mistake: str
    layer: int
    step: str
    words: tuple[tuple[str, str], ...] = ()


class Diagnosis(NamedTuple):
    """Name a mistake that reproduces the candidate's numbers within rounding.

    mistake: its name in the tables of `jaxmlp.gradcheck.mistakes`; layers: where it was made,
    lowest first; mend: what to write instead; steps: the arrays that it was made in, as "dW2" or
    "dA1".
    """

    mistake: str
    layers: tuple[int, ...]
    mend: str
    steps: tuple[str, ...] = ()


def diagnoses(made: tuple[Made, ...]) -> list[Diagnosis]:
    """Return what was made, one for each mistake, the one nearest the output first."""
    groups: dict[tuple, list[Made]] = {}
    for one in made:
        groups.setdefault((one.mistake, one.words), []).append(one)
    found = []
    for (mistake, words), group in groups.items():
        layers = tuple(sorted({one.layer for one in group}))
        l = layers[0]
        places = {"l": l, "below": l - 1, "above": l + 1}
        if len(layers) > 1:
            places = {"l": "[l]", "below": "[l-1]", "above": "[l+1]"}
        mend = MENDS[mistake].format(**places, **dict(words))
        found.append(Diagnosis(mistake, layers, mend, tuple(one.step for one in group)))
    return found
