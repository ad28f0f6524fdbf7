"""What was measured, as tables."""

from experiments import common
from experiments.vanishing.chains import ceiling, ends
from experiments.vanishing.measured import Measured
from experiments.vanishing.options import Config
from experiments.vanishing.steps import deepest, unmoved
from experiments.vanishing.training import TARGET


def tell(config: Config, m: Measured, told: list[dict]) -> None:
    depth, rate = config.depth, config.learning_rate
    common.table(
        f"H1  sigmoid, {depth} layers: log10 at the first; 0.25^{depth} = {0.25**depth:.2g}",
        [{"init": i, "ceiling": ceiling(depth), **ends(c)} for i, c in m.chains.items()],
    )
    common.table(
        "\nH2  weights of gain 2: log10 at the first, factor a layer",
        [{"hidden": act, "gradient": g[-1], "factor": 10 ** (g[-1] / depth)}
         for act, g in m.gains.items()],
    )  # fmt: skip
    common.table(
        f"\nH1  w_new = w_old, literally: float32, one step of {rate:g}",
        [{"hidden": act, **unmoved(own)} for act, own in deepest(m.bits).items()],
    )
    common.table(f"\nH3  4 dead units beside 4 live ones, {config.num_steps} steps", m.units)
    print(
        "dA: what reaches the dead units at most, (A2 - Y) . W2; dW, db: what act' and x leave of\n"
        "it; unchanged: share of their weights and biases with the same bits at the end; revived:\n"
        "how many of the 4 are then active on some sample."
    )
    common.table(f"\nD6, D7, D10  epochs to a loss of {TARGET:g}, largest |A| on the way", m.races)
    print(f"Epochs: median of {config.num_seeds} seeds, inf where not reached; |A|: of all seeds.")
    common.table("\nThe lecture's claims; epochs and |A| in the order of the races", told)
