"""Measure the chosen parts, print their tables, keep their numbers."""

import experiments.benchmark
from experiments import common
from experiments.benchmark.options import Config, check


def main(config: Config) -> None:
    from experiments.benchmark import figures, fit, flow, gradient, per_sample, remedies, sweep

    check(config)
    summary: dict[str, float] = {}
    with common.Results("benchmark", config) as results:
        if "gradient" in config.parts:
            rows = results.grow(gradient.gradient_rows(config))
            common.table("Loss and gradient: time by hand / time of", rows)
            left_out = "; ".join(gradient.left_out(config))
            print(f"\nLeft out, because they would take minutes: {left_out}.")
            summary |= gradient.summarize(rows)
        if "remedies" in config.parts:
            rows = remedies.cost_rows(config)
            results.csv(rows, "_remedies")
            common.table("Gradient with a remedy: time by hand / time of", rows)
            summary |= remedies.summarize(rows)
        if "per_sample" in config.parts:
            rows = results.grow(per_sample.cost_rows(config), "_per_sample")
            common.table("Per-sample quantities: time / plain gradient of the same library", rows)
            results.figure(figures.per_sample(rows), "_per_sample")
        ratios = {
            "compile": gradient.compile_ratio, "fit": fit.fit_ratio, "many": fit.many_ratio,
            "flow": flow.flow_ratio, "sweep": sweep.sweep_ratio,
        }  # fmt: skip
        for part in [part for part in ratios if part in config.parts]:
            summary |= ratios[part](config)
            results.csv(in_rows(summary), "_summary")
        if summary:
            common.table("In one number", in_rows(summary))


def in_rows(summary: dict[str, float]) -> common.Rows:
    return [{"what": what, "ratio": ratio} for what, ratio in summary.items()]


if __name__ == "__main__":
    smoke = {"depths": (2, 40), "widths": (16,), "rounds": 3}
    common.run(main, common.parse(Config, experiments.benchmark.__doc__, **smoke))
