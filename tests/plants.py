"""A student's backward pass in NumPy, with a mistake planted where one is wanted, and the census of
what the certificate says of it, and of right ones. `python tests/plants.py` runs both in full, in a
quarter of an hour.

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
    "extra_l2", "transposed dA",
)  # fmt: skip
PLANTS = (
    *(f"{factor} {place}" for factor in FACTORS for place in ("dW", "db", "dW db", "dZ")),
    *STEPS,
)


def softmax(Z):
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


def student(activation, loss, plant=None, layers=(), rate=0.3, decay=0.1):
    """A candidate in NumPy: a list of (dW, db), for "cross_entropy" or "mse" behind a softmax."""
    act, derivative = ACTIVATIONS[activation]

    def candidate(params, X, Y):
        Ws, bs = ([None, *map(np.asarray, xs)] for xs in list(zip(*params, strict=True))[:2])
        L, A, Z = len(params), [np.asarray(X)], [None]
        for l in range(1, L + 1):
            Z.append(A[l - 1] @ Ws[l] + bs[l])
            A.append(softmax(Z[l]) if l == L else act(Z[l]))
        m, K = A[L].shape
        Y = np.asarray(Y).astype(A[L].dtype)

        def made(what, l):
            return what == plant and l in layers

        def times(x, l, array):
            factor, _, places = (plant or "").partition(" ")
            wanted = l in layers and factor in FACTORS and array in places.split()
            return x * x.dtype.type(FACTORS[factor](m, K)) if wanted else x

        grads, dA = [], None
        for l in range(L, 0, -1):
            if l == L:
                dZ = at_output(A[L], Y, loss, lambda what: made(what, L))
            else:
                slope = derivative(A[l] if made("derivative_at_A", l) else Z[l])
                if made("wrong_gate", l):
                    slope = derivative(Z[l + 1 if l + 1 < L else l - 1])
                dZ = dA if made("no_derivative", l) else dA * slope
            dZ = times(dZ, l, "dZ")
            dW = A[l if made("wrong_A", l) else l - 1].T @ dZ / m
            db = dZ if made("bias_not_summed", l) else dZ.mean(axis=0)
            db = dZ.mean(axis=1) if made("bias_wrong_axis", l) else db
            dA = dZ @ (Ws[l] - rate * dW if made("updated_W", l) else Ws[l]).T
            if made("transposed dA", l):
                dA = dZ @ Ws[l]
            dW = dW + decay * Ws[l] if made("extra_l2", l) else dW
            dW = dW.T if made("transposed", l) else dW
            grads.append((times(dW, l, "dW"), times(db, l, "db")))
        return grads[::-1]

    return candidate


def at_output(A, Y, loss, made):
    def through_softmax(dA):
        return A * (dA - (A * dA).sum(axis=1, keepdims=True))

    if made("diagonal_jacobian"):
        return (-Y / A if loss == "cross_entropy" else 2 * (A - Y)) * A * (1 - A)
    plain = (loss == "cross_entropy") != made("wrong_loss_gradient")
    return A - Y if plain else through_softmax(2 * (A - Y))


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
    mistake = plant.split()[0]
    named = [d for d in certificate.diagnoses if d.mistake == mistake]
    return "named" if any(set(d.layers) == touched for d in named) else "wrong"


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
