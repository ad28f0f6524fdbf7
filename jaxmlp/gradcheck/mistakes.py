"""The classic mistakes of a backward pass, one table: the name of each, its mend, what it makes.

A mistake sits in one array (`wrong_arrays`), in the walk and so in everything below
(`wrong_walks`), in the forward pass (`wrong_forwards`), or is a factor (`wrong_factors`).
"""

from jaxmlp.gradcheck import wrong_arrays, wrong_forwards, wrong_walks
from jaxmlp.gradcheck.mistake import Mistake
from jaxmlp.gradcheck.wrong_factors import any_factor_flow, any_factor_leaf, known_factor

SPECIAL = 1.01  # of a mistake that is a simpler one too now and then: that one is named alone
FITTED = 1.25  # of a mistake with a number that was fitted: one without is believed before it

FACTORS = (
    known_factor(
        "sum_not_mean",
        "too large by the number of samples: J is their mean, so divide by m, "
        "dW{l} = A{below}.T @ dZ{l} / m and db{l} = mean over the samples of dZ{l}",
        lambda m, K: (m,),
    ),
    known_factor(
        "mean_twice",
        "too small by the number of samples: divide by m once, in dZ or in dW and db (and not at "
        "all where J is a sum)",
        lambda m, K: (1 / m,),
    ),
    known_factor(
        "mean_over_classes",
        "the outputs are summed and the samples averaged: divide by m, and neither divide nor "
        "multiply by the number of outputs",
        lambda m, K: (K, 1 / K),
    ),
    known_factor(
        "factor_2",
        "2 times the right one: a factor 2 that does not belong, as that of (a - y)^2 where the "
        "loss is its half or a cross-entropy",
        lambda m, K: (2.0,),
    ),
    known_factor(
        "factor_half",
        "0.5 times the right one: the derivative of (a - y)^2 is 2 (a - y)",
        lambda m, K: (0.5,),
    ),
    known_factor(
        "sign", "the sign is turned: with J's gradient dZ is A - Y, not Y - A", lambda m, K: (-1.0,)
    ),
    Mistake(
        "factor",
        "{factor} times the right one{why}",
        any_factor_leaf,
        any_factor_flow,
        is_factor=True,
        weight=FITTED,
    ),
)

ARRAYS = (
    Mistake(
        "bias_not_summed",
        "one row for each sample is left: take their mean, db{l} = dZ{l}.mean(axis=0)",
        wrong_arrays.bias_not_summed,
    ),
    Mistake(
        "bias_wrong_axis",
        "rows are samples, so the mean is over axis 0: db{l} = dZ{l}.mean(axis=0)",
        wrong_arrays.bias_wrong_axis,
    ),
    Mistake(
        "bias_of_dW",
        "summed from dW{l}: take db{l} = dZ{l}.mean(axis=0)",
        wrong_arrays.bias_of_dW,
    ),
    Mistake(
        "wrong_A",
        "dW{l} needs the layer's input: dW{l} = A{below}.T @ dZ{l} / m, not A{l}.T",
        wrong_arrays.own_A,
    ),
    Mistake(
        "far_A",
        "dW{l} needs the layer's input, dW{l} = A{below}.T @ dZ{l} / m, not that of {down} below",
        wrong_arrays.far_A,
    ),
    Mistake(
        "Z_for_A",
        "Z{below} stands in the place of A{below}: dW{l} = A{below}.T @ dZ{l} / m",
        wrong_arrays.Z_for_A,
    ),
    Mistake(
        "wrong_dZ",
        "the dZ of the layer above stands in the place of dZ{l}: dW{l} = A{below}.T @ dZ{l} / m, "
        "db{l} = dZ{l}.mean(axis=0)",
        wrong_arrays.other_dZ,
    ),
    Mistake(
        "product_of_means",
        "the samples are averaged before the product: dW{l} = A{below}.T @ dZ{l} / m, the mean of "
        "the products",
        wrong_arrays.product_of_means,
    ),
    Mistake(
        "some_samples",
        "it holds {which} of the samples only: a loop over the samples has to add, dW{l} += ..., "
        "from the first to the last",
        wrong_arrays.some_samples,
        weight=SPECIAL,
    ),
    Mistake(
        "rows_apart",
        "the rows of A{below} and of dZ{l} do not belong together: one of them is {order}",
        wrong_arrays.rows_apart,
    ),
    Mistake(
        "wrong_slope",
        "dslope{l} is the sum of dA{l} * min(Z{l}, 0) over samples and units, divided by m; here "
        "it is taken of {what}",
        wrong_arrays.slope_of,
    ),
    Mistake(
        "wrong_array", "{what} was returned in the place of this array", wrong_arrays.another_array
    ),
    Mistake("zeros", "all zeros: it was never computed", wrong_arrays.zeros),
    Mistake(
        "extra_l2",
        "a multiple of W{l} is added: J has no L2 term, keep weight decay outside",
        wrong_arrays.extra_l2,
        weight=FITTED,
    ),
    Mistake(
        "updated_parameter",
        "the parameter after a step of rate {rate} was returned: return its gradient",
        wrong_arrays.updated_parameter,
        weight=FITTED,
    ),
    Mistake("rounded", "rounded to {digits} digits: return it as it is", wrong_arrays.rounded),
    Mistake("clipped", "clipped at {limit}: return it as it is", wrong_arrays.clipped),
)

