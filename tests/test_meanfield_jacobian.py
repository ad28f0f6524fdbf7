"""Singular values of Jacobians: theory against closed forms, published values, NumPy's SVD."""

import math

import numpy as np
import pytest
from numpy_networks import ACTIVATIONS
from scipy.special import comb, digamma

from jaxmlp import meanfield

EULER = 0.5772156649015329


def orthogonal(rng, nets, n):
    """Orthogonal matrices without preference."""
    Q, R = np.linalg.qr(rng.standard_normal((nets, n, n)))
    return Q * np.sign(np.diagonal(R, axis1=1, axis2=2))[:, None, :]


def squared_singular_values(name, sigma_w2, sigma_b2, q, depth, n, nets, weights, rng):
    """Of the Jacobians of networks that start at length q: (nets, n), largest first."""
    Z, J = math.sqrt(q) * rng.standard_normal((nets, n, 1)), np.eye(n)
    for _ in range(depth):
        normal = rng.standard_normal((nets, n, n)) / math.sqrt(n)
        W = math.sqrt(sigma_w2) * (normal if weights == "gaussian" else orthogonal(rng, nets, n))
        A = ACTIVATIONS[name](Z)[0]
        Z = W @ A + math.sqrt(sigma_b2) * rng.standard_normal((nets, n, 1))
        J = ACTIVATIONS[name](Z)[1] * (W @ J)
    return np.linalg.eigvalsh(J @ np.swapaxes(J, 1, 2))[:, ::-1]


CASES = [
    ("linear", 0.8, 0.1, 3, "gaussian"),
    ("relu", 2.0, 0.0, 3, "gaussian"),
    ("tanh", 1.5, 0.05, 4, "gaussian"),
    ("tanh", 1.5, 0.05, 4, "orthogonal"),
    ("gelu", 2.0, 0.1, 3, "orthogonal"),
    ("relu", 2.0, 0.0, 4, "orthogonal"),
]


@pytest.mark.parametrize(("name", "sigma_w2", "sigma_b2", "depth", "weights"), CASES)
def test_wide_jacobians_have_the_mean_the_variance_and_the_edge(
    name, sigma_w2, sigma_b2, depth, weights
):
    n, nets = 120, 8
    of = meanfield.jacobian(name, sigma_w2, sigma_b2, depth, weights)
    rng = np.random.default_rng(0)
    s = squared_singular_values(name, sigma_w2, sigma_b2, of.q, depth, n, nets, weights, rng)
    mean = s.mean(axis=1)  # strays by 1 / sqrt(n), as the gates and q do
    assert abs(mean.mean() - of.mean) < 4 * mean.std(ddof=1) / math.sqrt(nets)
    relative = s.var(axis=1) / mean**2
    error = 4 * relative.std(ddof=1) / math.sqrt(nets)
    assert abs(relative.mean() - of.relative_variance) < error + of.relative_variance * depth / n
    # n^(-2/3) is 4%, 6% of the half that is active in ReLU layers, and the largest lies a few of
    # them below the edge: Tracy & Widom 1996
    edge = np.mean(s[:, 0] / mean) * of.mean / 10**of.log10_largest
    assert 0.8 < edge < 1.03
    other = meanfield.jacobian(
        name, sigma_w2, sigma_b2, depth, "orthogonal" if weights == "gaussian" else "gaussian"
    )
    assert abs(other.relative_variance - of.relative_variance) == pytest.approx(depth)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_layers_that_start_away_from_the_fixed_point_spread_by_their_own_lengths(weights):
    # At the fixed point ten orthogonal layers would spread 0.04, here 0.75
    n, nets, depth, q = 120, 8, 10, 1.0
    first = float(meanfield.length_map("tanh", 1.05, 0.0, q))
    of = meanfield.jacobian("tanh", 1.05, 0.0, depth, weights, q0=first, transient=True)
    rng = np.random.default_rng(1)
    s = squared_singular_values("tanh", 1.05, 0.0, q, depth, n, nets, weights, rng)
    mean = s.mean(axis=1)
    assert abs(mean.mean() - of.mean) < 4 * mean.std(ddof=1) / math.sqrt(nets)
    relative = s.var(axis=1) / mean**2
    error = 4 * relative.std(ddof=1) / math.sqrt(nets)
    assert abs(relative.mean() - of.relative_variance) < error + of.relative_variance * depth / n
    settled = meanfield.jacobian("tanh", 1.05, 0.0, depth, weights)
    assert of.relative_variance - settled.relative_variance > 0.7  # the check would see it


