"""The classic figures: each derived value by a second route, and honest verdicts."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from experiments.papers import balduzzi, glorot, hanin, he, klambauer, pennington, saxe, xiao
from experiments.papers.claims import Claim, verdict
from jaxmlp import meanfield

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(160)
WEIGHTS = WEIGHTS / math.sqrt(2 * math.pi)


def expected(f, q):
    """E f(z), z of variance q."""
    return WEIGHTS @ f(math.sqrt(q) * NODES)


@pytest.mark.parametrize(
    ("ours", "published", "derived", "says"),
    [
        (1.0, 1.05, 0.95, "agrees"),
        (1.0, math.nan, 1.2, "differs"),
        (1.0, 2.0, 1.05, "agrees with theory, not the paper"),
        (1.0, 1.05, 2.0, "agrees with the paper only"),
        (1.0, 2.0, 2.0, "differs"),
        (math.nan, 1.0, 1.0, "differs"),
        (1.0, math.nan, math.nan, "measured"),
    ],
)
def test_a_verdict_says_with_which_of_the_two_ours_agrees(ours, published, derived, says):
    assert verdict(Claim("", ours, 0.1, derived=derived, published=published)) == says


def test_glorot_the_factor_of_dZ_by_hermite_sums_and_the_mean_singular_value_by_svd():
    for unit in glorot.UNIT.values():
        q, product = unit * 0.9, 1.0
        for _ in range(glorot.DEPTH - 1):
            product *= unit * expected(lambda z: np.cosh(z) ** -4.0, q)
            q = unit * expected(lambda z: np.tanh(z) ** 2, q)
        factor = product ** (1 / (glorot.DEPTH - 1))
        assert glorot.derived_factor(unit, 0.9) == pytest.approx(factor, rel=1e-9)
        W = np.random.default_rng(0).uniform(-1, 1, (300, 300)) * math.sqrt(3 * unit / 300)
        mean = np.linalg.svd(W, compute_uv=False).mean()
        assert glorot.derived_singular_value(unit, 1e-9) == pytest.approx(mean, rel=5e-3)


def test_he_the_ratio_of_stds_is_a_root_of_two_for_each_layer():
    for layers in (22, 30):
        assert he.derived_ratio(layers) == pytest.approx(math.log10(2**-0.5) * layers, rel=1e-12)


@pytest.mark.parametrize("n", [2, 4])
def test_saxe_the_half_time_and_the_exact_curve_by_integrating_the_equation(n):
    s, end = 2.0, saxe.half_time(2.0, n)
    found = solve_ivp(lambda t, a: n * a ** (2 - 2 / n) * (s - a), (0, end), [saxe.START],
                      rtol=1e-10, atol=1e-12)  # fmt: skip
    assert found.y[0, -1] == pytest.approx(s / 2, rel=1e-5)
    if n == 2:
        np.testing.assert_allclose(saxe.exact(found.t, s), found.y[0], rtol=1e-7)


def test_poole_the_fixed_points_satisfy_the_maps_by_hermite_sums():
    for w, b in ((1.3**2, 0.09), (2.5**2, 0.09)):
        point = meanfield.fixed_point("tanh", w, b)
        root, c = math.sqrt(point.q), point.c
        first = np.tanh(root * NODES)
        second = np.tanh(root * (c * NODES[:, None] + math.sqrt(1 - c**2) * NODES))
        q = w * WEIGHTS @ first**2 + b
        covariance = w * (WEIGHTS * first) @ second @ WEIGHTS + b
        assert (q, covariance / q) == (pytest.approx(point.q, rel=1e-6), pytest.approx(c, rel=1e-6))


def test_pennington_the_spread_by_the_papers_formula_and_the_edge_by_that_of_fuss_and_catalan():
    slopes = {"linear": np.ones_like, "relu": lambda z: (z > 0) * 1.0,
              "tanh": lambda z: np.cosh(z) ** -2.0}  # fmt: skip
    L = pennington.DEPTH
    for activation, sigma_w2 in pennington.KINDS.values():
        q = pennington.settled(activation, sigma_w2)
        slope = slopes[activation](math.sqrt(q) * NODES)
        mu = [WEIGHTS @ slope**k for k in (2, 4)]
        for weights, s_1 in (("gaussian", -1), ("orthogonal", 0)):
            of = meanfield.jacobian(activation, sigma_w2, 0.0, L, weights)
            formula = L * (mu[1] / mu[0] ** 2 - 1 - s_1)
            assert of.relative_variance == pytest.approx(formula, rel=1e-6, abs=1e-12)
    edge = meanfield.jacobian("linear", 1.0, 0.0, L).log10_largest
    assert 10**edge == pytest.approx((L + 1) ** (L + 1) / L**L, rel=1e-9)


def test_hanin_the_variance_of_a_layer_by_drawing_it():
    rng, num = np.random.default_rng(0), 200_000
    for n in (14, 40):
        k = rng.binomial(n, 0.5, num)
        logs = np.log(rng.chisquare(k[k > 0]))
        error = logs.var() * math.sqrt(2.5 / num)  # of a variance; its tails are heavier than 2
        assert abs(hanin.derived_variance(n) - logs.var()) < 5 * error
    assert hanin.derived_variance(1000) * 1000 == pytest.approx(5, rel=0.01)


def test_balduzzi_the_correlation_by_drawing_pairs_of_units():
    rng = np.random.default_rng(0)
    U = rng.normal(size=(2, 400_000))
    for residual in (None, 1.0):
        c, ratio, depth = 0.0, 1.0, 4
        for layer in range(1, depth + 1):
            one, other = U[0], c * U[0] + math.sqrt(1 - c**2) * U[1]
            gates = 2 * np.mean((one > 0) & (other > 0))
            passed = 2 * np.mean(np.maximum(one, 0) * np.maximum(other, 0))
            if residual is None or layer == depth:
                ratio, c = ratio * gates, passed
            else:  # alpha is 1: the stream and what is added are of one size
                ratio, c = ratio * (1 + gates) / 2, (c + passed) / 2
        assert balduzzi.derived(residual, depth) == pytest.approx(ratio, rel=0.01)
    # the paper's factors are those of the first layer, where the gates are independent
    assert balduzzi.derived(None, 1) == 0.5
    assert balduzzi.derived(1.0, 2) / balduzzi.derived(1.0, 1) < 1
    first = (1 + 0.5) / 2
    assert balduzzi.CLAIMED["residual"][0](1) == first


def test_klambauer_the_constants_are_those_of_jax_and_the_slope_that_of_mean_field_theory():
    lam, alpha = klambauer.constants()
    assert lam == pytest.approx(1.0507009873554804934193349852946, rel=1e-14)
    assert alpha == pytest.approx(1.6732632423543772848170429916717, rel=1e-14)
    point = meanfield.fixed_point("selu", 1.0, 0.0)
    assert klambauer.measured_slope(num=200_000) == pytest.approx(point.chi_par, rel=1e-3)
    slope = expected(lambda z: lam**2 * np.where(z > 0, 1, (alpha * np.exp(z)) ** 2), 1.0)
    assert point.chi_1 == pytest.approx(slope, rel=2e-2)  # the jump at 0 is hard for the sum


def test_xiao_the_critical_biases_by_bisection():
    assert xiao.critical_sigma_b2() == pytest.approx(xiao.second_critical_sigma_b2(), rel=1e-6)
    assert xiao.second_critical_sigma_b2() == pytest.approx(xiao.SIGMA_B2, rel=1e-3)