WALKS = (
    Mistake(
        "transposed",
        "a transpose is missing or too many: dW{l} = A{below}.T @ dZ{l} / m, and "
        "dA{below} = dZ{l} @ W{l}.T",
        wrong_arrays.transposed,
        wrong_walks.transposed_W,
    ),
    Mistake(
        "no_derivative",
        "the activation's derivative is missing: dZ{l} = dA{l} * act'(Z{l})",
        flow=wrong_walks.no_derivative,
    ),
    Mistake(
        "dA_for_dZ",
        "dA{l} stands in the place of dZ{l} = dA{l} * act'(Z{l})",
        wrong_arrays.dA_for_dZ,
        wrong_walks.dA_for_dZ,
    ),
    Mistake(
        "derivative_at_A",
        "the derivative is taken at A{l}: take it at Z{l}, dZ{l} = dA{l} * act'(Z{l})",
        flow=wrong_walks.derivative_at_A,
    ),
    Mistake(
        "formula_of_Z",
        "the derivative's formula is one in A{l}, but Z{l} stands in it: "
        "dZ{l} = dA{l} * act'(Z{l})",
        flow=wrong_walks.of_Z,
    ),
    Mistake(
        "derivative_twice",
        "the activation's derivative is there twice: dZ{l} = dA{l} * act'(Z{l})",
        flow=wrong_walks.derivative_twice,
    ),
    Mistake(
        "no_derivative_but_A",
        "{what} stands in the place of act'(Z{l}): dZ{l} = dA{l} * act'(Z{l})",
        flow=wrong_walks.A_for_derivative,
    ),
    Mistake(
        "gate_of_dA",
        "the derivative is taken at dA{l}: take it at Z{l}, dZ{l} = dA{l} * act'(Z{l})",
        flow=wrong_walks.gate_of_dA,
    ),
    Mistake(
        "wrong_gate",
        "the derivative is that of another layer: dZ{l} = dA{l} * act'(Z{l})",
        flow=wrong_walks.wrong_gate,
    ),
    Mistake(
        "other_derivative",
        "the derivative is that of {other}, but the layer's activation is {own}: "
        "dZ{l} = dA{l} * act'(Z{l})",
        flow=wrong_walks.other_derivative,
        weight=SPECIAL,
    ),
    Mistake(
        "stale_Z",
        "the derivative is taken at a Z{l} of other weights, a step of rate {rate} away: keep the "
        "Z{l} of the forward pass, and update after the backward pass",
        flow=wrong_walks.stale_Z,
    ),
    Mistake(
        "updated_W",
        "W{l} was updated before it was used: compute dA{below} = dZ{l} @ W{l}.T with the W{l} of "
        "the forward pass, and update afterwards",
        flow=wrong_walks.updated_W,
    ),
    Mistake(
        "wrong_W",
        "the W of {other} stands in the place of W{l}: dA{below} = dZ{l} @ W{l}.T",
        flow=wrong_walks.other_W,
    ),
    Mistake(
        "rows_moved",
        "the rows of dZ{l} are {order}: row i belongs to sample i",
        flow=wrong_walks.rows_moved,
    ),
    Mistake(
        "wrong_loss_gradient",
        "dZ{l} is that of another loss: A - Y belongs to softmax with cross-entropy, sigmoid with "
        "binary cross-entropy and linear with half the squared error; elsewhere dZ{l} is dJ/dA{l} "
        "times the output's derivative",
        flow=wrong_walks.wrong_loss_gradient,
    ),
    Mistake(
        "wrong_residual",
        "dZ{l} needs the output A{l} and the target Y; here it is made of {what}",
        flow=wrong_walks.wrong_residual,
    ),
    Mistake(
        "no_skip",
        "the skip is missing on the way back: S{above} = S{l} + alpha Z{above}, so dS{l} is the "
        "norm's or the activation's share plus dS{above}",
        flow=wrong_walks.no_skip,
    ),
    Mistake(
        "skip_through_gate",
        "the skip hands down dS{above} as it is, not alpha dS{above}",
        flow=wrong_walks.skip_through_gate,
    ),
    Mistake(
        "no_gate",
        "Z{l} enters the stream alpha times, and once: dZ{l} = alpha dS{l}",
        flow=wrong_walks.no_gate,
    ),
    Mistake(
        "norm_is_constant",
        "the norm is treated as a constant: its r depends on S{l} too, so "
        "dS{l} = r (dU{l} - U{l} mean(U{l} dU{l}) - mean dU{l}), the last term for a layer norm",
        flow=wrong_walks.norm_is_constant,
    ),
    Mistake(
        "norm_left_out",
        "the norm's derivative is missing: "
        "dS{l} = r (dU{l} - U{l} mean(U{l} dU{l}) - mean dU{l}), the last term for a layer norm",
        flow=wrong_walks.norm_left_out,
    ),
    Mistake(
        "norm_without_mean",
        "the mean term belongs to a layer norm, which takes the mean off, and not to an RMS norm: "
        "dS{l} = r (dU{l} - U{l} mean(U{l} dU{l}) - mean dU{l}), the last term for a layer norm",
        flow=wrong_walks.norm_without_mean,
    ),
    Mistake(
        "norm_without_variance",
        "the term of the variance is missing: "
        "dS{l} = r (dU{l} - U{l} mean(U{l} dU{l}) - mean dU{l}), the last term for a layer norm",
        flow=wrong_walks.norm_without_variance,
    ),
    Mistake(
        "diagonal_jacobian",
        "softmax mixes the outputs: its Jacobian is a_i (1 - a_i) on the diagonal and -a_i a_k "
        "elsewhere",
        flow=wrong_walks.diagonal_jacobian,
    ),
)

