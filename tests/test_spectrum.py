"""Singular values of the Jacobian against svd and mpmath, and laws that hold at any depth."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from test_remedies import drawn

import jaxmlp
from jaxmlp import MLP, Objective, activations, meanfield, spectrum
from jaxmlp.initializers import gaussian
from jaxmlp.layer import Layer, Spec


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def by_svd(mlp, params, X):
    """log10 of the singular values of `jax.jacobian`, largest first."""
    jacobian = jax.jit(jax.vmap(jax.jacrev(lambda x: mlp.apply(params, x))))(X)
    with np.errstate(divide="ignore"):
        return np.log10(np.linalg.svd(np.asarray(jacobian), compute_uv=False))


# --- small depth, every output --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mlp", "ranks"),
    [
        (MLP((5, 6, 6, 6, 5), hidden="tanh", residual=0.5, norm="layer"), [4, 4, 4]),
        (MLP((6,) * 6, hidden="relu", output="sigmoid", stack_from=2), None),
        (MLP((6, 7, 2, 7, 6), hidden="gelu", output="linear", norm="rms", norm_eps=0.3), [2, 2, 2]),
        (MLP((6,) * 4, hidden="gelu", output="prelu", norm="layer", norm_eps=0.0), [4, 4, 4]),
        (MLP((2, 6, 6, 5), hidden="relu", residual="rezero"), [2, 2, 2]),
    ],
)
def test_singular_values_are_those_of_svd_and_closed_ones_are_counted(mlp, ranks, x64):
    _, params, X, _ = drawn(mlp, loss="mse", m=3)
    found, expected = np.asarray(spectrum.jacobian_spectrum(mlp)(params, X)), by_svd(mlp, params, X)
    is_open = np.isfinite(found)
    assert np.abs(found - expected)[is_open].max() < 1e-9
    assert (found[~is_open] == -np.inf).all()
    assert (expected[~is_open] < -14).all()  # the log of rounding
    if ranks is None:  # as many as the layer with the fewest active units leaves
        J = jaxmlp.Objective(mlp, "mse")
        gates = [(t.A > 0).sum(axis=1) for t in jaxmlp.trace(J)(params, X, np.ones((3, 6)))]
        ranks = np.min(gates, axis=0).tolist()
        assert min(ranks) < 4
    assert is_open.sum(axis=1).tolist() == ranks


OUTPUTS = ["linear", "sigmoid", "tanh", "relu", "prelu", "softmax"]


def test_frames_of_outputs_have_their_jacobian(x64):
    U = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)))
    for name in OUTPUTS:
        act = activations.get(name)
        slope = () if act.slope is None else (jnp.asarray(0.3),)
        layer = Layer(jnp.eye(5), slope=slope[0] if slope else None)

        @jax.jit
        def both(U, act=act, slope=slope, layer=layer):
            frame = spectrum.output_frame(Spec(act), layer, U, act.fn(U, *slope), None)
            return frame, jax.vmap(jax.jacfwd(lambda u: act.fn(u, *slope)))(U)

        frame, jacobian = jax.tree.map(np.asarray, both(U))
        P = np.swapaxes(np.exp(frame.g)[..., None] * frame.U, 1, 2)
        is_open = np.arange(P.shape[1]) < np.asarray(frame.rank)[:, None]
        found = np.linalg.svd(P @ (is_open[..., None] * frame.rows), compute_uv=False)
        expected = np.linalg.svd(jacobian, compute_uv=False)
        assert np.abs(found - expected[:, : found.shape[1]]).max() < 1e-14, name
        assert (frame.rank == (expected > 1e-14).sum(axis=1)).all(), name


def test_a_saturated_softmax_has_its_true_singular_values(x64):
    @jax.jit
    def singular_values(Z):
        spec, layer = Spec(activations.softmax), Layer(jnp.eye(4))
        frame = spectrum.output_frame(spec, layer, Z, jax.nn.softmax(Z), None)
        frame = spectrum.square(spectrum.orthonormal(frame))
        for _ in range(3):
            frame = spectrum.graded(frame)
        return spectrum.rotated(frame.g[0], frame.U[0], 3)

    Z = np.array([[700.0, 300.0, 290.0, -5.0]])
    found = singular_values(Z)
    with mpmath.workdps(800):
        e = [mpmath.exp(mpmath.mpf(float(z))) for z in Z[0]]
        a = [x / sum(e) for x in e]
        J = mpmath.matrix(4)
        for i in range(4):
            for j in range(4):
                J[i, j] = a[i] * ((i == j) - a[j])
        expected = sorted(mpmath.log(s) for s in mpmath.eigsy(J, eigvals_only=True)[1:])[::-1]
        assert max(abs(f - float(s)) for f, s in zip(found, expected, strict=True)) < 1e-9


# --- any depth ------------------------------------------------------------------------------------


def mp_singular_values(matrices, digits=320):
    """log10 of the singular values of a product, first factor rightmost."""
    with mpmath.workdps(digits):
        product = np.vectorize(mpmath.mpf, otypes=[object])(matrices[0])
        for M in matrices[1:]:
            product = np.vectorize(mpmath.mpf, otypes=[object])(M) @ product
        gram = mpmath.matrix((product @ product.T).tolist())
        squares = mpmath.eigsy(gram, eigvals_only=True)
        return np.array(sorted((float(mpmath.log10(s) / 2) for s in squares), reverse=True))


DEEP = MLP((5,) * 62, hidden="tanh", output="linear", stack_from=2)


def test_sixty_tanh_layers_have_the_values_of_mpmath_and_the_right_determinant(x64):
    _, params, X, _ = drawn(DEEP, loss="mse", m=1)
    found = np.asarray(spectrum.jacobian_spectrum(DEEP)(params, X))[0]
    A, factors = np.asarray(X)[0], []
    for layer in jaxmlp.layers(params)[:-1]:
        A = np.tanh(A @ layer.W + layer.b)
        factors.append((1 - A**2)[:, None] * np.asarray(layer.W).T)
    factors.append(np.asarray(params[-1].W).T)
    assert np.abs(found - mp_singular_values(factors)).max() < 1e-9
    assert found[0] - found[-1] > 20
    determinant = sum(np.linalg.slogdet(F)[1] for F in factors) / np.log(10)
    assert abs(found.sum() - determinant) < 1e-9
    single = jax.tree.map(lambda x: np.asarray(x, np.float32), (params, X))
    again = jax.tree.map(lambda x: np.asarray(x, np.float64), single)
    narrow = spectrum.jacobian_spectrum(DEEP)(*single)  # computed in float64 too
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, spectrum.jacobian_spectrum(DEEP)(*again), rtol=1e-6)


LINEAR = MLP((8,) * 802, hidden="linear", output="linear", use_bias=False)


def test_linear_layers_have_newmans_exponents_and_orthogonal_ones_none():
    X, key = np.ones((1, 8), np.float32), jax.random.key(0)
    params = LINEAR.init(key, gaussian(1.3, 0.0))
    of = spectrum.lyapunov_exponents(LINEAR)(params, X)
    assert of.per_layer.shape == (801, 1, 8)
    z = (np.asarray(of.mean) - meanfield.linear_exponents(8, 1.3)) / of.standard_error
    assert np.abs(z).max() < 3
    wrong = (np.asarray(of.mean) - meanfield.linear_exponents(8, 1.5)) / of.standard_error
    assert np.abs(wrong).max() > 6
    with jax.enable_x64(True):
        isometry = LINEAR.init(key, "orthogonal", dtype=np.float64)
        found = spectrum.lyapunov_exponents(LINEAR)(isometry, np.ones((1, 8)))
    assert np.abs(found.mean).max() < 1e-10
    # a layer that lets one direction through, and one that lets none
    stack, output = params
    ones = stack._replace(W=stack.W.at[400].set(1.0))
    cut = spectrum.lyapunov_exponents(LINEAR)((ones, output), X)
    assert np.isfinite(cut.mean[0])
    assert np.isnan(cut.mean[1:]).all()  # no full rank, or too near to it
    none = stack._replace(W=stack.W.at[400].set(0.0))
    closed = spectrum.lyapunov_exponents(LINEAR)((none, output), X)
    np.testing.assert_array_equal(closed.mean, -np.inf)


def test_what_a_layer_shrinks_too_far_is_not_known(x64):
    mlp = MLP((3, 3, 3), hidden="linear", output="linear", use_bias=False)
    rng = np.random.default_rng(0)
    W = rng.normal(size=(3, 3)) @ np.diag([1, 1, 1e-18]) @ rng.normal(size=(3, 3))
    params = tuple(Layer(jnp.asarray(M)) for M in (W, rng.normal(size=(3, 3))))
    (found,) = spectrum.jacobian_spectrum(mlp)(params, jnp.ones((1, 3)))
    assert np.isfinite(found[:2]).all()
    assert np.isnan(found[2])
    (first,) = spectrum.jacobian_spectrum(mlp)(params, jnp.ones((1, 3)), k=1)
    assert first.shape == (1,)
    assert found[0] - 1 < first[0] <= found[0]


def test_what_cannot_be_asked_for_is_said_in_one_sentence():
    mlp, X = MLP((3, 4, 2)), np.ones((1, 3), np.float32)
    params = mlp.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"k must be at most min\(d_0, d_L\) = 2, got 3"):
        spectrum.jacobian_spectrum(mlp)(params, X, k=3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        spectrum.lyapunov_exponents(mlp)(params, X, k=0)
    bare = MLP((3, 4, 2), hidden=activations.Activation("square", lambda Z: Z**2))
    with pytest.raises(ValueError, match="has no derivative"):
        spectrum.jacobian_spectrum(bare)
    for transform in (spectrum.jacobian_spectrum, spectrum.lyapunov_exponents):
        with pytest.raises(TypeError, match="mlp must be an MLP, got Objective"):
            transform(Objective(mlp, "cross_entropy"))
