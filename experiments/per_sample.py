"""Do the samples with the largest gradients have wrong labels, and is it good to drop them?

A share of the training labels is flipped. Scores of every sample, read off the hand-written
backward pass, are to find them; training on the samples that a score keeps tells what it is worth.
GraNd is the norm of a sample's gradient over all parameters, EL2N that of its softmax error a - y,
both averaged over networks.

M. Paul, S. Ganguli, G. Dziugaite, "Deep learning on a data diet: finding important examples early
in training", 2021. A. Kirsch, "Does 'Deep learning on a data diet' reproduce? Overall yes, but
GraNd at initialization does not", 2023.
"""

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import common

KEEP = ("hardest", "easiest")


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the search for flipped labels."""

    mnist: Path | None = None
    """folder with the IDX files of MNIST, to use it instead of scikit-learn's digits"""
    num_train: int | None = None
    """training samples to use, drawn at random; None for all (of MNIST, hours)"""
    flipped: float = 0.05
    """share of the training labels that are flipped to another class"""
    num_networks: int = 10
    """networks that a score is averaged over"""
    score_epoch: int = 10
    """epochs of training after which samples are scored; once more at epoch 0"""
    epochs: int = 50
    """epochs of training on all samples; on fewer samples there are as many steps"""
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 0.95)
    """shares of the training samples to keep"""
    num_seeds: int = 5
    """repetitions, each with its own flipped labels, networks and (digits) test set"""
    width: int = 64
    """units in each of the two hidden layers"""
    batch_size: int = 128
    """samples for each step"""
    learning_rate: float = 0.05
    """of gradient descent with momentum 0.9"""


def main(config: Config) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from jaxmlp import plotting

    plt.rcParams["axes.titlesize"] = 10
    check(config)
    runs = []
    with common.progress("repetitions") as report:
        for number in range(config.num_seeds):
            runs.append(repetition(config, number))
            report(number + 1, config.num_seeds)
    rows = pruning(config, runs)
    lines = summary(config, runs, rows)
    common.table(f"Finding {config.flipped:.0%} flipped labels: medians over repetitions", lines)
    print("", *statements(config, runs, rows), sep="\n")

    results = common.Results("per_sample", config)
    results.csv(lines)
    results.csv(rows, "_pruning")
    results.figure(figure_flipped(config, runs, plt, plotting), "_flipped")
    results.figure(figure_training(config, runs, plt, plotting), "_training")
    results.figure(figure_pruning(rows, plt, plotting), "_pruning")
    results.figure(figure_digits(config, runs[0], plt, plotting), "_digits")
    results.close()


def check(config: Config) -> None:
    """Refuse options that cannot be met."""
    from jaxmlp import checks

    for name in ("num_networks", "score_epoch", "num_seeds", "width", "batch_size"):
        checks.integer(name, getattr(config, name), at_least=1)
    checks.integer("epochs", config.epochs, at_least=config.score_epoch)
    for name, share in [("flipped", config.flipped), *(("shares", s) for s in config.shares)]:
        if not 0 < share < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {share}")


# --- data -----------------------------------------------------------------------------------------


def split(config: Config, key, rng):
    """(train, test), pixels in [0, 1]."""
    from jaxmlp import datasets

    if config.mnist is None:
        train, test = datasets.train_test_split(datasets.digits(), key=key)
    else:
        train, test = (datasets.mnist(config.mnist, part) for part in ("train", "test"))
    if config.num_train is None:
        return train, test
    if not 100 <= config.num_train <= len(train.Y):
        raise ValueError(f"num_train must lie in 100..{len(train.Y)}, got {config.num_train}")
    rows = rng.permutation(len(train.Y))[: config.num_train]
    return train._replace(X=train.X[rows], Y=train.Y[rows]), test


def flip(Y, share: float, num_classes: int, rng):
    """Labels with a share of them moved to any other class; and which."""
    n, flipped = round(share * len(Y)), np.zeros(len(Y), bool)
    if n == 0:
        raise ValueError(f"a share of {share} flips none of {len(Y)} labels")
    flipped[rng.choice(len(Y), n, replace=False)] = True
    shift = np.where(flipped, rng.integers(1, num_classes, len(Y)), 0)
    return ((Y + shift) % num_classes).astype(Y.dtype), flipped


