"""What every experiment shares: its command line, its progress, and what it leaves on disk."""

import contextlib
import csv
import dataclasses
import json
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

try:
    import tyro
except ModuleNotFoundError:
    raise SystemExit("the experiments need more: pip install -e '.[experiments]'") from None


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that every experiment has."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("results")
    """folder for figures and tables"""
    seed: int = 0
    """seed of everything random, 0..4294967295"""
    smoke: bool = False
    """run at a small size, to see that it runs"""


Config = TypeVar("Config", bound=Options)


def parse(config: type[Config], description: str | None) -> Config:
    """Read the command line into the dataclass; before jax is imported, so that --help is quick."""
    return tyro.cli(
        config,
        prog=f"python -m {_module_name()}",
        description=description,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def run(main: Callable[[Config], Any], config: Config) -> None:
    """Run an experiment; input that jaxmlp refuses is one sentence and no traceback."""
    from jaxmlp import checks

    try:
        checks.seed(config.seed)
        status = main(config)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"error: {error}") from error
    raise SystemExit(status or 0)


@contextlib.contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `report(done, total)`: a bar on a terminal, a plain line now and then elsewhere."""
    from rich.progress import Progress

    if sys.stderr.isatty():
        from rich.console import Console

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(description, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    told = -1

    def report(done: int, total: int) -> None:
        nonlocal told
        tenth = 10 * done // total
        if tenth > told:
            told = tenth
            print(f"{description}: {done} of {total}", file=sys.stderr, flush=True)

    yield report


def table(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows of equal keys as a table."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name, value in rows[0].items():
        grid.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        grid.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(title, style="italic", markup=False)  # a Table wraps its title to its own width
    console.print(grid)


def provenance(config: Any) -> dict[str, Any]:
    """What made a result: the command, its options, the versions and the device."""
    import jax

    import jaxmlp

    device = jax.devices()[0]
    return {
        "command": " ".join(["python -m", _module_name(), *sys.argv[1:]]),
        "options": {k: v for k, v in dataclasses.asdict(config).items() if k != "out"},
        "jaxmlp": jaxmlp.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform} ({device.device_kind})",
    }


class Results:
    """The folder that an experiment writes to; remembers what it wrote and says so at the end."""

    def __init__(self, name: str, config: Any):
        self.name, self.config, self.paths = name, config, []
        config.out.mkdir(parents=True, exist_ok=True)

    def path(self, suffix: str) -> Path:
        """The path `out/NAME{suffix}`, noted as written."""
        self.paths.append(self.config.out / f"{self.name}{suffix}")
        return self.paths[-1]

    def figure(self, figure: Any, suffix: str = "", dpi: int = 100) -> None:
        """Save a figure as PNG, in 256 colours: small enough for the gallery."""
        from PIL import Image

        path = self.path(f"{suffix}.png")
        figure.savefig(path, dpi=dpi, facecolor="white")
        with Image.open(path) as image:
            small = image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
        small.save(path, optimize=True)

    def csv(self, rows: list[dict[str, Any]], suffix: str = "") -> None:
        """Write rows of equal keys."""
        with self.path(f"{suffix}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)

    def close(self) -> None:
        """Write what made the results beside them, and print every path."""
        about = self.path(".json")
        about.write_text(json.dumps(provenance(self.config), indent=2, default=str) + "\n")
        print("\nwritten:", *self.paths, sep="\n  ")


def _module_name() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec is not None else Path(sys.argv[0]).name
