"""Measure gradients at birth, train, print the table, draw the figure."""

from concurrent import futures

import experiments.remedies
from experiments import common
from experiments.remedies.options import Config, check


def main(config: Config) -> None:
    from experiments.remedies import birth, figures, training
    from experiments.remedies.kinds import kinds_of

    check(config)
    kinds = kinds_of(config.activations, config.cures)
    with common.Results("remedies", config) as results:
        # Two threads: much of the work is compiling, which releases Python's GIL
        with common.progress("kinds of networks") as report, futures.ThreadPoolExecutor(2) as pool:
            measured = [pool.submit(birth.born, config, kind) for kind in kinds]
            fitted = [pool.submit(training.trained, config, kind) for kind in kinds]
            rows = []
            for done, future in enumerate(measured, start=1):
                future.result()
                report(done, 2 * len(kinds))
            found = [future.result() for future in measured]
            results.csv(birth.rows(found), "_birth")
            for done, future in enumerate(fitted, start=1 + len(kinds)):
                rows += future.result()
                results.csv(rows, "_trained")
                report(done, 2 * len(kinds))
        table = [summary(b, own.result()) for b, own in zip(found, fitted, strict=True)]
        results.csv(table)
        common.table(f"{config.depth} layers of {config.width} units: what cures them?", table)
        print(NOTE)
        results.figure(figures.cures(config, found, table))


def summary(b, rows: common.Rows) -> dict:
    """Return the numbers of one kind."""
    import numpy as np

    from experiments.remedies.training import best

    rate, accuracies = best(rows)
    predicted = b.predicted.mean if b.predicted else [np.nan] * 2
    return {
        "activation": b.kind.activation,
        "init": b.kind.init,
        "cure": b.kind.cure,
        "decades at birth": b.change,
        "predicted": float(predicted[0] - predicted[-2]),
        "largest |z|": float(np.abs(b.z).max()) if b.predicted else np.nan,
        "best rate": rate,
        "accuracy": float(np.mean(accuracies)),
        "lowest": min(accuracies),
        "highest": max(accuracies),
    }


NOTE = """
decades at birth: log10 of |dS| at the first hidden layer over that at the last, mean of networks
with one output and one digit; predicted: mean-field theory at that width; z: its distance from the
measured mean in standard errors, largest of all layers.
accuracy: on the digits that were trained on, in the last epoch, with the best learning rate: mean,
lowest and highest of the seeds."""


if __name__ == "__main__":
    smoke = {
        "activations": ("relu",), "cures": ("residual 1/sqrt(depth)", "layer norm"), "depth": 5,
        "width": 8, "num_nets": 2, "num_seeds": 1, "learning_rates": (0.01, 0.1),
        "num_samples": 32, "epochs": 2,
    }  # fmt: skip
    common.run(main, common.parse(Config, experiments.remedies.__doc__, **smoke))
