"""Measure, print the tables, draw the figures."""

import experiments.depth_sweep
from experiments import common
from experiments.depth_sweep.options import Config, check


def main(config: Config) -> None:
    from experiments.depth_sweep import figures, measured, theory

    check(config)
    if config.dry_run:
        print(measured.plan(config))
        return
    with common.Results("depth_sweep", config, measured.go_on(config)) as results:
        table = measured.measure(config)
        with results.path(".csv") as path:
            table.to_csv(path)
        if config.html:
            with results.path(".html") as path:
                table.to_html(path, title="Depth sweep", provenance=results.provenance())
        rows = table.summary(config.vanishing, config.exploding, over_seeds=True)
        tell(config, rows)
        print(*measured.statements(config), sep="\n")
        if compared := theory.against_theory(config):
            results.csv([row for c in compared for row in theory.all_layers(c)], "_theory")
            tell_theory(config, [theory.first_layer(c) for c in compared])
            results.figure(figures.beside_theory(config, compared), "_theory")
        if unknown := [init for init in config.inits if init not in theory.known(config)]:
            print(
                f"\nLeft out of the theory, which needs independent weights: {', '.join(unknown)}"
            )
        results.figure(figures.lines(table, rows))
        if max(config.depths) > 1:
            results.figure(figures.decades(config, table), "_decades")
        results.figure(figures.histograms(config), "_histograms")


def tell(config: Config, rows: common.Rows) -> None:
    said = {"width", *(name for name in ("residual", "norm") if not any(r.get(name) for r in rows))}
    shown = [{name: row[name] for name in row if name not in said} for row in rows]
    norm = "dZ" if "residual" in said else "dS"
    common.table(f"Per-sample {norm} norm from the last hidden layer to the first", shown)
    print(
        "\nverdict: by 10^log10_change, the norm at the first hidden layer over that at the last; "
        f"vanishing below {config.vanishing:g}, exploding above {config.exploding:g}.\n"
        f"Medians over {config.num_seeds} seeds, width {config.width}, "
        f"{config.num_samples} digits.\n"
    )


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
