"""The command line of an experiment, and checks of its options."""

import contextlib
import dataclasses
import io
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

try:
    import tyro
except ModuleNotFoundError:
    raise SystemExit("the experiments need more: pip install -e '.[experiments]'") from None


@dataclasses.dataclass(frozen=True)
class Options:
    """Hold the options that every experiment has."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("results")
    """folder for figures and tables; those that an earlier run of this experiment left there are
    replaced as a whole"""
    seed: int = 0
    """seed of everything random, 0..4294967295"""
    smoke: bool = False
    """run at a small size, to see that it runs"""
    format: Literal["png", "svg", "pdf"] = "png"
    """of the figures"""
    large: bool = False
    """draw figures for a hall: letters of 16 points on 10 inches"""


Config = TypeVar("Config", bound=Options)


def parse(config: type[Config], description: str | None, **smoke: Any) -> Config:
    """Read the command line into the dataclass, before jax is imported, so --help is quick.

    smoke: the options that `--smoke` sets, unless they are given on the command line.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = tyro.cli(
                config,
                prog=f"python -m {module_name()}",
                description=description,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as refusal:
        if refusal.code:
            refuse(_one_sentence(said.getvalue()))
        raise
    typed = {
        word.split("=")[0].lstrip("-").replace("-", "_")
        for word in sys.argv
        if word.startswith("-")
    }
    for name in typed & vars(found).keys():
        if getattr(found, name) == ():
            refuse(f"Missing value for argument '--{name.replace('_', '-')}'.")
    for name, value in vars(found).items():
        words = [x for x in value if isinstance(x, str)] if isinstance(value, tuple) else []
        if any(re.search(r",(\S|$)", word) for word in words):  # "layer norm, residual 1" is a name
            apart = " ".join(" ".join(words).replace(",", " ").split())
            refuse(f"--{name.replace('_', '-')} takes words with spaces between them: {apart}")
    if not found.smoke:
        return found
    return dataclasses.replace(found, **{k: v for k, v in smoke.items() if k not in typed})


def refuse(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def module_name() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec is not None else Path(sys.argv[0]).name


def _one_sentence(box: str) -> str:
    """What stands between tyro's first two rules: above is a title, below are hints."""
    text = " ".join(line.strip("│ ") for line in box.splitlines())
    _, sentence, *_ = re.split(r" *[─╭╮╰╯-]{5,} *| +Got errors:", text)
    meant = re.search(r"Perhaps you meant: *(--\S+)", text)
    return f"{sentence}; did you mean {meant[1]}?" if meant else sentence


# --- what options must be -------------------------------------------------------------------------


def seeds(config: Options, number: int) -> list[int]:
    """Return the seeds seed, seed + 1, ...; after 4294967295 comes 0."""
    return [(config.seed + i) % 2**32 for i in range(number)]


def check_integers(config: Options, *names: str, at_least: int = 1) -> None:
    """Refuse integer options, or tuples of them, that are too small."""
    from jaxmlp import checks

    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            checks.integer(name, number, at_least=at_least)


def check_positive(config: Options, *names: str) -> None:
    """Refuse number options, or tuples of them, that are not finite and above 0."""
    from jaxmlp import checks

    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            checks.positive_number(name, number)


def digits(num_samples: int):
    """Return X and Y of the first handwritten digits, standardised over all of them."""
    from jaxmlp import datasets

    (data,) = datasets.standardize(datasets.digits())
    if not 2 <= num_samples <= len(data.Y):
        raise ValueError(f"num_samples must lie in 2..{len(data.Y)}, got {num_samples}")
    return data.X[:num_samples], data.Y[:num_samples]
