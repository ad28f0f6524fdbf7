"""Train the maps, compare with theory, draw."""

import math

import experiments.trainability
from experiments import common
from experiments.trainability.options import Config, check


def main(config: Config) -> None:
    from experiments.trainability import figures, measured

    check(config)
    X, Y = measured.samples(config)
    rows: common.Rows = []
    with common.Results("trainability", config) as results:
        for kind in config.maps:
            with common.progress(f"training {kind}") as report:
                rows += measured.trained_map(config, kind, X, Y, report)
            results.csv(rows)
        per_column = measured.scales(config, rows)
        results.csv(per_column, "_scales")
        common.table("Depth at which half of the samples are right, and theory", per_column)
        held = measured.claims(rows, per_column)
        if held:
            results.csv(held, "_claims")
            common.table("What the map of tanh shows", held)
        results.figure(figures.draw(config, rows, finding(per_column)))
        if config.html:
            with results.path(".html") as path:
                path.write_text(measured.page(config, rows, X, Y, results.provenance()))


def finding(per_column: common.Rows) -> str:
    """One sentence on the map of tanh; a plain one where its grid says nothing."""
    tanh = [row for row in per_column if row["map"] == "tanh" and row["xi_c"] < 30]
    ratios = [row["ratio"] for row in tanh if 0 < row["ratio"] < math.inf]
    if not ratios:
        return "Training accuracy over depth and variance"
    ends = f"{min(ratios):.1f} to {max(ratios):.1f}" if len(ratios) > 1 else f"{ratios[0]:.1f}"
    return f"tanh networks train to a depth of {ends} xi_c off the edge of chaos"


if __name__ == "__main__":
    smoke = {
        "maps": ("tanh", "residual"), "depths": (2,), "sigma_w2s": (1.0, 1.76), "num_seeds": 1,
        "width": 16, "num_steps": 60, "num_samples": 128,
    }  # fmt: skip
    common.run(main, common.parse(Config, experiments.trainability.__doc__, **smoke))
