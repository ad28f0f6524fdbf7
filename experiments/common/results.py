"""What an experiment leaves on disk."""

import contextlib
import csv
import dataclasses
import json
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from experiments.common.drawn import LARGE_DPI, fitted, style
from experiments.common.options import module_name
from experiments.common.told import Rows


def write_csv(file: Any, rows: Rows) -> None:
    """Write rows of equal keys; text that a spreadsheet would take for a formula is quoted."""
    from jaxmlp.checks import csv_cell

    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows({k: csv_cell(v) for k, v in row.items()} for row in rows)


class Results:
    """The files `out/NAME*` of one run.

    A context manager: entering makes the folder, and refuses one that cannot be written to or that
    another run is writing to. The first file takes the place of all that an earlier run left; a
    file appears when it is whole. `out/NAME.json` always says what made the files beside it, which
    they are, and how the run ended. `advice` is what an interrupted run says last. Figures drawn
    inside have the style that the options ask for.
    """

    entered: ClassVar[list["Results"]] = []

    def __init__(self, name: str, config: Any, advice: str = ""):
        self.name, self.out, self.config, self.advice = name, config.out, config, advice
        self.paths, self.about = [], {}

    def __enter__(self) -> "Results":
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out {self.out} is a file, expected a folder")
        with _writing(f"to --out {self.out}"):
            self.out.mkdir(parents=True, exist_ok=True)
            self.claim = _claim(self.out / f".{self.name}.running")
        import matplotlib

        self.style = matplotlib.rc_context(style(self.config))
        self.style.__enter__()
        self.entered.append(self)
        return self

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        try:
            if kind is None:
                with _writing(f"to --out {self.out}"):
                    self._tell("finished")
                print("\nwritten:", *self.paths, self.out / f"{self.name}.json", sep="\n  ")
            elif self.paths:
                with contextlib.suppress(OSError):  # the disk may be full
                    self._tell(f"failed: {error}")
        finally:
            self.style.__exit__(None, None, None)
            self.entered.remove(self)
            self._withdraw()

    def interrupt(self, name: str) -> str:
        """Leave what is there, and return the line that says so."""
        with contextlib.suppress(OSError):
            self._withdraw()
            self.paths = [path for path in self.paths if path.exists()]
            if self.paths:
                self._tell(f"interrupted by {name}")
        advice = f"; {self.advice}" if self.advice else ""
        if not self.paths:
            return f"interrupted by {name} before anything was written to {self.out}{advice}"
        written = ", ".join(map(str, self.paths))
        return f"interrupted by {name}; written until then: {written}{advice}"

    @contextlib.contextmanager
    def path(self, suffix: str) -> Iterator[Path]:
        """Yield a path to write to; when that is done it becomes `out/NAME{suffix}`."""
        final = self.out / f"{self.name}{suffix}"
        part = final.with_name(f".{final.name}.part")
        with _writing(str(final)):
            try:
                yield part
                if final not in self.paths:
                    final.unlink(missing_ok=True)  # of a run that kept no list
                    self.paths.append(final)
                self._tell("running")
                part.replace(final)
            finally:
                part.unlink(missing_ok=True)

    def figure(self, figure: Any, suffix: str = "") -> None:
        """Save a figure in the format asked for; a PNG in 256 colours, small for a README."""
        kind = self.config.format
        dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # the same file each time
        with self.path(f"{suffix}.{kind}") as path:
            fitted(figure, self.config).savefig(
                path, dpi=LARGE_DPI if self.config.large else 100, facecolor="white", format=kind,
                metadata=dateless.get(kind),
            )  # fmt: skip
            if kind == "png":
                _in_few_colours(path)

    def provenance(self) -> dict[str, Any]:
        """What made the files, for a page that says so at its foot."""
        return provenance(self.config)

    def csv(self, rows: Rows, suffix: str = "") -> None:
        """Write rows of equal keys."""
        with self.path(f"{suffix}.csv") as path, path.open("w", newline="") as file:
            write_csv(file, rows)

    def grow(self, rows: Iterable[dict[str, Any]], suffix: str = "") -> Rows:
        """Write rows as they come, and return them."""
        found = []
        for row in rows:
            found.append(row)
            self.csv(found, suffix)
        return found

    def _tell(self, state: str) -> None:
        """Write the JSON; the first time, in the place of what an earlier run has left."""
        path = self.out / f"{self.name}.json"
        if not self.about:
            self.about = provenance(self.config)
            for earlier in _files_of(path):
                earlier.unlink(missing_ok=True)
        about = {**self.about, "state": state, "files": [path.name for path in self.paths]}
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(about, indent=2, default=str) + "\n")
        part.replace(path)

    def _withdraw(self) -> None:
        """Take away what is hidden: the claim, and files that are not whole."""
        self.claim.close()
        for path in (Path(self.claim.name), *self.out.glob(f".{self.name}*.part")):
            path.unlink(missing_ok=True)


def _in_few_colours(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    small.save(path, optimize=True, format="png")


def _claim(path: Path) -> Any:
    """Open and lock a file, and see that there is room; the lock ends with the process."""
    claim = path.open("ab")
    try:
        _lock(claim)
        path.write_bytes(bytes(2**20))  # more than most runs leave
        path.write_bytes(b"")
    except BlockingIOError:
        claim.close()
        raise ValueError(f"another run is writing to --out {path.parent}") from None
    except OSError:
        claim.close()
        path.unlink()
        raise
    return claim


def _lock(file: Any) -> None:
    """Raise BlockingIOError if another process holds it; do nothing where there are no locks."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without them
        return


def _files_of(path: Path) -> list[Path]:
    """The files that the JSON of an earlier run names; no others, whatever it says."""
    try:
        names = json.loads(path.read_text())["files"]
        return [path.with_name(name) for name in names if name.startswith(path.stem)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


@contextlib.contextmanager
def _writing(what: str) -> Iterator[None]:
    """An error of the operating system as a sentence."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write {what}: {error.strerror or error}") from error


def provenance(config: Any) -> dict[str, Any]:
    """What made a result: the command, its options, the versions and the device."""
    import jax

    import jaxmlp

    device = jax.devices()[0]
    return {
        "command": " ".join(["python -m", module_name(), *sys.argv[1:]]),
        "options": {k: v for k, v in dataclasses.asdict(config).items() if k != "out"},
        "jaxmlp": jaxmlp.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform} ({device.device_kind})",
    }
