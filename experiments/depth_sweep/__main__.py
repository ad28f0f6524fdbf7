"""Measure, print the tables, draw the figures."""

from concurrent.futures import ThreadPoolExecutor

import experiments.depth_sweep
from experiments import common
from experiments.depth_sweep.options import Config, check

RULE = """
verdict: healthy while the norm of {norm} changes by less than 2 decades from the last hidden layer
to the first, or by a factor of {low:g} to {high:g} a layer; else vanishing or exploding.
as predicted: within 3 sd of what mean field predicts for one input at this width.
Medians over {seeds} seeds, {samples} digits; sd: of one network, predicted.
"""


def main(config: Config) -> None:
    from experiments.depth_sweep import figures, measured, theory

    check(config)
    if config.dry_run:
        print(measured.plan(config))
        return
    parts = config.only
    with common.Results("depth_sweep", config, measured.go_on(config)) as results:
        # Programs are compiled side by side; the sweep itself reports from this thread
        pool = ThreadPoolExecutor()
        lost = pool.submit(theory.lost_by_depth, config) if "sweep" in parts else None
        ones = pool.submit(theory.sweep, config, 1) if "theory" in parts else None
        twos = pool.submit(theory.sweep, config, 2) if "theory" in parts else None
        said = pool.submit(measured.statements, config) if "lecture" in parts else None
        if lost is not None:
            table = measured.measure(config)
            with results.path(".csv") as path:
                table.to_csv(path)
            if config.html:
                with results.path(".html") as path:
                    table.to_html(path, title="Depth sweep", provenance=results.provenance())
            rows = table.summary(config.vanishing, config.exploding, over_seeds=True)
            tell(config, theory.judge(rows, lost.result()))
            if max(config.depths) > 1:
                results.figure(figures.lost(config, table, lost.result()), "_lost")
                results.figure(figures.decades(config, table), "_decades")
        if said is not None:
            print(*said.result(), sep="\n")
        if ones is not None and twos is not None and theory.known(config):
            compared = theory.against_theory(config, ones.result(), twos.result())
            results.csv([row for c in compared for row in theory.all_layers(c)], "_theory")
            tell_theory(config, [theory.first_layer(c) for c in compared])
            results.figure(figures.hero(config, compared))
            results.figure(figures.beside_theory(config, compared), "_theory")
        if unknown := [init for init in config.inits if init not in theory.known(config)]:
            print(
                f"\nLeft out of the theory, which needs independent weights: {', '.join(unknown)}"
            )
        if "histograms" in parts:
            results.figure(figures.histograms(config), "_histograms")


def tell(config: Config, rows: common.Rows) -> None:
    remedied = any(row["residual"] or row["norm"] for row in rows)
    names = ["activation", "init", "depth", *(("residual", "norm") if remedied else ())]
    names += ["log10_change", "factor_per_layer", "predicted", "sd", "verdict"]
    shown = [{name: row[name] for name in names} for row in rows]
    norm = "dS" if remedied else "dZ"
    common.table(f"Per-sample {norm} norm from the last hidden layer to the first", shown)
    print(
        RULE.format(
            norm=norm, low=config.vanishing, high=config.exploding, seeds=config.num_seeds,
            samples=config.num_samples,
        )
    )  # fmt: skip


def tell_theory(config: Config, rows: common.Rows) -> None:
    common.table("\nMean field against measurement", rows)
    print(
        "\npredicted, measured: log10 of the norm of dZ at the first layer over that at the\n"
        f"output, mean of {config.theory_nets} networks of width {config.width} with one output "
        "and one digit;\nz: their difference in standard errors, and the largest |z| of all layers."
    )


if __name__ == "__main__":
    smoke = {
        "depths": (2, 5), "num_seeds": 1, "width": 16, "num_samples": 32, "theory_depth": 5,
        "theory_nets": 3,
    }  # fmt: skip
    common.run(main, common.parse(Config, experiments.depth_sweep.__doc__, **smoke))