# --- scores ---------------------------------------------------------------------------------------


class Watched(NamedTuple):
    """What is seen of n networks in training, at epochs t = 0, 1, ...

    layer_norms (t, m, L), grand, el2n, loss (t, m): means over the networks. noise (n, t).
    """

    layer_norms: Any
    grand: Any
    el2n: Any
    loss: Any
    noise: Any


class Run(NamedTuple):
    """One repetition. pixels: of train, as they were; Y: the labels given."""

    train: Any
    test: Any
    pixels: Any
    Y: Any
    flipped: Any
    watched: Watched
    scores: dict
    key: Any


def objective(config: Config, train):
    import jaxmlp

    sizes = (train.X.shape[1], config.width, config.width, train.num_classes)
    return jaxmlp.Objective(jaxmlp.MLP(sizes, hidden="relu"), "cross_entropy")


@functools.cache  # one object, so that nothing is compiled twice
def optimizer(learning_rate: float):
    import optax

    return optax.sgd(learning_rate, momentum=0.9)


@functools.cache
def observer(J):
    """The compiled `observe(params, X, Y)` -> Watched of one network at one moment; one walk."""
    import jax

    import jaxmlp
    from jaxmlp import numerics

    def error(A, dZ, layer):
        return numerics.norm(dZ, axis=1)  # at the output dZ is the softmax error a - y

    read = jaxmlp.instruments(J, ("per_sample_norms", "noise_scale", error))

    def observe(params, X, Y):
        _, seen = read(params, X, Y)
        norms, noise = seen["per_sample_norms"], seen["noise_scale"].simple
        loss = jax.vmap(J, (None, 0, 0))(params, X[:, None], Y[:, None])
        return Watched(norms, numerics.norm(norms, axis=1), seen["error"][-1], loss, noise)

    return jax.jit(observe)


def start(J, key):
    """A network's parameters, and the key of the order in which it meets the samples."""
    import jax

    for_params, for_order = jax.random.split(key)
    return J.mlp.init(for_params, "he"), for_order


def watch(config: Config, J, X, Y, key) -> Watched:
    """Train networks, and look at every sample before the first epoch and after each."""
    import jax

    import jaxmlp

    networks = []
    for i in range(config.num_networks):
        params, for_order = start(J, jax.random.fold_in(key, i))
        first = observer(J)(params, X, Y)
        _, history = jaxmlp.fit(
            J, params, X, Y, optimizer=optimizer(config.learning_rate), record=observer(J),
            epochs=config.epochs, batch_size=config.batch_size, key=for_order,
        )  # fmt: skip
        networks.append(jax.tree.map(lambda a, b: np.stack([a, *b]), first, history.record))
    seen = jax.tree.map(lambda *xs: np.stack(xs), *networks)
    return jax.tree.map(lambda x: x.mean(axis=0), seen)._replace(noise=seen.noise)


def repetition(config: Config, number: int) -> Run:
    """Draw the data, flip labels, train and score."""
    import jax

    from jaxmlp import datasets

    rng = np.random.default_rng([config.seed, number])
    key = jax.random.fold_in(jax.random.key(config.seed), number)
    for_split, for_networks, for_pruned = jax.random.split(key, 3)
    raw, test = split(config, for_split, rng)
    train, test = datasets.standardize(raw, test)
    Y, flipped = flip(train.Y, config.flipped, train.num_classes, rng)
    J, epoch = objective(config, train), config.score_epoch
    watched = watch(config, J, train.X, Y, for_networks)
    scores = {
        "GraNd, epoch 0": watched.grand[0],
        f"GraNd, epoch {epoch}": watched.grand[epoch],
        f"EL2N, epoch {epoch}": watched.el2n[epoch],
        f"loss, epoch {epoch}": watched.loss[epoch],
        "random": rng.random(len(Y)),
    }
    return Run(train, test, raw.X, Y, flipped, watched, scores, for_pruned)


# --- pruning --------------------------------------------------------------------------------------


def kept(score, share: float, keep: str):
    """The rows with the highest ("hardest") or lowest ("easiest") scores, in their own order."""
    n = round(share * len(score))
    if n == 0:
        raise ValueError(f"a share of {share} keeps none of {len(score)} samples")
    order = np.argsort(score, kind="stable")
    return np.sort(order[-n:] if keep == "hardest" else order[:n])


