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
            train = kinds if config.num_seeds else []
            fitted = [pool.submit(training.trained, config, kind) for kind in train]
            rows = []
            for done, future in enumerate(measured, start=1):
                future.result()
                report(done, len(kinds) + len(train))
            found = [future.result() for future in measured]
            results.csv(birth.rows(found), "_birth")
            for done, future in enumerate(fitted, start=1 + len(kinds)):
                rows += future.result()
                results.csv(rows, "_trained")
                report(done, len(kinds) + len(train))
        table = [birth.summary(b) for b in found]
        if train:
            reached = [training.summary(own.result()) for own in fitted]
            table = [row | own for row, own in zip(table, reached, strict=True)]
        results.csv(table)
        common.table(f"{config.depth} layers of {config.width} units: what cures them?", table)
        print(NOTE)
        if train:
            results.figure(figures.cures(config, found, table))


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
