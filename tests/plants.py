"""A student's backward pass in NumPy, with a mistake planted where one is wanted, and the census of
what the certificate says of it, and of right ones. `python tests/plants.py` runs both in full, in
half an hour.

The pass shares no code with jaxmlp: activations, losses and steps are written out anew.
"""

import collections
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp

ACTIVATIONS = {
    "sigmoid": (lambda Z: 1 / (1 + np.exp(-Z)), lambda Z: np.exp(-Z) / (1 + np.exp(-Z)) ** 2),
    "tanh": (np.tanh, lambda Z: 1 / np.cosh(Z) ** 2),
    "relu": (lambda Z: np.maximum(Z, 0), lambda Z: (Z > 0).astype(Z.dtype)),
}
FACTORS = {
    "sum_not_mean": lambda m, K: m,
    "mean_twice": lambda m, K: 1 / m,
    "mean_over_classes": lambda m, K: 1 / K,
    "factor_2": lambda m, K: 2,
    "factor_half": lambda m, K: 1 / 2,
    "sign": lambda m, K: -1,
}
STEPS = (
    "transposed", "no_derivative", "derivative_at_A", "updated_W", "bias_not_summed",
    "bias_wrong_axis", "wrong_loss_gradient", "diagonal_jacobian", "wrong_A", "wrong_gate",
    "extra_l2", "transposed dA", "Z_for_A", "dA_for_dZ", "dA_for_dZ dA", "gate_of_dA",
    "other_derivative", "other_derivative of A", "formula_of_Z", "derivative_twice", "far_A",
    "wrong_W", "wrong_dZ", "stale_Z", "rows_moved", "rows_apart", "some_samples",
    "product_of_means", "zeros", "wrong_residual",
)  # fmt: skip
FORWARD = ("bias_left_out", "wrong_activation", "wrong_output all", "wrong_output axis")
WHOLE = (
    "finite_differences", "finite_differences central", "X_moved", "Y_moved", "reversed",
    "after_a_step",
)  # fmt: skip
PLANTS = (
    *(f"{factor} {place}" for factor in FACTORS for place in ("dW", "db", "dW db", "dZ")),
    *STEPS,
    *FORWARD,
    *WHOLE,
)
# Two at once: the first is the one nearer the output
PAIRS = (
    (("sum_not_mean dW db", (1, 2, 3)), ("no_derivative", (1,))),
    (("sign dZ", (3,)), ("derivative_at_A", (2,))),
    (("bias_wrong_axis", (3,)), ("no_derivative", (2,))),
    (("no_derivative", (2,)), ("transposed", (1,))),
    (("wrong_A", (3,)), ("gate_of_dA", (1,))),
    (("factor dW", (2,)), ("bias_not_summed", (1,))),
    (("bias_left_out", (3,)), ("no_derivative", (2,))),
    (("wrong_output all", (3,)), ("sum_not_mean dW db", (1, 2, 3))),
)


def softmax(Z, axis=1):
    E = np.exp(Z - Z.max(axis=axis, keepdims=True))
    return E / E.sum(axis=axis, keepdims=True)


