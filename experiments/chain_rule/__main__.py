"""Walk the network of the options and that of the lecture, print the tables, draw the paths."""

import dataclasses

import experiments.chain_rule
from experiments import common
from experiments.chain_rule import figures, intermediates, lecture, paths, report
from experiments.chain_rule.networks import Config, problem


def main(config: Config) -> None:
    import jax
    import matplotlib

    matplotlib.use("Agg")
    with jax.enable_x64(True):
        chosen, taught = paths.chain(problem(config), config.weight), lecture.chain_of("W11")
        sections = [
            intermediates.section(chosen, intermediates.on_all_samples(config)),
            paths.section(chosen),
            intermediates.section(taught, lecture.values(taught.p)),
            paths.section(taught),
            lecture.chains(),
            lecture.conventions(),
            lecture.softmax_jacobian(),
        ]
    for section in sections:
        (report.print_latex if config.latex else report.print_plain)(section)

    results = common.Results("chain_rule", config)
    results.csv(sections[0].rows)
    results.csv(sections[1].rows, "_paths")
    for suffix, chain in (("", chosen), ("_lecture", taught)):
        try:
            results.figure(figures.draw(chain), suffix, dpi=120)
        except ValueError as refusal:
            print(f"not drawn: {refusal}")
    results.close()


if __name__ == "__main__":
    config = common.parse(Config, experiments.chain_rule.__doc__)
    if config.smoke:
        config = dataclasses.replace(config, sizes=(2, 3))
    common.run(main, config)
