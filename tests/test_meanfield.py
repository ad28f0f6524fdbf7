"""Mean-field theory against closed forms, mpmath, published numbers and networks."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import mpmath as mp
import numpy as np
import pytest
from numpy_networks import draw, log10_stream
from scipy import stats
from scipy.special import digamma, polygamma
from support import relative_error

from jaxmlp import activations, initializers, meanfield, plotting
from jaxmlp.activations import Activation
from jaxmlp.initializers import gaussian
from jaxmlp.meanfield import integrals
from jaxmlp.meanfield.finite_width import _log_factor

matplotlib.use("Agg")

ELEMENTWISE = [name for name in activations.names() if name != "softmax"]
INTEGRAL = 1e-10  # the accuracy promised


# --- integrals ------------------------------------------------------------------------------------


def mp_sigmoid(z):
    return 1 / (1 + mp.exp(-z))


SCALE, ALPHA = mp.mpf("1.0507009873554805"), mp.mpf("1.6732632423543772")
BY_HAND = {  # function, derivative, kinks
    "tanh": (mp.tanh, lambda z: mp.sech(z) ** 2, []),
    "sigmoid": (mp_sigmoid, lambda z: mp_sigmoid(z) * mp_sigmoid(-z), []),
    "gelu": (lambda z: z * mp.ncdf(z), lambda z: mp.ncdf(z) + z * mp.npdf(z), []),
    "hard_tanh": (lambda z: max(-1, min(1, z)), lambda z: int(abs(z) < 1), [-1, 1]),
    "selu": (
        lambda z: SCALE * (z if z > 0 else ALPHA * mp.expm1(z)),
        lambda z: SCALE * (1 if z > 0 else ALPHA * mp.exp(z)),
        [0],
    ),
}


mp_density = functools.cache(mp.npdf)  # the nodes of mpmath's rules are the same for every q


def mp_moments(f, df, kinks, q):
    """Return E f^2, E f'^2 and E z f f' / q for z of variance q, with 30 digits."""
    ends = sorted(
        {-14.0, -6.0, -2.0, 0.0, 2.0, 6.0, 14.0} | {float(k / math.sqrt(q)) for k in kinks}
    )
    ends = [end for end in ends if abs(end) <= 14]
    with mp.workdps(30):
        root = mp.sqrt(mp.mpf(q))
        at = functools.cache(lambda g: (root * g, f(root * g), df(root * g), mp_density(g)))
        integrands = (
            lambda z, A, D, density: A**2 * density,
            lambda z, A, D, density: D**2 * density,
            lambda z, A, D, density: z * A * D * density / q,
        )
        return [float(mp.quadgl(lambda g, h=h: h(*at(g)), ends)) for h in integrands]


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("q", [1e-12, 0.7, 5.0])
def test_moments_agree_with_thirty_digits(name, q):
    found, expected = meanfield.moments(name, q), mp_moments(*BY_HAND[name], q)
    # sigmoid's gain at small q is what is left of two sides that cancel to 1e-6
    tolerances = [INTEGRAL, INTEGRAL, INTEGRAL if q > 1e-6 or name != "sigmoid" else 1e-8]
    for value, reference, tolerance in zip(found, expected, tolerances, strict=True):
        assert abs(value / reference - 1) < tolerance


@pytest.mark.parametrize("q", [1e-12, 1e-3, 1.0, 30.0, 1e6, 1e12])
def test_moments_have_their_closed_forms_at_every_variance(q):
    half = q / 2
    cases = {
        "relu": (half, 0.5),
        "leaky_relu:0.1": (half * 1.01, 0.505),
        "linear": (q, 1.0),
        "squared_relu": (1.5 * q**2, 2 * q),
        "sign": (1.0, 0.0),
        "step": (0.5, 0.0),
        "erf": (
            2 / math.pi * math.atan2(2 * q, math.sqrt(1 + 4 * q)),  # asin(2q / (1 + 2q))
            4 / math.pi / math.sqrt(1 + 4 * q),
        ),
    }
    if q < 100:
        cases["sin"] = (-math.expm1(-2 * q) / 2, (1 + math.exp(-2 * q)) / 2)
    for name, expected in cases.items():
        found = meanfield.moments(name, q)
        np.testing.assert_allclose(found[:2], expected, rtol=INTEGRAL, err_msg=name)


def gelu_square(q):
    """E (z Phi(z))^2 for z of variance q, by Stein's lemma twice."""
    arc = math.asin(q / (1 + q)) + 2 * q / ((1 + q) * math.sqrt(1 + 2 * q))
    return q / 4 + q / (2 * math.pi) * arc