def student(activation, loss, plant=None, layers=(), rate=0.3, decay=0.1, also=()):
    """A candidate in NumPy: a list of (dW, db), for "cross_entropy" or "mse" behind a softmax.

    also: more plants, each with its layers.
    """
    planted = [(plant, tuple(layers)), *also]
    act, derivative = ACTIVATIONS[activation]
    other_act, other_derivative = ACTIVATIONS["tanh" if activation == "sigmoid" else "sigmoid"]

    def made(what, l):
        return any(what == plant and l in layers for plant, layers in planted)

    def times(x, l, array, m, K):
        for plant, layers in planted:
            factor, _, places = (plant or "").partition(" ")
            if l in layers and factor in FACTORS and array in places.split():
                x = x * x.dtype.type(FACTORS[factor](m, K))
        return x

    def passed(params, X):
        Ws, bs = ([None, *map(np.asarray, xs)] for xs in list(zip(*params, strict=True))[:2])
        L, A, Z = len(params), [np.asarray(X)], [None]
        for l in range(1, L + 1):
            Z.append(A[l - 1] @ Ws[l] + (0 if made("bias_left_out", l) else bs[l]))
            if l < L:
                A.append(other_act(Z[l]) if made("wrong_activation", l) else act(Z[l]))
            else:
                axis = 0 if made("wrong_output axis", L) else 1
                A.append(softmax(Z[l], None if made("wrong_output all", L) else axis))
        return Ws, Z, A

    def slope_of(Z, A, dA, stale, l):
        if made("wrong_activation", l):
            return other_derivative(Z[l])
        if made("other_derivative", l):
            return other_derivative(Z[l])
        if made("other_derivative of A", l):
            return 1 - A[l] ** 2 if activation == "sigmoid" else A[l] * (1 - A[l])
        if made("formula_of_Z", l):
            return {"sigmoid": Z[l] * (1 - Z[l]), "tanh": 1 - Z[l] ** 2}.get(activation, Z[l] > 0)
        if made("wrong_gate", l):
            return derivative(Z[l + 1 if l + 1 < len(Z) - 1 else l - 1])
        if made("derivative_twice", l):
            return derivative(Z[l]) ** 2
        at = {"derivative_at_A": A[l], "gate_of_dA": dA, "stale_Z": stale}
        return derivative(next((x for what, x in at.items() if made(what, l)), Z[l]))

    def gradient(params, X, Y):
        X = X[::-1] if made("X_moved", 1) else X
        Ws, Z, A = passed(params, X)
        L, (m, K) = len(params), A[-1].shape
        Y = np.asarray(Y).astype(A[L].dtype)
        Y = Y[::-1] if made("Y_moved", 1) else Y
        grads, dA, dA_above, dZ_above, stale = [], None, None, None, None
        for l in range(L, 0, -1):
            if l == L:
                dZ = at_output(A[L], Y, loss, lambda what: made(what, L))
            else:
                if made("stale_Z", l):  # the weights as they are after a step of their own
                    dZ = dA * derivative(Z[l])
                    stale = Z[l] - 0.1 * (A[l - 1] @ (A[l - 1].T @ dZ / m) + dZ.mean(axis=0))
                dZ = dA if made("no_derivative", l) else dA * slope_of(Z, A, dA, stale, l)
            dZ = times(dZ, l, "dZ", m, K)
            dZ = dZ[::-1] if made("rows_moved", l) else dZ
            dW, db = product(A, Z, dA, dZ, dZ_above, l, made)
            W = Ws[l] - rate * dW if made("updated_W", l) else Ws[l]
            if made("wrong_W", l):
                W = Ws[l - 1 if l > 1 and Ws[l - 1].shape == W.shape else min(l + 1, L)]
            dA_above, dZ_above = dA, dZ
            if made("dA_for_dZ dA", l) and dA_above is not None:
                dA = dA_above @ W.T
            else:
                dA = dZ @ (W if made("transposed dA", l) else W.T)
            dW = dW + decay * Ws[l] if made("extra_l2", l) else dW
            dW = dW.T if made("transposed", l) else dW
            dW = dW * 0.37 if made("factor dW", l) else dW
            grads.append((times(dW, l, "dW", m, K), times(db, l, "db", m, K)))
        return grads if made("reversed", 1) else grads[::-1]

    def value(params, X, Y):
        _, _, A = passed(params, X)
        each = -np.sum(Y * np.log(A[-1]), axis=1) if loss == "cross_entropy" else np.sum(
            (A[-1] - Y) ** 2, axis=1
        )  # fmt: skip
        return each.mean()

    def candidate(params, X, Y):
        if made("after_a_step", 1):
            step = gradient(params, X, Y)
            pairs = zip(params, step, strict=True)
            params = [(p[0] - 0.1 * dW, p[1] - 0.1 * db) for p, (dW, db) in pairs]
        for plant, both in (("finite_differences", False), ("finite_differences central", True)):
            if made(plant, 1):
                return differences(lambda p: value(p, X, Y), params, 1e-5, both)
        return gradient(params, X, Y)

    return candidate