def test_layers_at_the_fixed_point_are_the_same_one_by_one():
    for weights in ("gaussian", "orthogonal"):
        settled = meanfield.jacobian("tanh", 1.5, 0.05, 6, weights)
        one_by_one = meanfield.jacobian("tanh", 1.5, 0.05, 6, weights, q0=settled.q, transient=True)
        assert one_by_one.log10_mean == pytest.approx(settled.log10_mean)
        assert one_by_one.relative_variance == pytest.approx(settled.relative_variance)
    assert meanfield.jacobian("sign", 1.0, 0.1, 3, transient=True).mean == 0
    with pytest.raises(ValueError, match="transient and width exclude each other"):
        meanfield.jacobian("relu", 2.0, 0.0, 3, transient=True, width=10)


def test_closed_forms_of_the_spectrum():
    for L in (1, 4, 50):
        linear = meanfield.jacobian("linear", 0.9, 0.1, L)
        assert linear.mean == pytest.approx(0.9**L)
        assert linear.relative_variance == pytest.approx(L)
        edge = L * math.log10(0.9) + (L + 1) * math.log10(L + 1) - L * math.log10(L)
        assert linear.log10_largest == pytest.approx(edge, abs=1e-9)
        isometry = meanfield.jacobian("linear", 1.0, 0.1, L, "orthogonal")
        assert (isometry.mean, isometry.variance) == (1.0, 0.0)
        assert isometry.log10_largest == pytest.approx(0, abs=1e-9)
        # of ReLU the gate has M = chi / (2 (1 - chi)): a quadratic equation for the edge
        relu = meanfield.jacobian("relu", 2.0, 0.0, L)
        y = (1 - L + math.sqrt((L - 1) ** 2 + 2 * L)) / (2 * L)
        assert relu.relative_variance == pytest.approx(2 * L)
        edge = math.log10((1 + y) / y) + L * math.log10(1 + 2 * y)
        assert relu.log10_largest == pytest.approx(edge, abs=1e-9)
    assert meanfield.jacobian("relu", 2.0, 0.0, 50, "orthogonal").variance == pytest.approx(50)


def test_moments_of_the_slopes_are_those_of_erf():
    of = meanfield.jacobian("erf", 1.5, 0.1, 7, "orthogonal")
    mu_1 = 4 / math.pi / math.sqrt(1 + 4 * of.q)
    mu_2 = (4 / math.pi) ** 2 / math.sqrt(1 + 8 * of.q)
    assert of.mean == pytest.approx((1.5 * mu_1) ** 7, rel=1e-9)
    assert of.relative_variance == pytest.approx(7 * (mu_2 / mu_1**2 - 1), rel=1e-9)
    point = meanfield.fixed_point("erf", 1.5, 0.1)
    assert (of.q, of.log10_mean) == (point.q, pytest.approx(7 * math.log10(point.chi_1)))