@pytest.mark.parametrize("q", [1e-6, 0.3, 2.0, 400.0])
def test_gelu_has_its_closed_form(q):
    assert abs(meanfield.moments("gelu", q).square / gelu_square(q) - 1) < INTEGRAL


@pytest.mark.parametrize("name", ["elu", "mish", "relu:0.5", "leaky_relu:0.2:1", "step"])
def test_gain_is_the_slope_of_the_square_also_where_the_function_jumps(name):
    q, h = 0.8, 1e-4
    square = meanfield.moments(name, q + h * np.array([-2, -1, 1, 2])).square
    slope = (square[0] - 8 * square[1] + 8 * square[2] - square[3]) / (12 * h)
    assert abs(meanfield.moments(name, q).gain - slope) < 1e-9


def test_moments_go_on_as_power_laws_beyond_the_range_that_is_integrated():
    q = np.array([0.0, 1e-300, 1e-18, 1e18, 1e100, np.inf])
    silu = meanfield.moments("silu", q)
    np.testing.assert_allclose(silu.square[1:5], [0.25e-300, 0.25e-18, 0.5e18, 0.5e100], rtol=1e-6)
    assert (silu.square[0], silu.square[5]) == (0, math.inf)
    np.testing.assert_allclose(silu.slope2, [0.25] * 3 + [0.5] * 3, rtol=1e-7)
    assert meanfield.moments("tanh", np.inf).slope2 == 0


def test_an_activation_without_derivative_is_differentiated():
    bare = Activation("bare", lambda Z: jnp.tanh(Z) + 0.1 * Z)
    own = Activation("own", bare.fn, lambda Z, A: 1.1 - jnp.tanh(Z) ** 2)
    for found, expected in zip(
        meanfield.moments(bare, 0.9), meanfield.moments(own, 0.9), strict=True
    ):
        assert abs(found / expected - 1) < INTEGRAL


def test_an_activation_with_a_wrong_derivative_is_refused():
    lying = Activation("lying", jnp.tanh, lambda Z, A: 1 - A)
    with pytest.raises(ValueError, match=r"activation 'lying': derivative.* central diff"):
        meanfield.predict(lying, 1.0, 0.0, depth=2, width=8)


def test_what_the_panels_do_not_resolve_is_refused():
    with pytest.raises(ValueError, match="do not settle at a variance of 1e\\+12"):
        meanfield.moments("sin", 1e12)
    hidden = Activation("hidden", lambda Z: jnp.where(Z > 0.7, 1.0, 0.0), lambda Z, A: 0 * A)
    with pytest.raises(ValueError, match="name its kinks"):
        meanfield.moments(hidden, 1.0)
    named = Activation("named", hidden.fn, hidden.derivative, kinks=(0.7,))
    assert abs(meanfield.moments(named, 1.0).square - stats.norm.sf(0.7)) < INTEGRAL


def test_precision_does_not_depend_on_the_caller():
    expected = meanfield.fixed_point("gelu", 1.7, 0.2)
    gelu = activations.get("gelu")
    again, traced = (  # by other names, since what is compiled is kept
        Activation(name, gelu.fn, gelu.derivative) for name in ("again", "traced")
    )
    with jax.enable_x64(True):
        assert meanfield.fixed_point(again, 1.7, 0.2) == expected
    found = []
    jax.jit(lambda x: found.append(meanfield.fixed_point(traced, 1.7, 0.2)) or x)(1.0)
    assert found == [expected]


# --- correlation ----------------------------------------------------------------------------------


def arc_cosine(c):
    """1 - c' of bias-free ReLU: Cho & Saul 2009, "Kernel methods for deep learning", n = 1."""
    theta = mp.acos(c)
    return 1 - (mp.sin(theta) + (mp.pi - theta) * c) / mp.pi


def arcsine(c):
    """1 - c' of bias-free erf at q = 3: Williams 1997, "Computing with infinite networks"."""
    return 1 - mp.asin(6 * c / 7) / mp.asin(mp.mpf(6) / 7)


@pytest.mark.parametrize("one_minus_c", [1e-8, 1e-5, 1e-2, 0.3, 1.0, 1.6, 1.999, 2.0])
def test_correlation_map_has_the_arc_cosine_and_arcsine_kernels(one_minus_c):
    with mp.workdps(40):
        c = 1 - mp.mpf(one_minus_c)
        for name, q, expected in (("relu", 5.0, arc_cosine(c)), ("erf", 3.0, arcsine(c))):
            found = meanfield.correlations.decorrelation(
                activations.get(name), 1.0, 0.0, q, one_minus_c
            )
            assert abs(found / float(expected) - 1) < INTEGRAL, name


