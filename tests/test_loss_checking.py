"""What is believed of a user's Loss, and what is refused."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp
from jaxmlp import activations, losses
from jaxmlp.activations import get, softmax
from jaxmlp.loss_checking import check_loss
from jaxmlp.losses import Loss

LINEAR = get("linear")


def as_own(name, **changes):
    """A loss of the library that is not recognised as such."""
    return dataclasses.replace(losses.get(name), name=f"own_{name}", **changes)


def squared(A, Y):
    return jnp.sum((A - Y) ** 2, axis=1)


WEIGHTS = jnp.array([1.0, 2.0, 5.0])

RIGHT = [
    (as_own("cross_entropy"), softmax),
    (as_own("cross_entropy", dZ=None), softmax),  # through softmax's Jacobian
    (as_own("mse"), softmax),
    (as_own("norm"), get("hard_tanh")),  # bends in the output
    (
        Loss("absolute", lambda Z, A, Y: jnp.sum(abs(A - Y), 1), lambda A, Y: jnp.sign(A - Y)),
        get("prelu"),
    ),
    (
        Loss("poisson", lambda Z, A, Y: jnp.sum(A - Y * jnp.log(A), 1), lambda A, Y: 1 - Y / A),
        LINEAR,  # finite at some samples only
    ),
    (Loss("weighted", lambda Z, A, Y: (A - Y) ** 2 @ WEIGHTS, lambda A, Y: 2 * WEIGHTS * (A - Y)),
     LINEAR),
    (
        Loss(
            "in float16",
            lambda Z, A, Y: squared(A.astype(jnp.float16), Y.astype(jnp.float16)),
            lambda A, Y: 2 * (A - Y),
        ),
        LINEAR,
    ),
]  # fmt: skip

WRONG = [
    (Loss("half", lambda Z, A, Y: squared(A, Y), lambda A, Y: A - Y), LINEAR, "dA(A, Y) gives"),
    (as_own("mse", dA=lambda A, Y: 2.002 * (A - Y)), LINEAR, "dA(A, Y) gives"),
    (
        as_own("cross_entropy", dZ=lambda Z, A, Y: 2 * (A - Y)),
        softmax,
        "dZ(Z, A, Y) gives dJ/dZ =",
    ),
    (as_own("mse", dA=lambda A, Y: jnp.where(A > 0, 2 * (A - Y), jnp.nan)), LINEAR, "dJ/dZ = nan"),
    (
        Loss("coupled", lambda Z, A, Y: squared(A - A.mean(0), Y), lambda A, Y: 2 * (A - Y)),
        LINEAR,
        "must not depend on the other samples",
    ),
    (Loss("scalar", lambda Z, A, Y: jnp.sum(squared(A, Y)), lambda A, Y: A - Y), LINEAR, "are ()"),
    (
        Loss("fourth", lambda Z, A, Y: jnp.sum((A - Y) ** 4, 1), lambda A, Y: 4 * (A - Y) ** 3,
             degree=1),
        LINEAR,
        "degree=1 does not hold",
    ),
    (as_own("mse", value=lambda Z, A, Y: squared(A, Y) * jnp.nan), LINEAR, "finite at none of 48"),
    (as_own("mse", dA=lambda A, Y: jnp.sum(A - Y, 1)), LINEAR, r"but it is (48,)"),
]  # fmt: skip


def test_a_right_loss_of_ones_own_passes_also_with_kinks_and_outside_of_its_domain():
    for loss, output in RIGHT:
        check_loss(loss, output, 3)
    for name in losses.names():
        check_loss(losses.get(name), LINEAR, 3)


def test_a_loss_that_lies_about_its_derivative_is_refused_by_every_transform():
    for loss, output, said in WRONG:
        with pytest.raises(ValueError, match=f"loss '{loss.name}': .*{re.escape(said)}"):
            check_loss(loss, output, 3)
    J = jaxmlp.Objective(jaxmlp.MLP((2, 1), output="linear"), WRONG[0][0])
    for transform in (jaxmlp.grad, jaxmlp.gradient_flow, jaxmlp.per_sample_norms, jaxmlp.trace):
        with pytest.raises(ValueError, match="central differences of value give"):
            transform(J)


def test_the_sentence_names_the_sample_and_both_numbers():
    with pytest.raises(ValueError, match="central differences") as said:
        check_loss(WRONG[0][0], LINEAR, 2)
    number = r"(-?[0-9.e-]+)"
    found = re.search(
        rf"dJ/dZ = {number} at z = \[(.*)\], y = \[(.*)\] for output (\d), .*give {number}$",
        str(said.value),
    )
    assert found is not None
    z, y = (np.array(found[i].split(), float) for i in (2, 3))
    k = int(found[4])
    np.testing.assert_allclose(float(found[1]), (z - y)[k], rtol=1e-4)
    np.testing.assert_allclose(float(found[5]), 2 * (z - y)[k], rtol=1e-4)


def test_losses_are_looked_at_also_inside_jit():
    J = jaxmlp.Objective(jaxmlp.MLP((2, 1), output="linear"), WRONG[1][0])
    with pytest.raises(ValueError, match="own_mse"):
        jax.jit(lambda p: jaxmlp.grad(J)(p, jnp.ones((3, 2)), jnp.ones(3)))(
            J.mlp.init(jax.random.key(0))
        )


def test_a_loss_whose_fields_are_no_functions_is_refused():
    with pytest.raises(TypeError, match="loss 'a': value must be a function"):
        Loss("a", None, squared)  # pyright: ignore
    with pytest.raises(TypeError, match=r"loss 'b': degree must be an integer or None, got 0\.5"):
        Loss("b", squared, squared, degree=0.5)  # pyright: ignore
    listed = Loss("c", squared, squared, outputs=[activations.tanh])  # pyright: ignore
    assert listed.outputs == (activations.tanh,)
