"""Residuals and norms: mean-field theory against closed forms, autodiff and networks in NumPy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_networks import ACTIVATIONS, draw, log10_stream
from scipy.special import digamma, gammaln, polygamma
from support import drawn

from jaxmlp import MLP, Objective, activations, gradient_flow, meanfield
from jaxmlp.meanfield import finite_streams, finite_width, remedies

predict = functools.partial(meanfield.predict, c0=1.0)  # two equal inputs: c costs no integrals

# --- the networks of these tests ------------------------------------------------------------------


def autodiff_log10(normals, sigma_w2, sigma_b2, alpha, norm):
    """As `log10_stream` of gelu, by `jax.grad` in a number added to the stream of each layer."""

    def output(probes, X, layers):
        A, S = X, 0.0
        for l, (W, b) in enumerate(layers):
            Z = A @ W * math.sqrt(sigma_w2 / len(W)) + math.sqrt(sigma_b2) * b
            hidden = l + 1 < len(layers)
            S = (S + alpha * Z if alpha is not None and hidden and l else Z) + probes[l]
            U = S - jnp.mean(S) if norm == "layer" else S
            U = U / jnp.sqrt(jnp.mean(U**2)) if norm is not None else U
            A = jax.nn.gelu(U, approximate=False)
        return jnp.sum(S)

    X, layers = normals
    probes = [np.zeros_like(b) for _, b in layers]
    dS = jax.jit(jax.vmap(jax.grad(output)))(probes, X, layers)
    norms = np.array([np.linalg.norm(d, axis=(1, 2)) for d in dS])
    return np.log10(norms / norms[-1]).T


def test_the_networks_in_numpy_have_the_gradients_of_autodiff():
    normals = draw((3, *[6] * 4, 1), nets=3, dtype=np.float64)
    for alpha, norm in ((None, None), (0.7, None), (None, "layer"), (None, "rms"), (0.7, "layer")):
        found = log10_stream(normals, "gelu", 1.5, 0.1, alpha=alpha, norm=norm)
        with jax.enable_x64(True):
            expected = autodiff_log10(normals, 1.5, 0.1, alpha, norm)
        np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=f"{alpha} {norm}")


# --- infinite width -------------------------------------------------------------------------------

NODES = np.arange(-12, 12, 0.02)  # of the trapezoid rule, which is exact to 1e-15 for smooth phi
WEIGHTS = 0.02 * np.exp(-(NODES**2) / 2) / math.sqrt(2 * math.pi)


def squares(name, q):
    """E phi^2 and E phi'^2 over variance q, by the trapezoid rule."""
    A, slopes = ACTIVATIONS[name](math.sqrt(q) * NODES)
    return [float(WEIGHTS @ f**2) for f in (A, slopes)]