@pytest.mark.parametrize("name", ["linear", "relu", "leaky_relu:0.3", "leaky_relu:-0.5"])
def test_the_kernel_of_two_slopes_is_its_integral(name):
    act = activations.get(name)
    square = float(integrals.moments(act, 2.0).square)
    for theta in (1e-3, 0.09999, 0.1, 1.0, 2.5, math.pi):
        found = meanfield.correlations.decorrelation_of_weights(act, 2.0)(theta)
        expected = integrals.half_difference(act, 2.0, theta) / square
        assert abs(found / expected - 1) < INTEGRAL


def test_correlation_map_has_the_kernels_of_sign_sin_and_of_biases():
    found = meanfield.correlation_map("sign", 1.0, 0.0, 2.0, 0.3)
    assert abs(found - 2 / math.pi * math.asin(0.3)) < INTEGRAL
    found = meanfield.correlation_map("sin", 2.0, 0.5, 1.5, -0.4)
    square, mixed = math.exp(-1.5) * math.sinh(1.5), math.exp(-1.5) * math.sinh(-0.6)
    assert abs(found - (2 * mixed + 0.5) / (2 * square + 0.5)) < INTEGRAL


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(180)
HERMITE = [np.ones(180), NODES]  # normalised polynomials at the nodes
for k in range(1, 90):
    HERMITE.append((NODES * HERMITE[-1] - math.sqrt(k) * HERMITE[-2]) / math.sqrt(k + 1))
PROJECT = np.array(HERMITE) * WEIGHTS / WEIGHTS.sum()


def mehler(f, q, c):
    """E f(u1) f(u2) by Mehler's series, for smooth f and moderate q."""
    return float((PROJECT @ f(math.sqrt(q) * NODES)) ** 2 @ c ** np.arange(91))


# --- fixed points ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(1.5, 0.05), (3.0, 0.1)])
def test_fixed_point_is_where_iteration_ends(sigma_w2, sigma_b2):
    q, c = 1.0, 0.5
    for _ in range(400):
        q = sigma_w2 * mehler(np.tanh, q, 1.0) + sigma_b2
    for _ in range(400):
        c = (sigma_w2 * mehler(np.tanh, q, c) + sigma_b2) / q
    slope = mehler(lambda z: 1 - np.tanh(z) ** 2, q, c)
    point = meanfield.fixed_point("tanh", sigma_w2, sigma_b2)
    assert abs(point.q / q - 1) < 1e-9
    assert abs(point.c - c) < 1e-8
    assert abs(point.chi_c / (sigma_w2 * slope) - 1) < 1e-7
    assert point.xi_c == pytest.approx(-1 / math.log(point.chi_c))
    assert point.stability == "stable"


def test_closed_forms_of_fixed_points():
    assert meanfield.fixed_point("relu", 2.0, 0.0, q0=7.0)[:4] == pytest.approx((7, 1, 1, 1))
    linear = meanfield.fixed_point("linear", 1.0, 0.0)
    assert (linear.q, linear.c, linear.stability) == (1.0, None, "scale-invariant")
    biased = meanfield.fixed_point("relu", 1.0, 0.3)
    assert abs(biased.q - 0.6) < 1e-9  # q = q / 2 + 0.3
    assert abs(biased.xi_grad - 1 / math.log(2)) < 1e-9
    selu = meanfield.fixed_point("selu", 1.0, 0.0, q0=0.2)  # lecun; Klambauer et al. 2017
    assert abs(selu.q - 1) < 1e-9
    assert (selu.c, selu.stability) == (pytest.approx(0, abs=1e-9), "stable")


def test_points_at_zero_and_infinity_are_named():
    zero = meanfield.fixed_point("tanh", 0.5, 0.0)
    assert (zero.q, zero.chi_1, zero.c, zero.stability) == (0.0, 0.5, None, "stable")
    away = meanfield.fixed_point("relu", 3.0, 0.1)
    assert (away.q, away.stability) == (math.inf, "diverges")
    assert abs(away.chi_1 - 1.5) < 1e-9
    assert away.xi_grad == pytest.approx(-1 / math.log(1.5))
    ordered, blown = (meanfield.fixed_point("squared_relu", 0.5, 0.1, q0) for q0 in (1.0, 10.0))
    assert ordered.stability == "stable"
    assert (blown.q, blown.chi_1, blown.xi_q) == (math.inf,) * 3
    jump = meanfield.fixed_point("sign", 1.0, 0.1)
    assert (jump.chi_1, jump.xi_grad) == (0.0, 0.0)
    assert abs(jump.q - 1.1) < 1e-12
    assert not any(value is not None and value != value for value in (*zero[:8], *away[:8]))


