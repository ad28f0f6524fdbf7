"""Walk the network of the options and that of the lecture, print the tables, draw the paths."""

import experiments.chain_rule
from experiments import common
from experiments.chain_rule.options import Config


def main(config: Config) -> None:
    import jax

    from experiments.chain_rule import (
        figures,
        html,
        intermediates,
        lecture,
        networks,
        paths,
        report,
    )

    with jax.enable_x64(True):
        chosen = paths.chain(networks.problem(config), config.weight)
        with common.Results("chain_rule", config) as results:
            taught = lecture.chain_of("W11")
            sections = [
                intermediates.section(chosen, intermediates.on_all_samples(config)),
                paths.section(chosen),
                intermediates.section(taught, lecture.values(taught.p)),
                paths.section(taught),
                lecture.chains(),
                lecture.conventions(),
                lecture.softmax_jacobian(),
            ]
            results.csv(sections[0].rows)
            results.csv(sections[1].rows, "_paths")
            for section in sections:
                (report.print_latex if config.latex else report.print_plain)(section)
            if config.html:
                tabs = {"the network": chosen.p, "the lecture's sigmoid network": taught.p}
                made = html.chain_rule_page(tabs, str(chosen.weight).replace(" ", ""),
                                            results.provenance())  # fmt: skip
                with results.path(".html") as path:
                    path.write_text(made, encoding="utf-8")
            for suffix, chain in (("", chosen), ("_lecture", taught)):
                try:
                    results.figure(figures.draw(chain), suffix)
                except ValueError as refusal:
                    print(f"not drawn: {refusal}")


if __name__ == "__main__":
    common.run(main, common.parse(Config, experiments.chain_rule.__doc__, sizes=(2, 3)))
