"""Measure at birth, train, draw."""

import experiments.ten_thousand_layers
from experiments import common
from experiments.ten_thousand_layers.options import Config, check


def main(config: Config) -> None:
    from experiments.ten_thousand_layers import figures, measured

    check(config)
    X, Y = common.digits(config.num_samples)
    J = measured.objective(config)
    with common.Results("ten_thousand_layers", config) as results:
        flows, lost, params = measured.at_birth(config, J, X[: config.batch_size],
                                                Y[: config.batch_size])  # fmt: skip
        results.csv(lost, "_birth")
        common.table("At birth, log10 of the dZ norm", lost)
        with common.progress("training") as report:
            history, steps, seconds = measured.trained(config, J, params, X, Y, report)
        rows = measured.summary(config, J, history, steps, seconds)
        results.csv(rows)
        with results.path("_panel.csv") as path:
            history.record.to_csv(path)
        common.table(f"Training of {config.depth:,} layers", rows)
        results.figure(figures.birth_and_learning(config, flows, history, steps // config.epochs))
        results.figure(figures.panel(history), "_panel")


if __name__ == "__main__":
    smoke = {"depth": 100, "width": 16, "num_samples": 64, "epochs": 2, "batch_size": 32,
             "save_all": True}  # fmt: skip
    common.run(main, common.parse(Config, experiments.ten_thousand_layers.__doc__, **smoke))
