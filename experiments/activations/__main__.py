"""Measure, print the tables, draw the figures."""

import experiments.activations
from experiments import common
from experiments.activations.options import Config

NOTE = """
inf, sup, steepest: for |z| up to {far:g}, inf where they still grow there; mean: |z| up to 4;
ulps: largest difference of the derivatives by hand and by jax, |z| up to {reach:g}, in units of
2^-52 of the steepest slope.
"""


def main(config: Config) -> None:
    import jax

    from experiments.activations import figures, lecture, measured

    common.check_positive(config, "range")
    reach = config.range
    with jax.enable_x64(True):
        chosen = measured.choose(config.activations)
        with common.Results("activations", config) as results:
            curves = {act: measured.curve(act, measured.grid(reach, act.kinks)) for act in chosen}
            rows = [
                {"activation": act.name}
                | measured.properties(act)
                | {"ulps": float(curve.difference.max()) / 2**-52}
                for act, curve in curves.items()
            ]
            results.csv(rows)
            common.table("D1-D13  What is wanted of an activation, measured", rows)
            print(NOTE.format(reach=reach, far=measured.FAR))
            kinks = [row for act in chosen for row in measured.at_kinks(act)]
            if kinks:
                common.table("At a kink: left | right, and by convention at z itself", kinks)
            print(*lecture.statements(reach), sep="\n")
            for suffix, acts in figures.groups(chosen).items():
                results.figure(figures.gallery({act: curves[act] for act in acts}, reach), suffix)


if __name__ == "__main__":
    smoke = {"activations": ("relu", "sigmoid", "gelu")}
    common.run(main, common.parse(Config, experiments.activations.__doc__, **smoke))
