"""The statements of the lecture, each compared with the numbers."""

import math

from experiments.vanishing.chains import ceiling
from experiments.vanishing.measured import Measured
from experiments.vanishing.steps import deepest, unmoved
from experiments.vanishing.training import RACERS, deepest_learned

BLOW_UP = 100.0  # |A|; those of sigmoid and tanh are at most 1


def claims(m: Measured) -> list[dict]:
    """Return the lecture's statements beside the numbers."""
    gradients = {init: c.gradient for init, c in m.chains.items()}
    early, (dead, *leaky) = deepest(m.bits)["sigmoid"], m.units
    reach = deepest_learned(m.grid)
    return [
        verdict("I   0.25 a layer bounds the gradient",
                [f"{init} 10^{g[-1]:.1f}" for init, g in gradients.items()],
                all(g[-1] <= ceiling(len(g) - 1) for g in gradients.values())),
        verdict("H1  early sigmoid layers: w_new = w_old",
                [f"{unmoved(early)['frozen']} of {len(early)} layers"], early[0]["unchanged"] == 1),
        verdict("H3  a dead ReLU unit never learns", [f"dW {dead['dW']:g}", f"db {dead['db']:g}"],
                dead["dW"] == dead["db"] == 0 and dead["unchanged"] == 1),
        verdict("H3  leaky ReLU mends it",
                [f"slope {row['hidden'].split(':')[1]} {row['revived']} of 4" for row in leaky],
                *(row["revived"] > 0 for row in leaky)),
        *claims_of_speed(m.races),
        *claims_of_size(m.races, m.grid),
        verdict("H4  the choice depends on the depth",
                [f"{act} to {depth}" for act, depth in reach.items()],
                len(set(reach.values())) > 1),
    ]  # fmt: skip


def claims_of_speed(races: list[dict]) -> list[dict]:
    """Return D6, D7, D13, H4, with numbers in the order of the races: digits, then spiral."""
    epochs = {act: [r["epochs"] for r in races if r["activation"] == act] for act in RACERS}

    def faster(claim: str, quick: str, slow: str) -> dict:
        pairs = list(zip(epochs[quick], epochs[slow], strict=True))
        return verdict(claim, [f"{a:.0f}:{b:.0f}" for a, b in pairs], *(a < b for a, b in pairs))

    cells = list(zip(*epochs.values(), strict=True))
    best = [{act for act, n in zip(RACERS, c, strict=True) if n == min(c)} for c in cells]
    half = len(best) // 2
    return [
        faster("D6  tanh is faster than sigmoid", "tanh", "sigmoid"),
        faster("D7  ReLU is faster than sigmoid", "relu", "sigmoid"),
        faster("D7  ReLU is faster than tanh", "relu", "tanh"),
        verdict("D13 sigmoid, tanh and ReLU serve hidden layers",
                [f"{act} {min(epochs[act]):.0f}" for act in RACERS[:3]],
                *(min(epochs[act]) < math.inf for act in RACERS[:3])),
        verdict("H4  the choice depends on the problem", [" or ".join(sorted(b)) for b in best],
                *(not a & b for a, b in zip(best[:half], best[half:], strict=True))),
    ]  # fmt: skip


def claims_of_size(races: list[dict], grid: list[dict]) -> list[dict]:
    """Return D7, D10: in any race, or as an overflow in any network of growing depth."""
    rows = []
    for claim, act in (("D7  ReLU can blow up", "relu"), ("D10 ELU can blow up", "elu")):
        largest = [row["largest_A"] for row in races if row["activation"] == act]
        overflows = sum(row["overflows"] for row in grid if row["activation"] == act)
        told = [f"{A:.3g}" for A in largest] + [f"{overflows} deep ones overflow"] * (overflows > 0)
        rows.append(verdict(claim, told, max(largest) >= BLOW_UP or overflows > 0))
    return rows


def verdict(claim: str, measured: list[str], *held: bool) -> dict:
    often = f"in {sum(held)} of {len(held)}"
    word = "supported" if all(held) else often if any(held) else "not supported"
    return {"claim": claim, "measured": ", ".join(measured), "verdict": word}
