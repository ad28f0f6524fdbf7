"""Train, print the tables, draw the figures."""

import experiments.spiral
from experiments import common
from experiments.spiral.options import Config, check


def main(config: Config) -> None:
    import jax

    from experiments.spiral import figures, lecture, networks

    check(config)
    with jax.enable_x64(True), common.Results("spiral", config) as results:
        data = networks.samples(config)
        shape_rows, shape_lines = lecture.shapes(data, config.seed)
        common.table("E1  Shapes in (2, 4, 3)", shape_rows)
        print(*shape_lines, "", sep="\n")
        trained = networks.train(config, data)
        rows = [lecture.summary(network, data) for network in trained]
        results.csv(rows)
        common.table(f"C1-C3  After {config.num_steps:,} steps", rows)
        print(*lecture.statements(trained, data), sep="\n")
        results.figure(figures.regions(trained, data))
        results.figure(figures.curves(trained), "_training")


if __name__ == "__main__":
    common.run(main, common.parse(Config, experiments.spiral.__doc__, num_steps=200, width=20))
