"""Measure, print the table, draw the figures."""

import experiments.jacobian
from experiments import common
from experiments.jacobian.options import Config, check

NOTE = """
predicted: for layers of infinite width at this depth, each at its own length; the largest value is
known for layers that are alike. The spread of s^2 is its variance over the square of its mean, over
the spectrum of a network; +- is the standard error over the networks. Single networks of many
layers lie far below: where depth / width is not small the exponents describe them, not the mean.
open: how many singular values are not 0."""


def main(config: Config) -> None:
    from experiments.jacobian import figures, measured

    check(config)
    kinds, found = ("gaussian", "orthogonal"), []
    grid = [(a, w, d) for a in config.activations for d in config.depths for w in kinds]
    with common.Results("jacobian", config) as results, common.progress("networks") as report:
        for done, kind in enumerate(grid, start=1):
            found.append(measured.measure(config, *kind))
            report(done, len(grid))
        rows = [measured.row(m) for m in found]
        results.csv(rows)
        results.csv(measured.all_values(found), "_values")
        common.table(f"Singular values of the Jacobian, width {config.width}", rows)
        print(NOTE)
        results.figure(figures.spectra(config, found))
        results.figure(figures.by_layer(config, found), "_exponents")


if __name__ == "__main__":
    smoke = {"activations": ("linear", "relu"), "depths": (5,), "width": 6, "num_nets": 1}
    common.run(main, common.parse(Config, experiments.jacobian.__doc__, **smoke))