def product(A, Z, dA, dZ, dZ_above, l, made):
    """dW and db of one layer."""
    left, right, m = A[l - 1], dZ, len(dZ)
    if made("wrong_A", l):
        left = A[l]
    if made("Z_for_A", l) and l > 1:
        left = Z[l - 1]
    if made("far_A", l):
        left = A[l - 2 if l > 1 else 0]
    if made("rows_apart", l):
        left = left[::-1]
    if made("dA_for_dZ", l) and dA is not None:
        right = dA
    if made("wrong_dZ", l) and dZ_above is not None:
        right = dZ_above
    if made("some_samples", l):
        left, right = left[-1:], right[-1:]
    dW = left.T @ right / m
    if made("product_of_means", l):
        dW = np.outer(left.mean(axis=0), right.mean(axis=0))
    db = dZ if made("bias_not_summed", l) else dZ.mean(axis=0)
    db = dZ.mean(axis=1) if made("bias_wrong_axis", l) else db
    return (dW * 0, db * 0) if made("zeros", l) else (dW, db)


def differences(value, params, h, both_sides):
    """(dW, db) of each layer, one entry after the other."""
    arrays = [[np.array(x, np.float64) for x in layer[:2]] for layer in params]
    here = value(arrays)
    grads = [[np.zeros_like(x) for x in layer] for layer in arrays]
    for layer, own in zip(arrays, grads, strict=True):
        for x, dx in zip(layer, own, strict=True):
            for i in np.ndindex(x.shape):
                was = x[i]
                x[i] = was + h
                ahead = value(arrays)
                x[i] = was - h
                dx[i] = (ahead - value(arrays)) / (2 * h) if both_sides else (ahead - here) / h
                x[i] = was
    return [tuple(own) for own in grads]


def at_output(A, Y, loss, made):
    def through_softmax(dA):
        return A * (dA - (A * dA).sum(axis=1, keepdims=True))

    if made("diagonal_jacobian"):
        return (-Y / A if loss == "cross_entropy" else 2 * (A - Y)) * A * (1 - A)
    if made("wrong_residual"):
        return A
    plain = (loss == "cross_entropy") != made("wrong_loss_gradient")
    return A - Y if plain else through_softmax(2 * (A - Y))


# --- residual connections and norms ---------------------------------------------------------------

REMEDIED = (
    "no_skip", "skip_through_gate", "no_gate", "norm_is_constant", "norm_left_out",
    "norm_without_mean", "norm_without_variance", "no_derivative", "transposed dA",
    "bias_wrong_axis", "sum_not_mean dZ", "Z_for_A",
)  # fmt: skip


def remedied_student(gates, norm, plant=None, where=0, eps=1e-6):
    """A candidate in NumPy for a tanh network with cross-entropy: a list of dicts dW, db, dalpha.

    gates: alpha for each hidden layer, None without a skip, "own" for the layer's parameter.
    """

    def made(what, l):
        return plant == what and where == l

    def normed(S):
        if norm is None:
            return S, np.ones((len(S), 1))
        C = S - S.mean(axis=1, keepdims=True) if norm == "layer" else S
        sigma = np.sqrt((C * C).mean(axis=1, keepdims=True) + eps)
        return C / sigma, sigma

    def norm_back(U, sigma, dU, l):
        if norm is None or made("norm_left_out", l):
            return dU
        means = dU.mean(axis=1, keepdims=True)
        along = U * (U * dU).mean(axis=1, keepdims=True)
        centred = (norm == "layer") != made("norm_without_mean", l)
        if made("norm_is_constant", l):
            return dU / sigma
        if made("norm_without_variance", l):
            return (dU - means) / sigma
        return (dU - along - means * centred) / sigma

    def candidate(params, X, Y):
        m, L, A, Ss, Us, sigmas, Zs = len(X), len(params), [X], [None], [None], [None], [None]
        pairs = zip(gates, params, strict=False)
        alphas = [None, *(layer.alpha if gate == "own" else gate for gate, layer in pairs)]
        for l in range(1, L + 1):
            Zs.append(A[l - 1] @ params[l - 1].W + params[l - 1].b)
            if l == L:
                break
            Ss.append(Zs[l] if alphas[l] is None else Ss[l - 1] + alphas[l] * Zs[l])
            U, sigma = normed(Ss[l])
            Us.append(U)
            sigmas.append(sigma)
            A.append(np.tanh(U))
        grads, dZ, handed = [], softmax(Zs[L]) - Y, None
        for l in range(L, 0, -1):
            if l < L:
                dA = dZ @ (params[l].W if made("transposed dA", l + 1) else params[l].W.T)
                dU = dA if made("no_derivative", l) else dA * (1 - A[l] ** 2)
                dS = norm_back(Us[l], sigmas[l], dU, l)
                if handed is not None and not made("no_skip", l):
                    dS = dS + (dZ if made("skip_through_gate", l) else handed)
                plain = alphas[l] is None
                dZ = dS if plain or made("no_gate", l) else alphas[l] * dS
                handed = None if plain else dS
            dZ = dZ * m if made("sum_not_mean dZ", l) else dZ
            left = Zs[l - 1] if made("Z_for_A", l) and l > 1 else A[l - 1]
            grad = {"dW": left.T @ dZ / m, "db": dZ.mean(axis=0)}
            grad["db"] = dZ.mean(axis=1) if made("bias_wrong_axis", l) else grad["db"]
            if l < L and gates[l - 1] == "own":
                grad["dalpha"] = np.asarray(np.sum(dS * Zs[l]) / m)
            grads.append(grad)
        return grads[::-1]

    return candidate


