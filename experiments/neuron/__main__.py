"""Compute every part, print the tables, draw the figures."""

from typing import Any

import experiments.neuron
from experiments import common
from experiments.common import Rows
from experiments.neuron.options import Config, check


def main(config: Config) -> None:
    from experiments.neuron import figures, learning, lecture, unit

    check(config)
    with common.Results("neuron", config) as results:
        eps = f"{config.eps:g}"
        checked, paths = lecture.numbers(), lecture.parabola()
        results.csv(checked)
        runs = learning.train_all(learning.plans(config), config.epochs, config.rounds)
        cost = learning.costs(runs, config.eps)
        results.csv(cost, "_costs")
        saturated, curves = learning.raw_and_standardised(config)
        units, weights = unit.three_units(config)
        tables = {
            "The numbers of the lecture; I: slips of the notes": checked,
            "A3: vehicle (4, 6, 500), standardised, y = 0; w = (0.5, -0.5, 0.25), b = 0.1": turned(
                unit.chain(), "unit"
            ),
            "A4: the logistic unit's mean over the four vehicles that train": unit.matrix_form(),
            "A5, G1: y = x^2 - 10 from x = 4; I: the slip +": lecture.parabola_rows(paths),
            f"G3: what a loss of {eps} costs; 3-4-2 has no biases": cost,
            "G4: the two vehicles held out, shown to the networks updated per sample": (
                learning.held_out(runs)
            ),
            f"G2: 3-4-2, per sample, until every error is at most {eps}": learning.skipping(config),
            "G4: raw inputs saturate: the first layer's outputs after one update": saturated,
            "A1: is it a 3 (y = 0) or an 8 (y = 1)? One neuron on 8 x 8 pixels": units,
        }
        for title, rows in tables.items():
            print()
            common.table(title, [{k: readable(v) for k, v in row.items()} for row in rows])

        results.figure(figures.updates_figure(runs))
        results.figure(figures.inputs_figure(curves), "_inputs")
        results.figure(figures.descent_figure(paths), "_descent")
        results.figure(figures.weights_figure(weights), "_weights")


def readable(value: Any) -> Any:
    """Return numbers and vectors with four digits."""
    if hasattr(value, "tolist"):
        return " ".join(f"{entry:.4g}" for entry in value.ravel().tolist())
    return f"{value:.4g}" if isinstance(value, float) else value


def turned(rows: Rows, heading: str) -> Rows:
    """Return rows as columns, named by their `heading`."""
    names = [name for name in rows[0] if name != heading]
    return [{heading: name, **{row[heading]: row[name] for row in rows}} for name in names]


if __name__ == "__main__":
    common.run(main, common.parse(Config, experiments.neuron.__doc__, epochs=30, rounds=1))