def accuracy(config: Config, run: Run, rows) -> float:
    """Test accuracy after training on these rows, in as many steps as all of them would take."""
    import jaxmlp

    J = objective(config, run.train)
    params, for_order = start(J, run.key)
    steps, per_epoch = (-(-n // config.batch_size) for n in (len(run.Y), len(rows)))
    params, _ = jaxmlp.fit(
        J, params, run.train.X[rows], run.Y[rows], optimizer=optimizer(config.learning_rate),
        epochs=round(config.epochs * steps / per_epoch), batch_size=config.batch_size,
        key=for_order,
    )  # fmt: skip
    return float((J.mlp.apply(params, run.test.X).argmax(axis=1) == run.test.Y).mean())


def pruning(config: Config, runs: list[Run]) -> list[dict]:
    """A row for each repetition, score, direction and share; share 1 is all samples."""
    rows = []
    with common.progress("trainings") as report:
        for seed, run in enumerate(runs):
            on_all = accuracy(config, run, np.arange(len(run.Y)))
            for score, keep in itertools.product(run.scores, KEEP):
                cell = {"seed": seed, "score": score, "keep": keep}
                for share in config.shares:
                    on_share = accuracy(config, run, kept(run.scores[score], share, keep))
                    rows.append({**cell, "share": share, "accuracy": on_share})
                rows.append({**cell, "share": 1.0, "accuracy": on_all})
            report(seed + 1, len(runs))
    return rows


# --- what it says ---------------------------------------------------------------------------------


def average_precision(flipped, score) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(flipped, score))


def precisions(runs: list[Run], score: str) -> list[float]:
    """Average precision of a score in finding the flipped labels, one for each repetition."""
    return [average_precision(run.flipped, run.scores[score]) for run in runs]


def reached(rows: list[dict], **cell) -> list[float]:
    """The accuracies of a cell, one for each repetition."""
    return [r["accuracy"] for r in rows if all(r[name] == cell[name] for name in cell)]


def summary(config: Config, runs: list[Run], rows: list[dict]) -> list[dict]:
    """A row for each score; medians over the repetitions."""
    table = []
    for score in runs[0].scores:
        top = [r.flipped[kept(r.scores[score], config.flipped, "hardest")].mean() for r in runs]
        found = precisions(runs, score)
        line = {
            "score": score,
            "average precision": float(np.median(found)),
            "lowest": min(found),
            f"precision in top {config.flipped:.0%}": float(np.median(top)),
        }
        ends = sorted({min(config.shares), max(config.shares)})
        for keep, share in itertools.product(KEEP, ends):
            cell = reached(rows, score=score, keep=keep, share=share)
            line[f"accuracy, {keep} {share:.0%}"] = float(np.median(cell))
        table.append(line)
    return table


def statements(config: Config, runs: list[Run], rows: list[dict]) -> list[str]:
    correlations, owned = [], []
    for run in runs:
        size = np.linalg.norm(run.train.X, axis=1)
        correlations.append(np.corrcoef(run.watched.grand[0], size)[0, 1])
        squares = run.watched.grand[config.score_epoch] ** 2
        owned.append(squares[run.flipped].sum() / squares.sum())
    clean = [accuracy(config, run, np.flatnonzero(~run.flipped)) for run in runs]
    return [
        f"{len(runs[0].Y)} training samples, {runs[0].flipped.sum()} flipped; scores average "
        f"{config.num_networks} networks; {len(runs)} repetitions.",
        f"Test accuracy: {np.median(reached(rows, share=1.0)):.3f} with all samples, "
        f"{np.median(clean):.3f} without those whose label is flipped.",
        f"GraNd at epoch 0 and the norm of the input: correlation {np.median(correlations):.2f}.",
        f"Of the squared GraNd at epoch {config.score_epoch}, the flipped samples hold "
        f"{np.median(owned):.0%}.",
    ]


# --- figures --------------------------------------------------------------------------------------


def figure_flipped(config: Config, runs: list[Run], plt, plotting):
    """Precision and recall of each score; average precision through the epochs."""
    from sklearn.metrics import precision_recall_curve

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.2), layout="constrained")
    curves = {
        f"{score}: {np.median(precisions(runs, score)):.2f}": [
            precision_recall_curve(run.flipped, run.scores[score])[:2] for run in runs
        ]
        for score in runs[0].scores
    }
    plotting.precision_recall(curves, left).get_legend().set_title("average precision")
    before, after = (np.median(precisions(runs, score)) for score in list(runs[0].scores)[:2])
    left.set_title(f"Flipped labels found by GraNd: average precision\n{before:.2f} before "
                   f"training, {after:.2f} after {config.score_epoch} epochs")  # fmt: skip
    history = {
        name: [[average_precision(run.flipped, s) for s in getattr(run.watched, field)]
               for run in runs]
        for name, field in (("GraNd", "grand"), ("EL2N", "el2n"), ("loss", "loss"))
    }  # fmt: skip
    plotting.through_epochs(history, right, colours=plotting.style.COLOURS[1:])
    right.set(ylabel="average precision", ylim=(-0.02, 1.04))
    grand = np.median(history["GraNd"], axis=0)
    right.set_title(f"GraNd finds them best at epoch {grand.argmax()}: {grand.max():.2f};\n"
                    f"at epoch {config.epochs} it is {grand[-1]:.2f}")  # fmt: skip
    return figure