def test_a_norm_without_a_residual_has_the_factors_of_variance_one():
    published = {"sigmoid": 0.15283, "tanh": 1.17781, "gelu": 1.07203, "relu": 1, "linear": 1}
    for name, factor in published.items():
        sigma_w2 = {"sigmoid": 1.0, "tanh": 1.0, "gelu": 2.0, "relu": 2.0, "linear": 1.0}[name]
        for norm in ("layer", "rms"):
            point = meanfield.fixed_point(name, sigma_w2, 0.0, norm=norm)
            assert (point.stability, point.xi_q) == ("stable", 0.0)
            assert abs(point.chi_1 - factor) < 5e-6, name
            of = predict(name, sigma_w2, 0.0, 6, norm=norm)
            np.testing.assert_allclose(of.chi_1[1:6], point.chi_1, rtol=1e-5)  # norm_eps
            np.testing.assert_allclose(of.q[1:6], point.q, rtol=1e-5)
        if name not in ("relu", "linear"):
            K, D = squares(name, 1.0)
            assert abs(meanfield.fixed_point(name, 1.7, 0.2, norm="rms").chi_1 - 1.7 * D / (
                1.7 * K + 0.2
            )) < 1e-9  # fmt: skip


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu"])
def test_a_residual_adds_variances_on_the_way_forward_and_back(name):
    alpha, w, b, depth = 0.6, 1.3, 0.1, 7
    of = predict(name, w, b, depth, q0=2.0, residual=alpha)
    q, chi = w * 2.0 + b, []
    for l in range(depth):
        assert abs(of.q[l] / q - 1) < 1e-9
        K, D = squares(name, q)
        last = l == depth - 1  # the output adds to nothing
        chi.append(w * D if last else 1 + alpha**2 * w * D)
        q = w * K + b if last else q + alpha**2 * (w * K + b)
    assert abs(of.q[depth] / q - 1) < 1e-9
    np.testing.assert_allclose(of.chi_1[:-1], chi, rtol=1e-9)
    stream = np.append(np.log10(chi)[::-1].cumsum()[::-1] / 2, 0)
    np.testing.assert_allclose(of.log10_stream, stream, rtol=1e-9)
    delta = stream + np.array([0, *[math.log10(alpha)] * (depth - 1), 0])  # dZ = alpha dS
    np.testing.assert_allclose(of.log10_delta, delta, rtol=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_a_normed_residual_grows_by_a_ratio_of_gamma_functions(alpha):
    w, b, depth, q0 = 1.5, 0.2, 200, 0.7
    of = predict("tanh", w, b, depth, q0=q0, residual=alpha, norm="rms", norm_eps=0.0)
    K, D = squares("tanh", 1.0)
    a, ratio = (w * q0 + b) / (alpha**2 * (w * K + b)), w * D / (w * K + b)
    N = np.arange(depth)[::-1]  # layers from each hidden layer to the last
    grown = gammaln(depth - 1 + a + ratio) - gammaln(depth - 1 - N + a + ratio)
    grown -= gammaln(depth - 1 + a) - gammaln(depth - 1 - N + a)
    found = (of.log10_stream[:depth] - of.log10_stream[depth - 1]) * 2 * math.log(10)
    np.testing.assert_allclose(found, grown, rtol=1e-9, atol=1e-12)
    # a power law of exponent D / C, its constant in Gamma functions too
    law = ratio * math.log(depth - 1) + gammaln(a) - gammaln(a + ratio)
    assert abs(grown[0] - law) < 2 * a / depth


def test_residuals_of_one_over_root_depth_tend_to_the_root_of_e():
    for name, sigma_w2 in (("relu", 2.0), ("linear", 1.0)):
        of = predict(name, sigma_w2, 0.0, 1000, residual="1/sqrt(depth)")
        assert abs(10 ** (of.log10_stream[0] - of.log10_stream[-2]) / math.sqrt(math.e) - 1) < 1e-3


def test_rezero_leaves_the_stream_whole_at_birth():
    of = predict("tanh", 1.2, 0.1, 5, residual="rezero", width=16)
    np.testing.assert_array_equal(of.chi_1[:4], 1.0)
    np.testing.assert_array_equal(of.q[:5], of.q[0])
    for field in (of.log10_stream, of.mean, of.sd, of.low):
        np.testing.assert_array_equal(field[:5], field[4])
    np.testing.assert_array_equal(of.log10_delta[1:5], -np.inf)  # the gates are closed
    assert of.log10_delta[0] == of.log10_stream[0]
    plain = predict("tanh", 1.2, 0.1, 1)
    np.testing.assert_allclose(of.log10_stream[4:], plain.log10_stream)


def test_a_change_of_width_and_the_ends_are_plain():
    of = predict("relu", 2.0, 0.0, 5, width=[8, 8, 12, 12, 12], residual=1.0)
    np.testing.assert_allclose(of.q, [2, 4, 4, 8, 16, 16])
    np.testing.assert_allclose(of.chi_1[:-1], [2, 1, 2, 2, 1])
    without = predict("relu", 2.0, 0.0, 5, width=[8, 8, 12, 12, 12])
    np.testing.assert_array_equal(without.log10_stream, without.log10_delta)


def test_the_eps_of_a_norm_counts_where_variances_are_small():
    w, v = 3e-6, 3e-6
    of = predict("linear", w, 0.0, 6, norm="rms", norm_eps=1e-6)
    for l in range(6):
        assert of.q[l] == pytest.approx(v, rel=1e-9)
        assert of.chi_1[l] == pytest.approx(w / (v + 1e-6), rel=1e-9)
        v = w * v / (v + 1e-6)


@pytest.mark.parametrize("norm", [None, "layer"])
def test_the_correlation_of_two_streams_agrees_with_networks(norm):
    width, nets, depth, alpha, rng = 200, 60, 6, 0.7, np.random.default_rng(0)
    A = rng.standard_normal((nets, 2, width))
    A /= np.sqrt((A**2).mean(axis=2, keepdims=True))
    S, cosines = 0.0, [(A[:, 0] * A[:, 1]).mean(axis=1)]
    for l in range(depth):
        W = rng.standard_normal((nets, width, width)) * math.sqrt(1.5 / width)
        Z = A @ W + rng.standard_normal((nets, 1, width)) * math.sqrt(0.1)
        S = S + alpha * Z if l else Z
        cosines.append(
            np.sum(S[:, 0] * S[:, 1], axis=1) / np.prod(np.linalg.norm(S, axis=2), axis=1)
        )
        U = S - S.mean(axis=2, keepdims=True) if norm else S
        U = U / np.sqrt((U**2).mean(axis=2, keepdims=True)) if norm else U
        A = ACTIVATIONS["gelu"](U)[0]
    measured = np.array(cosines)
    of = meanfield.predict(
        "gelu", 1.5, 0.1, depth=depth, c0=float(measured[0].mean()), residual=alpha, norm=norm
    )
    error = 4 * measured.std(axis=1) / math.sqrt(nets) + 2 / width  # and the bias of finite width
    assert (np.abs(measured.mean(axis=1)[1:] - of.correlation[:-1]) < error[1:]).all()
    assert of.correlation[5] - of.correlation[0] > 0.15
    plain = meanfield.predict("gelu", 1.5, 0.1, depth=depth, c0=float(measured[0].mean()))
    assert np.abs(plain.correlation - of.correlation)[3] > error[4]


# --- finite width ---------------------------------------------------------------------------------


def test_a_linear_residual_has_the_moments_of_a_non_central_chi_square():
    n, depth, alpha, w = 8, 12, 0.6, 1.5
    of = predict("linear", w, 0.0, depth, width=n, residual=alpha)
    # |e + alpha W e|^2 = s2 chi2_n(1 / s2): chi2 of n + 2 j degrees, j of Poisson's law
    s2, j = alpha**2 * w / n, np.arange(400)
    p = np.exp(-1 / (2 * s2) - j * math.log(2 * s2) - gammaln(j + 1))
    means = digamma(n / 2 + j) + math.log(2 * s2)
    mean = p @ means
    variance = p @ (polygamma(1, n / 2 + j) + (means - mean) ** 2)
    layers = np.arange(depth)[::-1]
    exact = layers * mean + digamma(n / 2) + math.log(2 * w / n)
    sd = np.sqrt(layers * variance + polygamma(1, n / 2))
    nets = finite_streams.MOST
    z = (of.mean[:-1] * 2 * math.log(10) - exact) / sd * math.sqrt(nets)
    assert np.abs(z).max() < 4
    ratio = of.sd[:-1] * 2 * math.log(10) / sd
    np.testing.assert_allclose(ratio, 1, atol=4.5 / math.sqrt(2 * nets))


def test_networks_along_their_vectors_are_the_plain_networks_too():
    n, depth = 24, 10
    for name, sigma_w2, sigma_b2 in (("relu", 2.0, 0.1), ("relu", 2.0, 0.0), ("linear", 1.0, 0.1)):
        act, w, widths = activations.get(name), np.full(depth + 1, sigma_w2), [n] * depth
        plain = remedies.stream(None, None, 1e-6, depth, widths)
        q = remedies.lengths(act, w, sigma_b2, 1.0, plain)
        exact = finite_width.statistics(act, w, sigma_b2, q, widths)
        mean, sd = finite_streams.statistics(act, w, sigma_b2, q[0], widths, plain)
        nets = finite_streams.MOST
        z = (mean - exact[0])[:-1] / exact[1][:-1] * math.sqrt(nets)
        assert np.abs(z).max() < 4, name
        np.testing.assert_allclose(sd[:-1] / exact[1][:-1], 1, atol=4.5 / math.sqrt(2 * nets))


NARROW = [  # 24 layers of 32 units, 600 networks: the shift is many standard errors
    ("tanh", 1.0, 0.0, 1.0, None),
    ("relu", 2.0, 0.1, "1/sqrt(depth)", None),
    ("gelu", 2.0, 0.1, None, "rms"),
    ("sigmoid", 1.0, 0.0, None, "rms"),
    ("tanh", 1.5, 0.1, 2.0, "layer"),
]


@pytest.fixture(scope="module")
def narrow_normals():
    return draw((8, *[32] * 24, 1), nets=600)


@pytest.mark.parametrize(("name", "sigma_w2", "sigma_b2", "residual", "norm"), NARROW)
def test_narrow_networks_have_the_predicted_mean_and_spread(
    name, sigma_w2, sigma_b2, residual, norm, narrow_normals
):
    alpha = 24**-0.5 if isinstance(residual, str) else residual
    measured = log10_stream(narrow_normals, name, sigma_w2, sigma_b2, alpha=alpha, norm=norm)
    measured = measured[:, :-1]
    nets, depth = measured.shape
    of = predict(name, sigma_w2, sigma_b2, depth, width=32, residual=residual, norm=norm)
    error = of.sd[:-1] / math.sqrt(nets)
    assert np.abs((measured.mean(axis=0) - of.mean[:-1]) / error).max() < 4
    np.testing.assert_allclose(measured.std(axis=0, ddof=1) / of.sd[:-1], 1, atol=0.13)  # 4.5 sd
    infinite = (measured.mean(axis=0) - of.log10_stream[:-1]) / error
    assert np.abs(infinite).max() > 4  # infinite width alone would fail


def test_twenty_networks_of_the_package_lie_in_the_predicted_band(monkeypatch):
    monkeypatch.setattr(finite_streams, "UNITS", 2**20)  # 1000 networks: enough for twenty
    nets, depth, width = 20, 30, 64
    X = np.random.default_rng(0).standard_normal((nets, 1, width), np.float32)
    X /= np.sqrt((X**2).mean(axis=2, keepdims=True))
    for name, sigma_w2, residual, norm in (("gelu", 2.0, 1.0, None), ("tanh", 1.0, None, "layer")):
        sizes = (width, *[width] * depth, 1)
        mlp = MLP(sizes, hidden=name, output="linear", residual=residual, norm=norm, stack_from=2)
        init = {1.0: "lecun", 2.0: "he"}[sigma_w2]
        each = [drawn(mlp, init, np.float32, np.random.default_rng(i)) for i in range(nets)]
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
        flow = gradient_flow(Objective(mlp, "half_squared_error"), statistics=False)
        measured = jax.vmap(flow, (0, 0, None))(params, X, np.zeros((1, 1), np.float32))
        measured = np.asarray(measured.log10_stream - measured.log10_stream[:, -1:]).mean(axis=0)
        of = predict(name, sigma_w2, 0.0, depth, width=width, residual=residual, norm=norm)
        error = of.sd[:-1] / math.sqrt(nets)
        assert np.abs((measured - of.mean)[:-1] / error).max() < 4, name
        plain = predict(name, sigma_w2, 0.0, depth)
        assert np.abs((measured - plain.log10_stream)[:-1] / error).max() > 8, name


# --- fixed points ---------------------------------------------------------------------------------


def test_with_a_residual_lengths_grow_and_the_factor_is_that_of_the_limit():
    relu = meanfield.fixed_point("relu", 2.0, 0.0, residual=0.5)
    assert (relu.q, relu.c, relu.stability) == (math.inf, 1.0, "diverges")
    assert relu.chi_1 == pytest.approx(1.25)  # 1 + 0.25 * 2 / 2
    assert relu.xi_grad == pytest.approx(-1 / math.log(1.25))
    tanh = meanfield.fixed_point("tanh", 2.0, 0.1, residual=0.5)
    assert (tanh.chi_1, tanh.xi_q, tanh.xi_c, tanh.xi_grad) == (1.0, math.inf, math.inf, math.inf)
    deep = predict("tanh", 2.0, 0.1, 60, residual=0.5).chi_1
    assert 1 < deep[58] < 1.1 < deep[0]
    normed = meanfield.fixed_point("gelu", 2.0, 0.1, residual=1.0, norm="layer")
    assert (normed.q, normed.chi_1, normed.stability) == (math.inf, 1.0, "diverges")
    rezero = meanfield.fixed_point("gelu", 2.0, 0.1, q0=3.0, residual="rezero")
    assert (rezero.q, rezero.chi_1, rezero.stability) == (3.0, 1.0, "scale-invariant")
    for point in (relu, tanh, normed, rezero):
        assert min(point.xi_q, point.xi_c) >= 0


def test_where_correlations_settle_with_a_remedy():
    step = meanfield.fixed_point("step", 1.0, 0.0, residual=1.0)
    theta = math.acos(step.c)  # E step step = 1/2 - theta / (2 pi): Cho & Saul 2009, n = 0
    assert abs(math.cos(theta) - (1 - theta / math.pi)) < 1e-6
    normed = meanfield.fixed_point("erf", 1.0, 0.1, norm="rms")
    c = 0.5
    for _ in range(4000):  # a depth scale of 120; the arcsine kernel at variance 1: Williams 1997
        c = (2 / math.pi * math.asin(2 * c / 3) + 0.1) / (2 / math.pi * math.asin(2 / 3) + 0.1)
    assert abs(normed.c - c) < 1e-8


def test_behind_a_norm_a_critical_point_leaves_room_for_biases():
    K, D = squares("tanh", 1.0)
    for given in ({"sigma_b2": 0.05}, {"sigma_w2": 2.0}, {"q": 0.7}):
        point = meanfield.critical_point("tanh", norm="layer", **given)
        ((name, value),) = given.items()
        assert getattr(point, name) == pytest.approx(value, rel=1e-12)
        assert point.sigma_b2 == pytest.approx(point.sigma_w2 * (D - K))
        again = meanfield.fixed_point("tanh", point.sigma_w2, point.sigma_b2, norm="layer")
        assert (again.chi_1, again.q) == (pytest.approx(1), pytest.approx(point.q))
    assert meanfield.critical_point("tanh", sigma_b2=0.0, norm="rms") is None
    assert meanfield.critical_point("sigmoid", sigma_w2=1.0, norm="rms") is None  # D < K
    assert meanfield.critical_point("step", sigma_w2=1.0, norm="rms") is None
    for sigma_w2 in (0.3, 2.0):
        relu = meanfield.critical_point("relu", sigma_w2=sigma_w2, norm="rms")
        assert relu[:3] == (sigma_w2, 0.0, pytest.approx(sigma_w2 / 2))
    assert meanfield.critical_point("relu", sigma_b2=0.0, norm="rms").sigma_w2 == pytest.approx(2)
    assert meanfield.critical_point("relu", sigma_b2=0.1, norm="rms") is None


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: predict("tanh", 1.0, 0.0, 3, residual=-1.0), ValueError, "residual must be"),
        (lambda: predict("tanh", 1.0, 0.0, 3, residual=True), TypeError, "residual must be"),
        (lambda: predict("tanh", 1.0, 0.0, 3, residual="zero"), ValueError, "residual 'zero'"),
        (lambda: predict("tanh", 1.0, 0.0, 3, norm="batch"), ValueError, "couples the samples"),
        (lambda: predict("tanh", 1.0, 0.0, 3, norm="rsm"), ValueError, "did you mean 'rms'"),
        (lambda: predict("tanh", 1.0, 0.0, 3, norm="rms", norm_eps=-1.0), ValueError, "norm_eps"),
        (lambda: predict("tanh", 1.0, 0.0, 2, norm="rms", width=2), ValueError, "over 2 units"),
        (
            lambda: meanfield.fixed_point("tanh", 1.0, 0.0, residual="1/sqrt(depth)"),
            ValueError,
            "does not depend on depth",
        ),
        (lambda: predict("gelu", 2.0, 0.0, 30, residual=1e6, width=4), ValueError, "leave"),
        (lambda: predict("relu", 2.0, 0.0, 60, residual=1.0, width=2), ValueError, "fall silent"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_homogeneous_networks_go_on_beyond_the_range_of_float64():
    of = predict("relu", 2.0, 0.0, 30, residual=1e6, width=8)  # q grows by 1e12 in every layer
    assert of.q[-1] == math.inf
    assert of.log10_stream[0] == pytest.approx(29 * 12 / 2, rel=1e-9)
    assert np.isfinite(of.mean).all()


def test_a_step_has_no_gradient_with_a_remedy_either():
    of = predict("step", 1.0, 0.0, 3, residual=1.0, norm="rms", width=8)
    np.testing.assert_array_equal([of.log10_stream, of.mean], [[-np.inf] * 3 + [0]] * 2)