def test_published_edges():
    # Pennington, Schoenholz & Ganguli 2017: Gaussian weights at criticality reach e / p times the
    # depth, p = 1 linear and 1/2 ReLU, and never become isometric; orthogonal tanh nearly is.
    L = 1000
    for name, sigma_w2, p in (("linear", 1.0, 1.0), ("relu", 2.0, 0.5)):
        of = meanfield.jacobian(name, sigma_w2, 0.0, L)
        assert 10**of.log10_largest / L == pytest.approx(math.e / p, rel=2e-3)
    near = meanfield.critical_point("tanh", sigma_w2=1.0001)
    of = meanfield.jacobian("tanh", near.sigma_w2, near.sigma_b2, 100, "orthogonal")
    assert of.mean == pytest.approx(1, rel=1e-6)
    assert of.variance < 0.1
    assert meanfield.jacobian("tanh", near.sigma_w2, near.sigma_b2, 100).variance > 100


def test_jacobians_beyond_the_range_of_float64_have_their_logs():
    of = meanfield.jacobian("sigmoid", 1.0, 0.0, 5000)
    assert of.mean == 0
    assert of.log10_mean == pytest.approx(5000 * math.log10(meanfield.fixed_point(
        "sigmoid", 1.0, 0.0
    ).chi_1))  # fmt: skip
    assert meanfield.jacobian("relu", 6.0, 0.0, 5000).variance == math.inf
    step = meanfield.jacobian("step", 1.0, 0.1, 3)
    assert (step.mean, step.log10_largest) == (0, -math.inf)
    assert meanfield.jacobian("squared_relu", 0.5, 0.1, 3).log10_largest == math.inf
    zero = meanfield.jacobian("tanh", 0.5, 0.0, 4)  # q = 0: every slope is 1
    assert (zero.q, zero.mean, zero.relative_variance) == (0.0, 0.5**4, 4.0)


@pytest.mark.parametrize(("name", "slopes2"), [("linear", (1, 1)), ("relu", (0, 1))])
def test_narrow_jacobians_have_the_recursion_of_their_moments(name, slopes2):
    n, depth, nets = 5, 4, 40_000
    rng, sigma_w2 = np.random.default_rng(0), 1.6
    X = np.broadcast_to(np.eye(n), (nets, n, n))
    A = np.ones((nets, n, 1))
    for _ in range(depth):  # with the network's own gates, which depend on W
        W = rng.standard_normal((nets, n, n)) * math.sqrt(sigma_w2 / n)
        A, D = ACTIVATIONS[name](W @ A)
        X = D * (W @ X @ np.swapaxes(W, 1, 2)) * np.swapaxes(D, 1, 2)
    trace = np.trace(X, axis1=1, axis2=2) / n
    within = (X**2).sum(axis=(1, 2)) / n - trace**2
    of = meanfield.jacobian(name, sigma_w2, 0.0, depth, width=n)
    assert abs(trace.mean() - of.mean) < 4 * trace.std() / math.sqrt(nets)
    assert abs(within.mean() - of.variance) < 4 * within.std() / math.sqrt(nets)
    assert of.log10_largest is None
    wide = meanfield.jacobian(name, sigma_w2, 0.0, depth)
    assert of.relative_variance > 1.5 * wide.relative_variance
    almost = meanfield.jacobian(name, sigma_w2, 0.0, depth, width=10**7)
    assert almost.relative_variance == pytest.approx(wide.relative_variance, rel=1e-5)


# --- exponents ------------------------------------------------------------------------------------


def log_diagonals(n, steps, rng, relu):
    """ln R_ii of QR steps of random n x n layers, the network's own gates applied: (steps, n)."""
    found, Q, A = [], np.eye(n), rng.standard_normal(n)
    for _ in range(steps):
        W = rng.standard_normal((n, n)) * math.sqrt(2 / n)
        A = W @ A
        D = (A > 0) if relu else np.ones(n)
        A = A * D if A.any() and D.any() else rng.standard_normal(n)
        _, R = np.linalg.qr((D[:, None] * W) @ Q)
        found.append(np.abs(np.diagonal(R)))
        A = A / np.linalg.norm(A)
    return np.array(found)


