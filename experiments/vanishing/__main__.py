"""Measure, print the tables, draw the figures."""

import experiments.vanishing
from experiments import common
from experiments.vanishing.options import Config, check


def main(config: Config) -> None:
    from experiments.vanishing import claims, figures, measured, report

    check(config)
    with common.Results("vanishing", config) as results:
        m = measured.measure(config, results)
        told = claims.claims(m)
        results.csv(told, "_claims")
        report.tell(config, m, told)
        results.figure(figures.draw_products(m))
        results.figure(figures.draw_bits(m.bits), "_bits")
        results.figure(figures.draw_training(config, m), "_training")
        results.figure(figures.draw_activations(m), "_activations")
        results.figure(figures.draw_dead(m), "_dead")


if __name__ == "__main__":
    smoke = {
        "depth": 5, "width": 8, "num_samples": 50, "step_depths": (3,), "num_steps": 20,
        "race_rates": (0.1,), "race_epochs": (3, 3), "train_depths": (3,), "train_rates": (0.1,),
        "train_epochs": 2,
        "num_seeds": 1,
    }  # fmt: skip
    common.run(main, common.parse(Config, experiments.vanishing.__doc__, **smoke))
