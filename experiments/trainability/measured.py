"""The maps. All networks of a depth are trained at once; a column ends at chance."""

import functools
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

import jaxmlp
from experiments import common
from experiments.trainability.options import Config
from jaxmlp import Layer, datasets, meanfield, report
from jaxmlp.initializers import gaussian
from jaxmlp.sweep import pages

CLASSES = 10
CHANCE = 0.2  # an accuracy below it, twice that of guessing, is called chance
KINDS = {
    "tanh": {"hidden": "tanh", "sigma_b2": 0.05},
    "relu": {"hidden": "relu", "sigma_b2": 0.0},
    "residual": {"hidden": "relu", "sigma_b2": 0.0, "residual": "1/sqrt(depth)"},
}


def samples(config: Config):
    """Return X, standardised, and Y."""
    if config.mnist is None:
        return common.digits(config.num_samples)
    (data,) = datasets.standardize(datasets.mnist(config.mnist, "train"))
    return data.X[: config.num_samples], data.Y[: config.num_samples]


def trained_map(config: Config, kind: str, X, Y, report) -> common.Rows:
    """Yield a row for each trained cell; a column ends after two depths at chance."""
    rows, at_chance = [], dict.fromkeys(config.sigma_w2s, 0)
    for done, depth in enumerate(config.depths, start=1):
        live = [w2 for w2 in config.sigma_w2s if at_chance[w2] < 2]
        if live:
            accuracies = train(config, kind, depth, live, X, Y)
            for w2, own in zip(live, accuracies, strict=True):
                at_chance[w2] = at_chance[w2] + 1 if median(own) < CHANCE else 0
                row = {"map": kind, "sigma_w2": w2, "depth": depth, "accuracy": median(own)}
                rows.append(row | {"lowest": min(own), "highest": max(own)})
        report(done, len(config.depths))
    return rows


def train(config: Config, kind: str, depth: int, w2s: list[float], X, Y) -> list[list[float]]:
    """Return the training accuracy of each seed for each variance."""
    # The same normal numbers for every variance
    options = dict(KINDS[kind])
    sigma_b2 = options.pop("sigma_b2")
    sizes = (X.shape[1], *[config.width] * depth, CLASSES)
    J = jaxmlp.Objective(jaxmlp.MLP(sizes, stack_from=1, **options), "cross_entropy")
    seeds = common.seeds(config, config.num_seeds)
    networks = [
        Layer(jnp.concatenate([w2**0.5 * W for w2 in w2s]), jnp.concatenate([b] * len(w2s)))
        for W, b in (unit_normals(run, seeds, sigma_b2) for run in J.mlp.runs)
    ]

    # Train, and classify all samples
    trained, _ = jaxmlp.fit_many(
        J, tuple(networks), X, Y, optimizer=config.learning_rate, num_steps=config.num_steps,
        batch_size=config.batch_size, key=jax.random.key(config.seed),
    )  # fmt: skip
    right = np.asarray(_accuracy(J.mlp, trained, jnp.asarray(X, jnp.float32), jnp.asarray(Y)))
    return right.reshape(len(w2s), len(seeds)).tolist()


def unit_normals(run, seeds: list[int], sigma_b2: float) -> tuple[np.ndarray, np.ndarray]:
    """Return W `(seeds, ...)` at sigma_w2 = 1 and b of a run; layer l is drawn from seed and l."""
    d_in, d_out = run.shape
    numbers = range(run.first, run.first + (run.count or 1))
    drawn = [
        [np.random.default_rng((seed, l)).standard_normal((d_in + 1, d_out), np.float32)
         for l in numbers]
        for seed in seeds
    ]  # fmt: skip
    rows = np.array(drawn) if run.count is not None else np.array(drawn)[:, 0]
    return rows[..., :-1, :] / d_in**0.5, rows[..., -1, :] * sigma_b2**0.5


@functools.partial(jax.jit, static_argnums=0)
def _accuracy(mlp, networks, X, Y):
    """Return the share of X that each network classifies right."""
    one = lambda params: jnp.mean(jnp.argmax(mlp.apply(params, X), axis=1) == Y)  # noqa: E731
    return jax.lax.map(one, networks)