# --- networks -------------------------------------------------------------------------------------

SIZES = {2: (3, 5, 5, 4), 3: (3, 6, 6, 4, 3), 6: (4, 5, 5, 5, 6, 6, 6, 3)}
GAIN = {"sigmoid": 16.0, "tanh": 1.5, "relu": 2.0}


class Case(NamedTuple):
    """A network on random data; trained by so many steps of gradient descent."""

    activation: str
    depth: int
    loss: str = "cross_entropy"
    m: int = 11
    seed: int = 0
    dtype: type = np.float64
    steps: int = 0

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def problem(self):
        """J, params, X, Y in NumPy."""
        sizes = SIZES[self.depth]
        J = jaxmlp.Objective(jaxmlp.MLP(sizes, hidden=self.activation, output="softmax"), self.loss)
        rng, gain = np.random.default_rng(self.seed), GAIN[self.activation]
        params = tuple(
            jaxmlp.Layer(rng.normal(size=(a, b)) * np.sqrt(gain / a), rng.normal(size=b) / 3)
            for a, b in itertools.pairwise(sizes)
        )
        X = rng.normal(size=(self.m, sizes[0]))
        Y = softmax(2 * rng.normal(size=(self.m, sizes[-1])))
        params, X, Y = jax.tree.map(lambda x: x.astype(self.dtype), (params, X, Y))
        if self.steps:
            with jax.enable_x64(self.dtype == np.float64):
                params, _ = jaxmlp.fit(
                    J, jax.tree.map(jnp.asarray, params), X, Y, optimizer=0.5, epochs=self.steps
                )
        return J, jax.tree.map(np.asarray, params), X, Y


def cases(dtypes=(np.float64, np.float32), **kwargs):
    """Depths 2, 3 and 6, three activations, two losses."""
    for dtype, depth, activation, loss in itertools.product(
        dtypes, SIZES, ACTIVATIONS, ("cross_entropy", "mse")
    ):
        yield Case(activation, depth, loss, dtype=dtype, **kwargs)


def places(depth):
    """Each layer by itself, and all of them."""
    numbers = range(1, depth + 2)
    return [*((l,) for l in numbers), tuple(numbers)]


# --- the census -----------------------------------------------------------------------------------


def outcome(case, plant, layers):
    """What became of one plant: None where it cannot be made or changes no number.

    "named": caught, and among the mistakes named at its layers; "unknown": caught, none named;
    "wrong": caught, others named; "missed": not caught.
    """
    J, params, X, Y = case.problem()
    try:
        planted = student(case.activation, case.loss, plant, layers)(params, X, Y)
    except ValueError:  # shapes that do not go together
        return None
    right = student(case.activation, case.loss)(params, X, Y)
    touched = effective(case, plant, layers, planted, right)
    if not touched:
        return None
    candidate = student(case.activation, case.loss, plant, layers)
    certificate = jaxmlp.check_grads(candidate, J, params, X, Y)
    if certificate.passed:
        return "missed"
    if not certificate.diagnoses:
        return "unknown"
    named = [d for d in certificate.diagnoses if d.mistake == plant.split()[0]]
    anywhere = named and plant in WHOLE
    return "named" if anywhere or any(set(d.layers) == touched for d in named) else "wrong"