FORWARDS = (
    Mistake(
        "bias_left_out",
        "the forward pass leaves out the bias: Z{l} = A{below} @ W{l} + b{l}",
        forward=wrong_forwards.bias_left_out,
    ),
    Mistake(
        "wrong_W_forward",
        "the forward pass takes {other} in the place of W{l}: Z{l} = A{below} @ W{l} + b{l}",
        forward=wrong_forwards.other_W,
    ),
    Mistake(
        "wrong_activation",
        "the forward pass takes {other} as the activation: A{l} = act(Z{l})",
        forward=wrong_forwards.other_activation,
    ),
    Mistake(
        "wrong_output",
        "the forward pass takes {other} as the output: softmax is over the outputs of each sample, "
        "axis 1",
        forward=wrong_forwards.other_output,
    ),
    Mistake(
        "X_moved",
        "the rows of X are {order}, those of Y are not: sample i is row i of both",
        forward=wrong_forwards.rows_of_X,
    ),
    Mistake(
        "X_scaled", "X is {what} first: take it as it is given", forward=wrong_forwards.scaled_X
    ),
    Mistake("Y_moved", "Y is taken with {what}", forward=wrong_forwards.other_Y),
    Mistake(
        "after_a_step",
        "the forward pass is that of other weights, a step of rate {rate} away: compute Z and A "
        "anew after an update",
        forward=wrong_forwards.after_a_step,
    ),
)

TABLE: tuple[Mistake, ...] = (*FACTORS, *WALKS, *ARRAYS)