def test_no_depth_scale_is_given_with_which_a_length_settles_that_does_not():
    for sigma_w2, sigma_b2 in [(3.0, 0.0), (2.0, 0.1)]:
        point = meanfield.fixed_point("relu", sigma_w2, sigma_b2)
        assert (point.stability, point.q, point.xi_q) == ("diverges", math.inf, math.inf)
        diagram = meanfield.phase_diagram("relu", [sigma_w2], [sigma_b2])
        assert (diagram.xi_q == math.inf).all()
    for name in ("elu", "gelu", "selu", "softplus"):  # straight lines far out: slopes have limits
        slope2 = (0.5 if name != "selu" else float(SCALE) ** 2 / 2) * 3.0
        point = meanfield.fixed_point(name, 3.0, 0.1)
        assert (point.chi_1, point.chi_par) == (pytest.approx(slope2, rel=1e-12),) * 2
        assert (point.c, point.chi_c, point.xi_c) == (1.0, 1.0, math.inf), name
        diagram = meanfield.phase_diagram(name, [3.0], [0.1])
        assert (diagram.chi_c[0, 0], diagram.xi_c[0, 0]) == (1.0, math.inf), name
    edge = meanfield.critical_point("gelu", sigma_b2=0.05)
    unstable = meanfield.fixed_point("gelu", edge.sigma_w2, 0.05, q0=edge.q)
    assert unstable.chi_par > 1
    assert unstable.xi_q == math.inf
    assert meanfield.fixed_point("relu", 1.5, 0.1).xi_q == pytest.approx(-1 / math.log(0.75))


def test_half_stable_and_unstable_points_are_told_apart():
    tip = meanfield.half_stable_point("gelu")
    at = tip.sigma_w2, tip.sigma_b2
    below, above = (meanfield.fixed_point("gelu", *at, q0=tip.q * f) for f in (0.99, 2.0))
    assert above.q == pytest.approx(tip.q, rel=1e-3)
    assert above.stability == "half-stable"
    assert below.q < 0.9 * tip.q
    assert below.stability == "stable"
    edge = meanfield.critical_point("gelu", sigma_b2=0.05)
    assert edge.stability == "unstable"
    on = meanfield.fixed_point("gelu", edge.sigma_w2, 0.05, q0=edge.q)
    off = meanfield.fixed_point("gelu", edge.sigma_w2, 0.05, q0=0.9 * edge.q)
    assert on.stability == "unstable"
    assert off.q < 0.9 * edge.q


def test_a_map_that_is_not_monotone_is_followed():
    bump = Activation("bump", lambda Z: 2 * jnp.exp(-(Z**2)), lambda Z, A: -2 * Z * A)
    calm = meanfield.fixed_point(bump, 1.0, 0.1)  # E phi^2 = 4 / sqrt(1 + 4 q)
    assert abs(calm.q - (4 / math.sqrt(1 + 4 * calm.q) + 0.1)) < 1e-9
    assert calm.stability == "stable"
    steep = Activation("steep", lambda Z: 5 * jnp.exp(-20 * Z**4), lambda Z, A: -80 * Z**3 * A)
    point = meanfield.fixed_point(steep, 10.0, 1e-6)
    assert (point.stability == "oscillates") == (point.chi_par < -1)


# --- critical points ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("sigma_b2", [0.0, 0.05])
def test_a_critical_point_is_a_fixed_length_that_keeps_gradients(name, sigma_b2):
    point = meanfield.critical_point(name, sigma_b2=sigma_b2)
    if point is None:
        return
    assert point.sigma_b2 == sigma_b2
    q = 1.0 if point.q is None else max(point.q, 1e-12)
    at = meanfield.moments(name, q)
    assert abs(point.sigma_w2 * at.slope2 - 1) < (1e-9 if point.q else 1e-5)
    assert abs(point.sigma_w2 * at.square + sigma_b2 - q) < 1e-5 * q
    if point.q:
        assert abs(point.sigma_w2 * at.square + sigma_b2 - q) < 1e-9 * q
        assert (point.chi_par > 1) == (point.stability == "unstable")