def page(config: Config, rows: common.Rows, X, Y, provenance) -> str:
    """The explorer: the flow of each cell's network at birth, beside the accuracy it came to."""
    accuracy = {(row["map"], row["sigma_w2"], row["depth"]): row["accuracy"] for row in rows}
    networks, flows = [], []
    for kind in config.maps:
        options = KINDS[kind]
        inits = {gaussian(w2, options["sigma_b2"]).name: w2 for w2 in config.sigma_w2s}
        table = jaxmlp.depth_sweep(
            activations=options["hidden"], inits=tuple(inits), depths=config.depths,
            residuals=(options.get("residual"),), width=config.width, seeds=(config.seed,),
            X=X[: config.batch_size], Y=Y[: config.batch_size], num_classes=CLASSES,
        )  # fmt: skip
        for row in table.summary():
            reached = accuracy.get((kind, inits[row["init"]], row["depth"]))
            networks.append({"remedy": pages.remedy(row), **row, "accuracy": reached})
            flows.append(
                table.select(init=row["init"], depth=row["depth"]).columns()["log10_stream"]
            )
    bands = list(pages.predictions(networks))
    return report.explorer(
        networks, flows, bands=bands, beside="init", title="To which depth networks train",
        provenance=provenance,
    )  # fmt: skip


# --- against theory -------------------------------------------------------------------------------


@functools.cache
def xi_c(kind: str, sigma_w2: float) -> float:
    """Return the depth scale of the correlation of two inputs; NaN if no length is fixed."""
    options = KINDS[kind]
    if "residual" in options:
        return np.nan
    try:
        return meanfield.fixed_point(options["hidden"], sigma_w2, options["sigma_b2"]).xi_c
    except ValueError:
        return np.nan


def scales(config: Config, rows: common.Rows) -> common.Rows:
    """Return for each map and variance the depth at which half the samples are right, xi_c."""
    found = []
    for kind in dict.fromkeys(row["map"] for row in rows):
        for w2 in config.sigma_w2s:
            own = [row for row in rows if (row["map"], row["sigma_w2"]) == (kind, w2)]
            half, xi = half_depth(own), xi_c(kind, w2)
            found.append({"map": kind, "sigma_w2": w2, "depth at half": half, "xi_c": xi,
                          "ratio": half / xi})  # fmt: skip
    return found


def half_depth(column: common.Rows) -> float:
    """Return the depth at which the accuracy falls below 0.5; inf if not, 0 if never above."""
    good = [i for i, row in enumerate(column) if row["accuracy"] >= 0.5]
    if not good:
        return 0.0
    last = good[-1]
    if last + 1 == len(column):
        return np.inf
    (d0, a0), (d1, a1) = ((row["depth"], row["accuracy"]) for row in column[last : last + 2])
    return d0 + (d1 - d0) * (a0 - 0.5) / (a0 - a1)


def claims(rows: common.Rows, per_column: common.Rows) -> common.Rows:
    """Return what the map of tanh must show, beside the measured; [] for other grids."""
    own = {row["sigma_w2"]: row for row in per_column if row["map"] == "tanh"}
    # at depth 60; of a column that ended before, its last
    deep = {
        row["sigma_w2"]: row["accuracy"]
        for row in rows
        if row["map"] == "tanh" and row["depth"] <= 60
    }
    off = [own[w2] for w2 in own if w2 != 1.76]
    if len(off) != 8 or 1.76 not in own or 60 not in {row["depth"] for row in rows}:
        return []
    ratios = {w2: own[w2]["ratio"] for w2 in (1.0, 1.25, 2.5, 3.0, 3.5, 4.0)}
    pairs = [row["depth at half"] for row in off], [row["xi_c"] for row in off]
    rank = float(spearmanr(*pairs).statistic)  # pyright: ignore
    told = [
        (f"depth at half / xi_c, sigma_w2 {w2:g}", "3.5 to 10", r, 3.5 <= r <= 10)
        for w2, r in ratios.items()
    ]
    middle = median(ratios.values())
    told += [
        ("their median", "4.5 to 8", middle, 4.5 <= middle <= 8),
        ("rank correlation with xi_c, eight columns", "at least 0.75", rank, rank >= 0.75),
        ("accuracy at depth 60, sigma_w2 1.76", "above 0.75", deep[1.76], deep[1.76] > 0.75),
        ("accuracy at depth 60, sigma_w2 1", "below 0.3", deep[1.0], deep[1.0] < 0.3),
        ("accuracy at depth 60, sigma_w2 4", "below 0.3", deep[4.0], deep[4.0] < 0.3),
    ]
    return [
        {"what": what, "wanted": wanted, "measured": float(number), "holds": str(bool(holds))}
        for what, wanted, number, holds in told
    ]
