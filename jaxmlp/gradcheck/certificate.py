"""The certificate: what was compared, how far it is off, and what that means."""

import dataclasses
import enum
import functools
import html
import platform
import textwrap
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

import jax

from jaxmlp.gradcheck.names import listed, split
from jaxmlp.gradcheck.numbers import Numbers
from jaxmlp.gradcheck.search import Diagnosis

NAN = float("nan")
WIDTH = 80  # characters of a line
SHOWN = 14  # rows of a table that fits a screen; of more, those that matter


class Verdict(enum.StrEnum):
    """What is said of one array."""

    RIGHT = "right"
    WRONG = "wrong"
    WRONG_SHAPE = "wrong shape"
    MISSING = "missing"
    NOT_FINITE = "not finite"
    UNDECIDED = "undecided"
    """neither precision nor route can tell"""


class Row(NamedTuple):
    """One array of the candidate against the reference.

    name: W1, b1, slope1, dZ2, ..., or the path in a pytree; "J" is the value.
    layer: its number, None outside of networks.
    why: the detail of a verdict: both shapes, or the reason why it is undecided.
    numbers: difference, cosine, norm_ratio, sign_flips, ulp; None if nothing could be compared.
    tolerance: what the difference may be. at_kinks: entries that depend on which side's derivative
    is taken at a kink. dtype: the precision that decided.
    second_route: the relative difference from the numeric derivative along random directions, and
    which route it was; "cannot see" if J's differences do not resolve it, "" if not asked.
    """

    name: str
    layer: int | None
    verdict: Verdict
    numbers: Numbers | None = None
    tolerance: float = NAN
    at_kinks: int = 0
    dtype: str = ""
    second_route: str = ""
    why: str = ""

    @property
    def is_right(self) -> bool:
        return self.verdict == Verdict.RIGHT

    @property
    def is_undecided(self) -> bool:
        return self.verdict == Verdict.UNDECIDED

    @property
    def is_wrong(self) -> bool:
        return not (self.is_right or self.is_undecided)

    def undecided(self, why: str) -> "Row":
        return self._replace(verdict=Verdict.UNDECIDED, why=why)