def test_where_there_is_no_critical_point():
    biased = {name: meanfield.critical_point(name, sigma_b2=0.05) for name in ELEMENTWISE}
    free = {name: meanfield.critical_point(name, sigma_b2=0.0) for name in ELEMENTWISE}
    scale_free = {"linear", "relu", "leaky_relu", "prelu"}
    assert {name for name, p in free.items() if p is None} == {
        "step",
        "sign",
        "softplus",
        "squared_relu",
    }
    assert {name for name, p in biased.items() if p is None} == {
        "step",
        "sign",
        "softplus",
        *scale_free,
    }
    assert {n for n, p in free.items() if p and p.stability == "scale-invariant"} == scale_free


def test_critical_points_have_their_closed_forms():
    relu = meanfield.critical_point("relu", sigma_b2=0.0)
    assert (relu.sigma_w2, relu.sigma_b2, relu.q) == (pytest.approx(2, rel=1e-9), 0.0, None)
    assert meanfield.critical_point("relu", sigma_w2=2.0) == relu
    assert meanfield.critical_point("relu", sigma_w2=2.1) is None
    for s in (0.01, 0.3, -1.0):
        point = meanfield.critical_point(f"leaky_relu:{s}", sigma_b2=0.0)
        assert abs(point.sigma_w2 * (1 + s**2) / 2 - 1) < 1e-9
    assert abs(meanfield.critical_point("linear", q=3.0).sigma_w2 - 1) < 1e-9
    erf = meanfield.critical_point("erf", sigma_b2=0.0)
    assert abs(erf.sigma_w2 / (math.pi / 4) - 1) < 1e-9
    assert (erf.q, erf.stability) == (0.0, "stable")
    selu = meanfield.critical_point("selu", sigma_b2=0.0)
    assert abs(selu.sigma_w2 * float(SCALE**2 * (1 + ALPHA**2)) / 2 - 1) < 1e-9
    for q in (0.01, 0.5, 3.0):
        point = meanfield.critical_point("sin", q=q)
        assert abs(point.sigma_b2 - (q - math.tanh(q))) < 1e-9
        again = meanfield.critical_point("sin", sigma_w2=point.sigma_w2)
        assert abs(again.q / q - 1) < 1e-7


def test_published_critical_points():
    # Xiao et al. 2018, "Dynamical isometry and a mean field theory of CNNs"
    assert f"{meanfield.critical_point('tanh', sigma_w2=1.05).sigma_b2:.2e}" == "2.01e-05"
    # Roberts, Yaida & Hanin 2022, section 5.3.3
    gelu, swish = meanfield.half_stable_point("gelu"), meanfield.half_stable_point("swish")
    assert (round(gelu.sigma_b2, 8), round(gelu.sigma_w2, 8)) == (0.17292239, 1.98305826)
    assert round(swish.sigma_w2, 8) == 1.98800468
    assert gelu.chi_par == pytest.approx(1, abs=1e-9)
    for name in ("tanh", "relu", "sin", "elu", "sigmoid", "softplus", "step"):
        assert meanfield.half_stable_point(name) is None


def test_of_several_critical_points_the_stable_one_is_given():
    point = meanfield.critical_point("gelu", sigma_w2=1.99)
    assert (point.stability, point.sigma_w2) == ("stable", 1.99)
    q = np.geomspace(1e-3, 0.9, 400) * point.q
    sigma_w2 = 1 / meanfield.moments("gelu", q).slope2
    (i,) = np.flatnonzero(np.diff(np.sign(sigma_w2 - 1.99)))  # the other, of smaller q
    assert meanfield.critical_point("gelu", q=float(q[i])).stability == "unstable"


@pytest.mark.parametrize("name", ["relu:3", "relu:100", "linear:0", "linear:2:-1"])
def test_activations_without_a_critical_point_are_no_error(name):
    assert meanfield.critical_point(name, sigma_b2=0.0) is None
    assert meanfield.critical_point(name, sigma_b2=0.05) is None
    assert meanfield.half_stable_point(name) is None
    assert meanfield.fixed_point(name, 1.0, 0.1).q >= 0.1