def test_exponents_are_those_of_qr_steps():
    n, steps, rng = 6, 6000, np.random.default_rng(0)
    R = np.log(log_diagonals(n, steps, rng, relu=False))
    z = (R.mean(axis=0) - meanfield.linear_exponents(n, 2.0)) / R.std(axis=0) * math.sqrt(steps)
    assert np.abs(z).max() < 4
    of = meanfield.relu_exponents(n, 2.0)
    R = log_diagonals(n, steps, rng, relu=True)
    stands = R > 1e-12
    expected = [sum(comb(n, k) for k in range(i)) / 2**n for i in range(1, n + 1)]
    np.testing.assert_allclose(of.cut, expected, rtol=1e-12)
    error = np.sqrt(of.cut * (1 - of.cut) / steps)
    assert (np.abs(1 - stands.mean(axis=0) - of.cut) < 4 * error).all()
    for i in range(n):
        of_those = np.log(R[stands[:, i], i])
        error = of_those.std() / math.sqrt(len(of_those))
        assert abs(of_those.mean() - of.exponents[i]) < 4 * error


def test_exponents_are_those_of_singular_values_of_long_products():
    n, depth, nets, rng = 3, 16, 4000, np.random.default_rng(1)  # deeper, NumPy rounds some to 0
    J, log_s = np.eye(n), []
    for _ in range(depth):
        J = rng.standard_normal((nets, n, n)) / math.sqrt(n) @ J
        log_s.append(np.log(np.linalg.svd(J, compute_uv=False)))
    exponents = meanfield.linear_exponents(n)
    # ln s_i is L times its exponent and a number that does not grow with L
    grown = (log_s[-1] - log_s[depth // 2 - 1]) / (depth // 2)
    error = grown.std(axis=0) / math.sqrt(nets)
    assert (np.abs(grown.mean(axis=0) - exponents) < 4 * error).all()
    determinant = log_s[-1].sum(axis=1)
    error = determinant.std() / math.sqrt(nets)
    assert abs(determinant.mean() - depth * exponents.sum()) < 4 * error


def test_published_exponents():
    # Newman 1986; entries of variance 1 are sigma_w2 = n. Of N(0, 1): -(gamma + ln 2) / 2
    assert meanfield.linear_exponents(1)[0] == pytest.approx(-(EULER + math.log(2)) / 2)
    first, second = meanfield.linear_exponents(2, 2.0)
    assert first == pytest.approx((math.log(2) - EULER) / 2)
    assert second == pytest.approx(-(EULER + math.log(2)) / 2)
    # In wide layers exp(2 exponent) is 1 - (i - 1) / n: the triangle law
    n = 4000
    squares = np.exp(2 * meanfield.linear_exponents(n))
    np.testing.assert_allclose(squares[: n // 2], 1 - np.arange(n // 2) / n, rtol=1e-3)
    assert meanfield.relu_exponents(1).exponents[0] == pytest.approx(
        (math.log(4) + digamma(0.5)) / 2
    )
    deep = meanfield.relu_exponents(1200)  # 2^-1200 is below the range of float64
    assert np.isfinite(deep.exponents).all()
    assert (np.diff(deep.exponents) < 0).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: meanfield.jacobian("tanh", 1.0, 0.0, 3, "unitary"), "unknown weights 'unitary'"),
        (lambda: meanfield.jacobian("tanh", 1.0, 0.0, 3, width=8), "linear activation, or ReLU"),
        (lambda: meanfield.jacobian("relu", 2.0, 0.1, 3, width=8), "without biases"),
        (lambda: meanfield.jacobian("linear", 1.0, 0.0, 3, "orthogonal", width=8), "Gaussian"),
        (lambda: meanfield.jacobian("tanh", 1.0, 0.0, 0), "depth must be at least 1"),
        (lambda: meanfield.linear_exponents(0), "n must be at least 1"),
        (lambda: meanfield.relu_exponents(4, -1.0), "sigma_w2 must be"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
