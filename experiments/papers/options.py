"""The options, and what they must be."""

import dataclasses

from experiments import common

PAPERS = (
    "glorot", "he", "saxe", "poole", "schoenholz", "pennington", "hanin", "balduzzi", "klambauer",
    "xiao",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config(common.Options):
    """Options of the classic figures."""

    papers: tuple[str, ...] = PAPERS
    """which: by first author"""


def check(config: Config) -> None:
    """Refuse papers that are not among the ten."""
    from jaxmlp import checks

    for name in config.papers:
        if name not in PAPERS:
            raise checks.unknown_name("paper", name, PAPERS)