def test_criticality_table_says_why_there_is_no_point():
    rows = {row["activation"]: row for row in meanfield.criticality_table()}
    assert len(rows) == len(set(ELEMENTWISE) - {"swish"})  # silu by another name
    assert rows["tanh"]["why_none"] == ""
    assert "leaves no room for biases" in rows["relu"]["why_none"]
    assert "every length grows" in rows["softplus"]["why_none"]
    assert "derivative is 0" in rows["sign"]["why_none"]
    assert rows["relu"]["he"] == pytest.approx(1)
    assert rows["relu"]["lecun"] == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: meanfield.critical_point("tanh"), TypeError, "exactly one .* got none"),
        (lambda: meanfield.critical_point("tanh", q=1, sigma_b2=0), TypeError, "'q', 'sigma_b2'"),
        (lambda: meanfield.critical_point("tanh", sigma_w2=0.0), ValueError, "sigma_w2 must be"),
        (lambda: meanfield.critical_point("sin", sigma_b2=900.0), ValueError, "do not settle"),
        (lambda: meanfield.fixed_point("sin", 3000.0, 0.0), ValueError, "do not settle"),
        (lambda: meanfield.moments("tanh", -1.0), ValueError, "q must be at least 0"),
        (lambda: meanfield.critical_point("tahn", q=1.0), ValueError, "did you mean 'tanh'"),
        (lambda: meanfield.fixed_point("softmax", 1.0, 0.0), ValueError, "elementwise"),
        (lambda: meanfield.fixed_point("tanh", 1.0, -0.1), ValueError, "sigma_b2 must be"),
        (lambda: meanfield.fixed_point("tanh", 1.0, 1e-20), ValueError, "sigma_b2 must be 0 or"),
        (lambda: meanfield.fixed_point("tanh", 1.0, 0.0, q0=1e20), ValueError, "q0 must lie"),
        (lambda: meanfield.correlation_map("tanh", 1.0, 0.0, 1.0, 1.5), ValueError, "c must lie"),
        (lambda: meanfield.predict("tanh", [1.0, 2.0], 0.0, 3), ValueError, "one number or 4"),
        (lambda: meanfield.predict("tanh", 1, 0, 3, width=[4, 4]), ValueError, "one number or 3"),
        (lambda: meanfield.predict("tanh", 1.0, 0.0, 0), ValueError, "depth must be at least 1"),
        (lambda: meanfield.predict("tanh", 1.0, 0.0, 3, c0=-2.0), ValueError, "c0 must lie"),
        (lambda: meanfield.predict("squared_relu", 0.5, 0.1, 30, width=16), ValueError, "leave"),
        (lambda: meanfield.variances("orthogonal", (4, 4)), ValueError, "orthogonal"),
        (lambda: meanfield.phase_diagram("tanh", [], [0.1]), ValueError, "at least one"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


# --- predictions: infinite width ------------------------------------------------------------------


def test_prediction_follows_the_maps():
    of = meanfield.predict("tanh", 1.3, 0.1, depth=4, q0=2.0, c0=0.25)
    q, c = 1.3 * 2.0 + 0.1, (1.3 * 2.0 * 0.25 + 0.1) / (1.3 * 2.0 + 0.1)
    for l in range(5):
        assert of.q[l] == pytest.approx(q, rel=1e-12)
        assert of.correlation[l] == pytest.approx(c, rel=1e-10)
        c = meanfield.correlation_map("tanh", 1.3, 0.1, q, c)
        q = float(meanfield.length_map("tanh", 1.3, 0.1, q))
    factors = 1.3 * meanfield.moments("tanh", of.q[:4]).slope2
    np.testing.assert_allclose(of.chi_1[:4], factors)
    assert np.isnan(of.chi_1[4])
    np.testing.assert_allclose(of.log10_delta, [*np.log10(factors)[::-1].cumsum()[::-1] / 2, 0])
    assert of.mean is None


def test_prediction_goes_on_far_beyond_the_range_of_float64():
    of = meanfield.predict("silu", 1e-3, 0.0, depth=120, c0=1.0, width=1000)
    assert of.q[-1] == 0
    assert of.log10_delta[0] == pytest.approx(120 * math.log10(1 / 4000) / 2, rel=0.01)  # chi_1
    assert np.isfinite(of.mean).all()
    sign = meanfield.predict("sign", 1.0, 0.0, depth=3, width=10)
    np.testing.assert_array_equal([sign.log10_delta, sign.mean], [[-np.inf] * 3 + [0]] * 2)


def test_variances_are_those_of_the_weights_that_are_drawn():
    for init in ("lecun", "he", "glorot", gaussian(1.7, 0.2)):
        W = initializers.get(init).W(jax.random.key(0), (300, 100), jnp.float32)
        (sigma_w2,), sigma_b2 = meanfield.variances(init, (300, 100))
        assert sigma_w2 == pytest.approx(float(W.var()) * 300, rel=0.04)  # 5 standard errors
        assert sigma_b2 == initializers.get(init).sigma_b2


def test_prediction_of_the_correlation_agrees_with_networks():
    width, nets, depth, rng = 200, 60, 6, np.random.default_rng(0)
    A = rng.standard_normal((nets, 2, width))
    A /= np.sqrt((A**2).mean(axis=2, keepdims=True))
    cosines = [(A[:, 0] * A[:, 1]).mean(axis=1)]
    for _ in range(depth):
        W = rng.standard_normal((nets, width, width)) * math.sqrt(1.5 / width)
        Z = A @ W + rng.standard_normal((nets, 1, width)) * math.sqrt(0.1)
        cosines.append(
            np.sum(Z[:, 0] * Z[:, 1], axis=1) / np.prod(np.linalg.norm(Z, axis=2), axis=1)
        )
        A = integrals.values(activations.get("gelu"), Z)
    measured = np.array(cosines)
    of = meanfield.predict("gelu", 1.5, 0.1, depth=depth, c0=float(measured[0].mean()))
    error = 4 * measured.std(axis=1) / math.sqrt(nets) + 2 / width  # and the bias of finite width
    assert (np.abs(measured.mean(axis=1)[1:] - of.correlation[:-1]) < error[1:]).all()
    assert of.correlation[5] - of.correlation[0] > 0.4


# --- predictions: finite width --------------------------------------------------------------------

predict = functools.partial(meanfield.predict, c0=1.0)  # two equal inputs: c costs no integrals


@pytest.mark.parametrize("n", [1, 2, 7, 256])
def test_log_of_a_relu_layer_has_the_moments_of_a_chi_square_of_the_active_units(n):
    k = np.arange(1, n + 1)
    weights = stats.binom.pmf(k, n, 0.5)
    weights /= weights.sum()
    means, variances = digamma(k / 2) + math.log(2 / n), polygamma(1, k / 2)
    mean = weights @ means
    expected = mean, weights @ (variances + (means - mean) ** 2)
    np.testing.assert_allclose(_log_factor(activations.get("relu"), n), expected, rtol=1e-9)
    expected = digamma(n / 2) + math.log(2 / n), polygamma(1, n / 2)
    np.testing.assert_allclose(_log_factor(activations.get("linear"), n), expected, rtol=1e-9)


def test_log_of_a_leaky_layer_has_its_closed_form_at_two_units():
    s = 0.1
    both = digamma(1) + math.log(2)  # ln chi2_2; with one slope each: ((1 + s) / 2)^2 times that
    expected = (both + (both + 2 * math.log(s)) + 2 * (both + 2 * math.log((1 + s) / 2))) / 4
    mean, _ = _log_factor(activations.get(f"leaky_relu:{s}"), 2)
    assert abs(mean - (expected - math.log(2))) < 1e-9


@pytest.mark.parametrize(
    ("name", "sigma_w2", "sigma_b2", "C"),
    [("relu", 2, 0, 5), ("linear", 1, 0, 2), ("sigmoid", 1, 0, 2), ("tanh", 1.76, 0.05, 4)],
)
def test_spread_is_about_C_depth_over_width(name, sigma_w2, sigma_b2, C):
    of = predict(name, sigma_w2, sigma_b2, depth=40, width=400)
    assert (of.sd[0] * 2 * math.log(10)) ** 2 / (40 / 400) == pytest.approx(C, rel=0.1)
    assert of.sd[-1] == 0


NARROW = {  # width 32, 24 layers deep, 600 networks: the shift is many standard errors
    "relu": (2.0, 0.1),
    "leaky_relu:0.3": (1.8, 0.0),
    "tanh": (1.76, 0.05),
    "sigmoid": (1.0, 0.0),
    "softplus": (1.0, 0.0),
    "gelu": (2.2, 0.0),
}


@pytest.fixture(scope="module")
def narrow_normals():
    return draw((8, *[32] * 24, 1), nets=600)


@pytest.mark.parametrize("name", NARROW)
def test_narrow_networks_have_the_predicted_mean_and_spread(name, narrow_normals):
    delta = log10_stream(narrow_normals, name, *NARROW[name])[:, :-1]
    nets, depth = delta.shape
    of = predict(name, *NARROW[name], depth, width=32, num_nets=nets)
    error = of.sd[:-1] / math.sqrt(nets)
    assert np.abs((delta.mean(axis=0) - of.mean[:-1]) / error).max() < 4
    np.testing.assert_allclose(delta.std(axis=0, ddof=1) / of.sd[:-1], 1, atol=0.13)  # 4.5 sd
    plain = (delta.mean(axis=0) - of.log10_delta[:-1]) / error
    assert np.abs(plain).max() > 6  # infinite width alone would fail


def test_layers_of_unequal_width_are_predicted():
    sizes, nets = (8, 20, 60, 30, 90, 40, 25, 1), 800
    sigma_w2, sigma_b2 = meanfield.variances("glorot", sizes)
    normals = draw(sizes, nets)
    for name in ("relu", "tanh"):
        delta = log10_stream(normals, name, sigma_w2, sigma_b2)[:, :-1]
        of = predict(name, sigma_w2, sigma_b2, 6, width=sizes[1:-1], num_nets=nets)
        z = (delta.mean(axis=0) - of.mean[:-1]) / (of.sd[:-1] / math.sqrt(nets))
        assert np.abs(z).max() < 4
        np.testing.assert_allclose(delta.std(axis=0, ddof=1) / of.sd[:-1], 1, atol=0.11)
        equal = predict(name, sigma_w2, sigma_b2, 6, width=44, num_nets=nets)
        assert relative_error(equal.sd[:-1], of.sd[:-1]) > 0.1


def agrees(name, sigma_w2, delta):
    """Return whether 20 networks agree: the mean within 4 errors, the spread within 99.9%."""
    nets, depth = 20, delta.shape[1] - 1
    of = predict(name, sigma_w2, 0.0, depth, width=256, num_nets=nets)
    z = (delta.mean(axis=0) - of.mean)[:-1] / (of.sd[:-1] / math.sqrt(nets))
    low, high = np.sqrt(stats.chi2.ppf([0.0005, 0.9995], nets - 1) / (nets - 1))
    ratio = delta[:, :-1].std(axis=0, ddof=1) / of.sd[:-1]
    exact = activations.get(name).homogeneous
    return np.abs(z).max() <= 4 and (not exact or (low < ratio.min() and ratio.max() < high))


TWENTY = {
    "relu": 2.0,
    "linear": 1.0,
    "leaky_relu:0.3": 1.8,
    "tanh": 1.0,
    "sigmoid": 1.0,
    "gelu": 2.0,
}


def test_twenty_deep_networks_lie_in_the_predicted_band():
    found = {name: [] for name in TWENTY}
    for seed in range(4):  # the weights of 5 networks at once, 65 MB, serve every activation
        normals = draw((64, *[256] * 50, 1), nets=5, seed=seed)
        for name, sigma_w2 in TWENTY.items():
            found[name].append(log10_stream(normals, name, sigma_w2))
    for name, sigma_w2 in TWENTY.items():
        delta = np.concatenate(found[name])
        assert agrees(name, sigma_w2, delta), name
        assert not agrees(name, 1.2 * sigma_w2, delta), name


def test_the_band_narrows_with_the_number_of_networks():
    one, many = (predict("erf", 0.8, 0.0, 5, width=64, num_nets=n) for n in (1, 16))
    np.testing.assert_allclose(one.high - one.low, 4 * (many.high - many.low))
    np.testing.assert_allclose(one.high - one.mean, 3 * one.sd)


# --- phase diagrams and figures -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sigma_w2"),
    [
        ("tanh", [0.6, 1.76, 2.6, 3.5]),
        ("hard_tanh", [0.6, 1.4, 1.8]),
        ("relu", np.linspace(0.6, 3.5, 6)),
        ("sign", [1.0, 2.0]),
    ],
)
def test_a_phase_diagram_is_made_of_fixed_points(name, sigma_w2):
    sigma_b2 = np.linspace(0, 0.2, 4)
    diagram = meanfield.phase_diagram(name, sigma_w2, sigma_b2)
    for (i, b), (j, w) in itertools.product(enumerate(sigma_b2), enumerate(sigma_w2)):
        if (i + j) % 3:
            continue
        point = meanfield.fixed_point(name, w, b)
        for field in ("q", "chi_1", "chi_par", "c", "chi_c", "xi_q", "xi_grad"):
            found, expected = getattr(diagram, field)[i, j], getattr(point, field)
            expected = math.nan if expected is None else expected
            rtol = 1e-6 if field == "chi_c" else 1e-8
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-8, err_msg=field)


def test_the_figures_show_the_plane_and_the_band():
    figure, (left, right) = plt.subplots(1, 2)
    diagram = meanfield.phase_diagram("relu", np.linspace(0.3, 3, 8), np.linspace(0.01, 0.3, 6))
    assert plotting.phase_diagram(diagram, left) is left
    assert left.has_data()
    assert "explode" in left.get_title()
    of = meanfield.predict("relu", 2.0, 0.0, 9, width=16)
    assert plotting.prediction_band(of, right, x="distance", at_output=-1.0) is right
    line = right.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(10)[::-1])
    np.testing.assert_allclose(line.get_ydata(), of.mean - 1)
    low, high = right.collections[0].get_datalim(right.transData).intervaly
    assert low == pytest.approx(of.low.min() - 1)
    assert high == pytest.approx(of.high.max() - 1)
    plt.close(figure)