@dataclasses.dataclass(frozen=True)
class Certificate:
    """State for each layer and each array whether a gradient is right, and what is wrong with it.

    Args:
      rows: one `Row` for each array of the gradient, layer 1 first.
      steps: one for each step (`dZ2`, `dA1`, `Z1`, ...) that the candidate gave, in the order of
        the computation.
      value: that of J, where the candidate gave it.
      diagnoses: every known mistake that reproduces the candidate's numbers; where several do,
        they are alternatives. Of several mistakes at once it is the one nearest the output.
      further: the mistakes that are left when the first of the diagnoses is mended.
      disputes: reasons for which nothing can be certified.
      notes: what else there is to know.
      dtype, device, matmul_precision, versions: of the computation.
    """

    rows: tuple[Row, ...]
    steps: tuple[Row, ...] = ()
    value: Row | None = None
    diagnoses: tuple[Diagnosis, ...] = ()
    further: tuple[Diagnosis, ...] = ()
    disputes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dtype: str = ""
    device: str = ""
    matmul_precision: str = ""
    versions: tuple[tuple[str, str], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every array of the gradient, and the value where given, is right."""
        judged = [*self.rows, *([self.value] if self.value else [])]
        return not self.disputes and bool(self.rows) and all(r.is_right for r in judged)

    @property
    def first_wrong(self) -> int | str | None:
        """The number of the first wrong layer, walking backwards from the output, or None.

        Outside of networks the name of the last wrong array.
        """
        wrong = [row for row in self.rows if row.is_wrong]
        if not wrong:
            return None
        numbers = [row.layer for row in wrong if row.layer is not None]
        return max(numbers) if numbers else wrong[-1].name

    @property
    def first_wrong_step(self) -> str | None:
        """The first step of E3 that is wrong, as "dA1" or "dW2", of those that were given."""
        if self.rows and self.rows[0].layer is None:
            return None
        gradient = [row._replace(name=f"d{row.name}") for row in self.rows]
        wrong = [row for row in (*self.steps, *gradient) if row.is_wrong]
        return min((row.name for row in wrong), key=order, default=None)

    def text(self, verbose: bool = False) -> str:
        """Return the certificate as text.

        Args:
          verbose: also the columns below, all rows, and the machine. Without it every line says
            whether an array is right, how far it is off, `difference = max|c - r| / max|r|`, and
            what rounding explains of that, the tolerance.

        The columns, for a candidate c against the right array r:
          cosine: of the angle between them; 1 if c is a multiple of r, 0 if they have nothing in
            common. norm ratio: `|c| / |r|`; 2 if c is twice too large. sign flips: entries of
            opposite sign. ulp: `max|c - r|` in units of the last place of r's largest entry; a few
            are rounding. at kinks: entries for which two derivatives are right, since a unit sits
            where its activation bends. second route: how far c is from a numeric derivative of J,
            which knows nothing of the chain rule.
        """
        return "\n".join(_text(self, verbose))

    def __str__(self):
        return self.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "\n".join(_html(self))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is wrong, in words, the most important first; of a right gradient the notes."""
        return tuple(_findings(self))


FORWARDS = "Z", "S", "U", "A"
BACKWARDS = "dA", "dU", "dS", "dZ", "dW", "db", "dslope", "dalpha"


def order(step: str) -> tuple[bool, int, int]:
    """The place of a step in the computation: Z1, A1, Z2, ..., dA2, dZ2, dW2, db2, dA1, ..."""
    field, number = split(step)
    if field in FORWARDS:
        return False, number, FORWARDS.index(field)
    return True, -number, BACKWARDS.index(field)


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = [(name, metadata.version(name)) for name in ("jax", "jaxlib", "numpy")]
    return (*found, ("python", platform.python_version()))


def environment() -> dict:
    """Return what `Certificate` says of the machine."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform} ({device.device_kind})",
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"] or "default"),
        "versions": _versions(),
    }


# --- as text --------------------------------------------------------------------------------------

HEADER = "", "verdict", "difference", "tolerance"
MORE = "cosine", "norm ratio", "sign flips", "ulp", "at kinks", "second route"


def _text(c: Certificate, verbose: bool) -> Iterator[str]:
    yield _headline(c)
    yield ""
    rows = _all_rows(c) if verbose else _shown(c)
    yield from _table([_cells(row) for row in rows], HEADER + MORE if verbose else HEADER)
    if left_out := len(_all_rows(c)) - len(rows):
        yield f"... and {left_out} more, in .rows"
    for sentence in _findings(c):
        yield ""
        yield from textwrap.wrap(sentence, WIDTH)
    if verbose:
        yield ""
        yield _footer(c)


def _table(rows: list[tuple[str, ...]], header: tuple[str, ...]) -> Iterator[str]:
    """The lines of a table, without columns that hold nothing."""
    used = [i for i in range(len(header)) if i < 2 or any(row[i] for row in rows)]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in used]
    for row in (header, *rows):
        cells = (row[i].ljust(width) for i, width in zip(used, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _headline(c: Certificate) -> str:
    if c.passed:
        return "The gradient is right."
    if c.disputes:
        return "Nothing can be certified."
    if isinstance(c.first_wrong, str):
        wrong = [row.name for row in c.rows if row.is_wrong]
        return f"The gradient is wrong: {', '.join(wrong)}."
    if c.first_wrong is not None:
        step = f", step {c.first_wrong_step}" if c.steps and c.first_wrong_step else ""
        return f"The gradient is wrong, from layer {c.first_wrong}{step} on, walking back."
    if c.value is not None and not c.value.is_right:
        return "The gradient is right, but the value is not."
    return "The gradient could not be decided everywhere."


def _all_rows(c: Certificate) -> list[Row]:
    """Every row under the name that it has in E3; with steps, in the order of the computation."""
    value = [] if c.value is None else [c.value]
    rows = [row if row.layer is None else row._replace(name=f"d{row.name}") for row in c.rows]
    if c.steps:
        rows = sorted([*c.steps, *rows], key=lambda row: order(row.name))
    return [*value, *rows]


def _shown(c: Certificate) -> list[Row]:
    """All rows of a small network; of a large one the first, the last, and where it goes wrong."""
    rows = _all_rows(c)
    if len(rows) <= SHOWN:
        return rows
    wrong = [i for i, row in enumerate(rows) if not row.is_right]
    worst = max(range(len(rows)), key=lambda i: _difference(rows[i]))
    kept = {0, 1, 2, *range(len(rows) - 3, len(rows)), *wrong[:2], *wrong[-4:], worst}
    return [rows[i] for i in sorted(kept)]


def _difference(row: Row) -> float:
    return row.numbers.difference if row.numbers else 0.0


def _cells(row: Row) -> tuple[str, ...]:
    """What stands in a row under HEADER and MORE."""
    n = row.numbers or Numbers(NAN, NAN, NAN, 0, NAN)
    flips = str(n.sign_flips) if n.ulp == n.ulp else ""
    shape = f" {row.why}" if row.verdict == Verdict.WRONG_SHAPE and row.why else ""
    numbers = (
        (n.difference, ".1e"),
        (row.tolerance, ".1e"),
        (n.cosine, ".6f"),
        (n.norm_ratio, ".6g"),
    )
    shown = ["" if x != x else f"{x:{form}}" for x, form in numbers]
    ulp = "" if n.ulp != n.ulp else f"{n.ulp:.3g}"
    kinks = str(row.at_kinks) if row.at_kinks else ""
    return (row.name, f"{row.verdict}{shape}", *shown, flips, ulp, kinks, row.second_route)


def _findings(c: Certificate) -> Iterator[str]:
    yield from (f"dispute: {dispute}" for dispute in c.disputes)
    names = list(dict.fromkeys(diagnosis.mistake for diagnosis in c.diagnoses))
    if len(names) > 1:
        yield "Each of these gives the same numbers:"
    for name in names:
        yield _alternatives([d for d in c.diagnoses if d.mistake == name])
    for diagnosis in c.further:
        yield f"when that is mended, {_alternatives([diagnosis])}"
    yield from (f"note: {note}" for note in c.notes)
    for why in dict.fromkeys(row.why for row in c.rows if row.is_undecided):
        names = [f"d{r.name}" if r.layer else r.name for r in c.rows if r.why == why]
        yield f"undecided: {listed(names)}: {why}"


def _alternatives(diagnoses: list[Diagnosis]) -> str:
    """One mistake and the places where it gives the same numbers."""
    places = dict.fromkeys(f"{_places(d.layers)} ({_some(d.steps)})" for d in diagnoses)
    return f"{diagnoses[0].mistake} in {', or in '.join(places)}: {diagnoses[0].mend}"


def _places(layers: tuple[int, ...]) -> str:
    if not layers:
        return "all"
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {_some(layers)}"


def _some(things: tuple) -> str:
    shown = things if len(things) <= 8 else (*things[:3], "...", things[-1])
    return ", ".join(map(str, shown))


def _footer(c: Certificate) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in c.versions)
    return f"{c.dtype} on {c.device}, matmul precision {c.matmul_precision}; {versions}"


def _html(c: Certificate) -> Iterator[str]:
    yield f"<p><b>{html.escape(_headline(c))}</b></p>"
    yield "<table>"
    yield "<tr>" + "".join(f"<th>{name}</th>" for name in HEADER) + "</tr>"
    for row in _shown(c):
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row)[: len(HEADER)])
        weight = "" if row.is_right else ' style="font-weight: bold"'
        yield f"<tr{weight}>{cells}</tr>"
    yield "</table>"
    yield from (f"<p>{html.escape(line)}</p>" for line in _findings(c))