def outcome_of_two(case, first, second):
    """The same for two plants at once, (plant, layers) each: named if both are, in this order."""
    J, params, X, Y = case.problem()
    candidate = student(case.activation, case.loss, *first, also=(second,))
    try:
        candidate(params, X, Y)
    except ValueError:
        return None
    certificate = jaxmlp.check_grads(candidate, J, params, X, Y)
    if certificate.passed:
        return "missed"
    if not certificate.diagnoses:
        return "unknown"
    pairs = (certificate.diagnoses, first), (certificate.further, second)
    is_named = [plant.split()[0] in {d.mistake for d in found} for found, (plant, _) in pairs]
    return "named" if all(is_named) else "half" if any(is_named) else "wrong"


def effective(case, plant, layers, planted, right):
    """The layers in which the plant makes a difference; empty where the numbers stay right."""
    limit = 1e-9 if case.dtype == np.float64 else 1e-4
    in_columns = plant == "transposed" and same([(W.T, b) for W, b in planted], right, limit)
    if in_columns or same(planted, right, limit):
        return set()
    _, params, X, Y = case.problem()
    alone = {l: student(case.activation, case.loss, plant, (l,)) for l in layers}
    return {l for l, one in alone.items() if not same(one(params, X, Y), right, limit)}


def same(a, b, limit):
    pairs = [pair for one, other in zip(a, b, strict=True) for pair in zip(one, other, strict=True)]
    return all(
        x.shape == y.shape and np.abs(x - y).max() <= limit * np.abs(y).max() for x, y in pairs
    )


def census(some_cases, plants=PLANTS, where=places):
    """Counter of outcomes by plant."""
    found = collections.defaultdict(collections.Counter)
    failures = []
    for case in some_cases:
        for plant, layers in itertools.product(plants, where(case.depth)):
            result = outcome(case, plant, layers)
            found[plant][result] += 1
            if result in ("missed", "wrong", "unknown"):
                failures.append((result, plant, layers, case))
    return found, failures


# --- right gradients ------------------------------------------------------------------------------


def honest_cases(seeds=11):
    """Right gradients of networks fresh and trained, one sample included: 528 by default."""
    kinds = itertools.product(ACTIVATIONS, SIZES, ("cross_entropy", "mse"))
    for number, (activation, depth, loss) in enumerate(kinds):
        for m in (1, 40) if number % 3 == 0 else (40,):
            for seed, dtype in itertools.product(range(seeds), (np.float32, np.float64)):
                steps = (0, 0, 30, 300, 3000)[seed % 5]
                yield Case(activation, depth, loss, m, seed, dtype, steps)


def alarm(case):
    """The certificate of a right gradient, by the student or by jaxmlp, if it does not pass."""
    J, params, X, Y = case.problem()
    candidate = student(case.activation, case.loss) if case.seed % 2 else jaxmlp.grad(J)
    with jax.enable_x64(case.dtype == np.float64):
        certificate = jaxmlp.check_grads(candidate, J, params, X, Y)
    return None if certificate.passed else certificate


def main():
    print("right gradients")
    count, alarms = 0, []
    for key, group in itertools.groupby(honest_cases(), key=lambda case: case[:4]):
        for case in group:
            count += 1
            if (certificate := alarm(case)) is not None:
                alarms.append(case)
                print(case, certificate, sep="\n")
        jax.clear_caches()
        print(*key, count, flush=True)
    print(f"{len(alarms)} false alarms in {count}\n\nplanted mistakes")
    found, failures = census(cases())
    for plant, counts in found.items():
        print(f"{plant:28}", dict(counts))
    print(dict(sum(found.values(), collections.Counter())), *failures, sep="\n")


if __name__ == "__main__":
    main()
