"""check_grads of residual and normalised networks: right ones pass, each mistake has its name."""

import functools
import itertools

import jax
import numpy as np
import plants
import pytest

import jaxmlp
from jaxmlp import check_grads

SIZES = 3, 4, 4, 4, 2
NETWORKS = {"half": (0.5, None), "layer": ("1/sqrt(depth)", "layer"), "rezero": ("rezero", "rms")}


@functools.cache
def problem(name, dtype=np.float64):
    residual, norm = NETWORKS[name]
    mlp = jaxmlp.MLP(SIZES, hidden="tanh", residual=residual, norm=norm, stack_from=None)
    gate = {"rezero": "own", "1/sqrt(depth)": 3**-0.5}.get(residual, residual)
    rng = np.random.default_rng(0)
    params = tuple(
        jaxmlp.Layer(
            rng.normal(size=(a, b)) * 0.6,
            rng.normal(size=b) / 3,
            alpha=np.array(0.3 + l / 10) if gate == "own" and l in (2, 3) else None,
        )
        for l, (a, b) in enumerate(itertools.pairwise(SIZES), start=1)
    )
    args = params, rng.normal(size=(7, 3)), plants.softmax(rng.normal(size=(7, SIZES[-1])))
    J = jaxmlp.Objective(mlp, "cross_entropy")
    return J, (None, gate, gate), norm, jax.tree.map(lambda x: x.astype(dtype), args)


def student(name, plant=None, layer=0, dtype=np.float64):
    J, gates, norm, args = problem(name, dtype)
    return check_grads(plants.remedied_student(gates, norm, plant, layer), J, *args)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_right_gradient_passes_and_every_plant_is_named_in_its_layer(name):
    certificate = student(name)
    assert certificate.passed, certificate
    if name == "layer":
        J, _, _, args = problem(name, np.float32)
        assert check_grads(jaxmlp.grad(J), J, *args).passed
    J, gates, norm, args = problem(name)
    right = plants.remedied_student(gates, norm)(*args)
    wrong = {}
    for plant in plants.REMEDIED:
        for layer in (2,) if plant in plants.STEPS else (1, 2):
            candidate = plants.remedied_student(gates, norm, plant, layer)
            try:
                changed = not same(candidate(*args), right)
            except ValueError:  # shapes that do not go together
                continue
            if changed:
                found = student(name, plant, layer)
                named = {(d.mistake, d.layers) for d in found.diagnoses}
                wrong[plant, layer] = None if (plant.split()[0], (layer,)) in named else found
    assert len(wrong) >= 8
    assert [(place, str(found)) for place, found in wrong.items() if found is not None] == []


def same(a, b):
    pairs = [(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in y]
    return all(x.shape == y.shape and np.allclose(x, y, rtol=1e-9, atol=0) for x, y in pairs)


def test_steps_of_a_residual_network_are_compared():
    J, gates, norm, args = problem("layer")

    def candidate(factor, params, X, Y):
        grads = plants.remedied_student(gates, norm)(params, X, Y)
        t = jaxmlp.trace(J)(params, X, Y)
        steps = {f"{n}{l}": getattr(t[l - 1], n) for n in ("S", "U", "dU", "dS") for l in (1, 2)}
        return {f"{n}{l}": x for l, g in enumerate(grads, start=1) for n, x in g.items()} | {
            name: np.asarray(x) * (factor if name == "dS2" else 1) for name, x in steps.items()
        }

    with jax.enable_x64(True):
        right, wrong = (check_grads(functools.partial(candidate, f), J, *args) for f in (1, 1.5))
    assert right.passed
    assert {row.verdict for row in right.steps} == {"right"}
    assert len(right.steps) == 8
    assert wrong.first_wrong_step == "dS2"
