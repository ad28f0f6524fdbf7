"""What the page of a sweep shows besides its numbers: the names of remedies, and predictions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxmlp.sweep.grid import Network
from jaxmlp.sweep.theory import predicted

# Chosen: networks up to this depth get a band, which takes milliseconds a layer; deeper ones get
# only the line of infinite width
MOST_LAYERS = 200


def remedy(network: Mapping[str, Any]) -> str:
    """Name residual and norm together."""
    named = []
    if network["norm"] is not None:
        named.append(f"{network['norm']} norm")
    if network["residual"] is not None:
        named.append(f"residual {network['residual']}")
    return ", ".join(named) or "none"


def predictions(networks: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the predictions of mean field for each kind of network, for `report.explorer`.

    They assume standardised inputs. Kinds of networks that the theory does not cover are left out.
    """
    seen = set()
    for network in networks:
        names = ("activation", "init", "width", "depth", "residual", "norm")
        kind = tuple(network[name] for name in names)
        if kind in seen or network.get("step", 0) != 0:  # the theory is for untrained networks
            continue
        seen.add(kind)
        act, init, width, depth, residual, norm = kind
        one = Network(act, init, depth, width, 0, residual, norm, "")  # any seed, any loss
        found = predicted(one, width, width, 1.0, band=depth <= MOST_LAYERS)
        if found is None:
            continue
        mean = found.log10_delta if found.mean is None else found.mean
        band = (found.low, found.high) if found.low is not None else (mean * float("nan"),) * 2
        menus = {"activation": act, "init": init, "width": width, "depth": depth}
        menus |= {"step": 0} if "step" in network else {}
        yield menus | {"remedy": remedy(network), "mean": mean, "low": band[0], "high": band[1]}
