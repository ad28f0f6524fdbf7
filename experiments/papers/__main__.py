"""Reproduce the figures, print and write the table."""

import importlib
import math
import time

import experiments.papers
from experiments import common
from experiments.papers.options import Config, check


def main(config: Config) -> None:
    check(config)
    from experiments.papers.claims import verdict

    rows: common.Rows = []
    with common.Results("papers", config) as results, common.progress("papers") as report:
        for done, name in enumerate(config.papers, start=1):
            begun = time.perf_counter()
            module = importlib.import_module(f"experiments.papers.{name}")
            claims, figure = module.reproduce(config)
            seconds = time.perf_counter() - begun
            for claim in claims:
                told = {k: "" if v != v else v for k, v in claim._asdict().items()}
                rows.append({
                    "paper": module.PAPER, "what": claim.what, "published": told["published"],
                    "where": claim.where, "derived": told["derived"], "ours": claim.ours,
                    "standard error": claim.error, "tolerance": claim.tolerance,
                    "verdict": verdict(claim), "seconds": seconds,
                })  # fmt: skip
            results.csv(rows)
            results.figure(figure, f"_{name}")
            report(done, len(config.papers))
        tell(rows)


def tell(rows: common.Rows) -> None:
    """One table a paper."""
    for paper in dict.fromkeys(row["paper"] for row in rows):
        mine = [row for row in rows if row["paper"] == paper]
        shown = [{k: cell(v) for k, v in row.items() if k not in ("paper", "seconds", "where")}
                 for row in mine]  # fmt: skip
        common.table(f"\n{paper} ({mine[0]['seconds']:.0f} s)", shown)
        for where in dict.fromkeys(row["where"] for row in mine):
            print(f"  published: {where}")


def cell(value):
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.5g}"


if __name__ == "__main__":
    quick = ("saxe", "klambauer")  # the others compile for longer than a smoke run may take
    common.run(main, common.parse(Config, experiments.papers.__doc__, papers=quick))
