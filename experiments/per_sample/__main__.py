"""Score, prune, print the table, draw the figures."""

import experiments.per_sample
from experiments import common
from experiments.per_sample.options import Config, check


def main(config: Config) -> None:
    from experiments.per_sample import figures, pruning, report, scores

    check(config)
    runs, rows, clean = [], [], []
    with common.Results("per_sample", config) as results:
        with common.progress("repetitions") as tell:
            for number in range(config.num_seeds):
                run = scores.repetition(config, number)
                rows += pruning.pruning(config, number, run)
                results.csv(rows, "_pruning")
                clean.append(pruning.without_flipped(config, run))
                runs.append(run)
                tell(number + 1, config.num_seeds)
        lines = report.summary(config, runs, rows)
        results.csv(lines)
        common.table(
            f"Finding {config.flipped:.0%} flipped labels: medians over repetitions", lines
        )
        print("", *report.statements(config, runs, rows, clean), sep="\n")
        results.figure(figures.flipped(config, runs), "_flipped")
        results.figure(figures.training(config, runs), "_training")
        results.figure(figures.pruning(rows), "_pruning")
        results.figure(figures.digits(config, runs[0]), "_digits")


if __name__ == "__main__":
    smoke = {
        "num_train": 256, "num_networks": 2, "score_epoch": 2, "epochs": 4, "shares": (0.5,),
        "num_seeds": 2, "width": 8,
    }  # fmt: skip
    common.run(main, common.parse(Config, experiments.per_sample.__doc__, **smoke))
