"""Measure the chosen parts, print their tables, keep their numbers."""

import dataclasses

import experiments.benchmark
from experiments import common
from experiments.benchmark import fit, flow, gradient, per_sample
from experiments.benchmark.shared import Config


def main(config: Config) -> None:
    results = common.Results("benchmark", config)
    summary: dict[str, float] = {}
    if "gradient" in config.parts:
        rows = gradient.gradient_rows(config)
        common.table("Loss and gradient: time by hand / time of", rows)
        left_out = "; ".join(gradient.left_out(config))
        print(f"\nLeft out, because they would take minutes: {left_out}.")
        results.csv(rows)
        summary |= gradient.summarize(rows)
    if "per_sample" in config.parts:
        rows = per_sample.cost_rows(config)
        common.table("Per-sample quantities: time / plain gradient of the same library", rows)
        results.csv(rows, "_per_sample")
        results.figure(per_sample.figure(rows), "_per_sample")
    ratios = {
        "compile": gradient.compile_ratio, "fit": fit.fit_ratio, "flow": flow.flow_ratio,
        "sweep": flow.sweep_ratio,
    }  # fmt: skip
    for part in ratios.keys() & set(config.parts):
        summary |= ratios[part](config)
    if summary:
        common.table("In one number", [{"what": k, "ratio": v} for k, v in summary.items()])
    results.close()


if __name__ == "__main__":
    config = common.parse(Config, experiments.benchmark.__doc__)
    if config.smoke:
        config = dataclasses.replace(config, depths=(2, 40), widths=(16,), rounds=3)
    common.run(main, config)
