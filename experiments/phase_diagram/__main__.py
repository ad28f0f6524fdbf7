"""Measure, print the table, draw the plane."""

import experiments.phase_diagram
from experiments import common
from experiments.phase_diagram.options import Config, check

NOTE = "sigma_b2 = 0 and 0.05; lecun, he: sqrt(chi_1) at the fixed point, without biases."


def main(config: Config) -> None:
    from experiments.phase_diagram import figures, measured

    check(config)
    with common.Results("phase_diagram", config) as results:
        if config.table:
            rows = measured.criticality()
            results.csv(rows, "_table")
            common.table("Where gradients keep their size, chi_1 = 1; norm factor of a layer", rows)
            print(NOTE)
            return
        diagram, rows = measured.plane(config), measured.measure(config)
        results.csv(rows)
        common.table(f"chi_1 of {config.activation}, predicted and measured", rows)
        results.figure(figures.draw(config, diagram, rows))


if __name__ == "__main__":
    smoke = {"points": 6, "dots": 2, "depth": 6, "width": 16, "num_nets": 1}
    common.run(main, common.parse(Config, experiments.phase_diagram.__doc__, **smoke))