def figure_training(config: Config, runs: list[Run], plt, plotting):
    """The noise scale through the epochs; norms by layer, in the first repetition."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.2), layout="constrained")
    noise = np.concatenate([run.watched.noise for run in runs])
    plotting.through_epochs({f"median and range of {len(noise)} networks": noise}, left)
    left.set(ylabel="simple noise scale (samples)", yscale="log")
    first, last = np.median(noise, axis=0)[[0, -1]]
    left.set_title(f"Noise scale: {first:,.0f} samples before training,\n"
                   f"{last:,.0f} at epoch {config.epochs}")  # fmt: skip
    watched, times = runs[0].watched, sorted({0, config.score_epoch, config.epochs})
    stages = {f"epoch {t}": watched.layer_norms[t] for t in times}
    plotting.norms_by_layer(stages, runs[0].flipped, right)
    return figure


def figure_pruning(rows: list[dict], plt, plotting):
    """Test accuracy against the share of the training samples kept."""
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.2), sharey=True, layout="constrained")
    scores = list(dict.fromkeys(row["score"] for row in rows))
    shares = sorted({row["share"] for row in rows})
    for ax, keep, i in zip(axes, KEEP, (0, -2), strict=True):
        groups = {
            score: np.transpose([reached(rows, score=score, keep=keep, share=s) for s in shares])
            for score in scores
        }
        plotting.bands(shares, groups, ax, marker=".")
        ax.set(xlabel="share of the training samples kept")
        grand, chance = (np.median(groups[score][:, i]) for score in (scores[1], "random"))
        ax.set_title(f"Keep the {keep} {shares[i]:.0%} by {scores[1]}:\n"
                     f"{grand:.1%} right; at random {chance:.1%}")  # fmt: skip
    axes[0].set_ylabel("test accuracy")
    axes[1].get_legend().remove()
    return figure


def figure_digits(config: Config, run: Run, plt, plotting):
    """The 20 samples with the largest gradient, and the 10 largest whose label is true."""
    order = np.argsort(-run.scores[f"GraNd, epoch {config.score_epoch}"], kind="stable")
    shown = np.concatenate([order[:20], order[~run.flipped[order]][:10]])
    framed, side = run.flipped[shown], round(run.pixels.shape[1] ** 0.5)
    captions = [
        f"label {given}" + (f", is {true}" if given != true else "")
        for given, true in zip(run.Y[shown], run.train.Y[shown], strict=True)
    ]
    figure, axes = plt.subplots(3, 10, figsize=(7.8, 3.4), layout="constrained")
    plotting.images(run.pixels[shown].reshape(-1, side, side), axes.flat, captions, framed)
    title = f"Of the 20 digits with the largest gradient, {framed[:20].sum()} have a flipped label"
    figure.suptitle(f"{title} (framed).\nLast row: the largest with a true label", fontsize=10)
    return figure


if __name__ == "__main__":
    config = common.parse(Config, __doc__)
    if config.smoke:
        config = dataclasses.replace(
            config, num_train=256, num_networks=2, score_epoch=2, epochs=4, shares=(0.5,),
            num_seeds=2, width=8,
        )  # fmt: skip
    common.run(main, config)
