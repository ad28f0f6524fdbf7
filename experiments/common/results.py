"""The files that an experiment writes."""

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
    """Write rows with the same keys; text that a spreadsheet would run as a formula is quoted."""
    from jaxmlp.checks import csv_cell

    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows({k: csv_cell(v) for k, v in row.items()} for row in rows)


class Results:
    """Write the files `out/NAME*` of one run.

    It is a context manager. Entering makes the folder; it refuses one that cannot be written to, or
    to which another run is writing. When the first file is written, those of an earlier run are
    removed. A file appears only when it is complete. `out/NAME.json` says what made the files,
    which they are, and how the run ended. An interrupted run ends its last line with `advice`.
    Figures drawn inside have the style of the options.
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

        self.style = matplotlib.rc_context(style(self.config))  # pyright: ignore
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
        """Keep the files that are complete, and return the line that says so."""
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
        """Yield a path to write to. When the block ends, the file is renamed `out/NAME{suffix}`."""
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
        """Save a figure in the format of the options; a PNG has 256 colours, to be small."""
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
        """Return what made the files, for the foot of a page."""
        return provenance(self.config)

    def csv(self, rows: Rows, suffix: str = "") -> None:
        """Write rows with the same keys."""
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
        """Write the JSON. The first time, remove the files of an earlier run."""
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
        """Remove the hidden files: the lock, and files that are not complete."""
        self.claim.close()
        for path in (Path(self.claim.name), *self.out.glob(f".{self.name}*.part")):
            path.unlink(missing_ok=True)


def _in_few_colours(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        # covers faint bands too; three rounds of k-means move colours to where most pixels are
        small = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3)
    small.save(path, optimize=True, format="png")


def _claim(path: Path) -> Any:
    """Open and lock a file, and check that there is room. The lock ends with the process."""
    claim = path.open("ab")
    try:
        _lock(claim)
        path.write_bytes(bytes(2**20))  # chosen: more than most runs write
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
    """Raise BlockingIOError if another process has the lock; do nothing if there are no locks."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # the file system has no locks
        return


def _files_of(path: Path) -> list[Path]:
    """Return the files that the JSON of an earlier run names, if they are of this experiment."""
    try:
        names = json.loads(path.read_text())["files"]
        return [path.with_name(name) for name in names if name.startswith(path.stem)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


@contextlib.contextmanager
def _writing(what: str) -> Iterator[None]:
    """Turn an error of the operating system into a ValueError of one sentence."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write {what}: {error.strerror or error}") from error


def provenance(config: Any) -> dict[str, Any]:
    """Return what made a result: the command, its options, the versions and the device."""
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
