"""The certificate: what was compared, how far it is off, and what that means."""

import dataclasses
import functools
import html
import platform
import textwrap
from collections.abc import Iterator
from importlib import metadata

import jax

from jaxmlp import report
from jaxmlp.gradcheck.judge import Numbers, Row, Verdict
from jaxmlp.gradcheck.mistakes import Diagnosis
from jaxmlp.gradcheck.names import listed, split

WIDTH = 80  # characters of a line
SHOWN = 14  # rows of a table that fits a screen; of more, those that matter


@dataclasses.dataclass(frozen=True)
class Certificate:
    """State for each layer and each array whether a gradient is right, and what is wrong with it.

    Args:
      rows: one `Row` for each array of the gradient, layer 1 first.
      steps: one for each step (`dZ2`, `dA1`, `Z1`, ...) that the candidate gave, in the order of
        the computation.
      value: that of J, if the candidate gave it.
      diagnoses: every known mistake that reproduces the candidate's numbers; if several do, they
        are alternatives. Of several mistakes at once it is the one nearest the output.
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
        """Whether every array of the gradient, and the value if it was given, is right."""
        judged = [*self.rows, *([self.value] if self.value else [])]
        return not self.disputes and bool(self.rows) and all(r.is_right for r in judged)

    @property
    def first_wrong(self) -> int | str | None:
        """The number of the first wrong layer, walking backwards from the output, or None.

        Outside of networks the name of the last wrong array.
        """
        wrong = [row for row in self.rows if row.is_wrong]
        numbers = [row.layer for row in wrong if row.layer is not None]
        if not wrong:
            return None
        return max(numbers) if numbers else wrong[-1].name

    @property
    def first_wrong_step(self) -> str | None:
        """The first step of E3 that is wrong, as "dA1" or "dW2", of those that were given."""
        if self.rows and self.rows[0].layer is None:
            return None
        gradient = [row._replace(name=f"d{row.name}") for row in self.rows]
        wrong = [row.name for row in (*self.steps, *gradient) if row.is_wrong]
        return min(wrong, key=order, default=None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is wrong, in words, the most important first; of a right gradient the notes."""
        return tuple(_findings(self))

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


FORWARDS = "Z", "S", "U", "A"
BACKWARDS = "dA", "dU", "dS", "dZ", "dW", "db", "dslope", "dalpha"


def order(step: str) -> tuple[bool, int, int]:
    """Return the place of a step in the computation: Z1, A1, Z2, ..., dA2, dZ2, dW2, db2, ..."""
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


# --- the table ------------------------------------------------------------------------------------

BRIEF = "", "verdict", "difference", "tolerance"  # the columns of a certificate that is not verbose


def _cells(row: Row) -> dict[str, str]:
    """What stands in a row, by the columns' names."""
    n = row.numbers or Numbers()
    shape = f" {row.why}" if row.verdict == Verdict.WRONG_SHAPE and row.why else ""
    return {
        "": row.name,
        "verdict": f"{row.verdict}{shape}",
        "difference": _said(n.difference, ".1e"),
        "tolerance": _said(row.tolerance, ".1e"),
        "cosine": _said(n.cosine, ".6f"),
        "norm ratio": _said(n.norm_ratio, ".6g"),
        "sign flips": _said(n.sign_flips if n.ulp == n.ulp else n.ulp, ".0f"),
        "ulp": _said(n.ulp, ".3g"),
        "at kinks": str(row.at_kinks or ""),
        "second route": row.second_route,
    }


def _said(x: float, form: str) -> str:
    return "" if x != x else f"{x:{form}}"


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
    # Both ends, the first wrong ones of either walk, and the worst: SHOWN at the most
    wrong = [i for i, row in enumerate(rows) if not row.is_right]
    off = [row.numbers.difference if row.numbers else 0.0 for row in rows]
    worst = max(range(len(rows)), key=off.__getitem__)
    kept = {0, 1, 2, *range(len(rows) - 3, len(rows)), *wrong[:2], *wrong[-4:], worst}
    return [rows[i] for i in sorted(kept)]


# --- as text and as HTML --------------------------------------------------------------------------


def _text(c: Certificate, verbose: bool) -> Iterator[str]:
    yield _headline(c)
    yield ""
    # The table, without columns that hold nothing
    rows = _all_rows(c) if verbose else _shown(c)
    table = [_cells(row) for row in rows]
    names = list(table[0]) if verbose and table else BRIEF
    used = [name for name in names if name in BRIEF[:2] or any(row[name] for row in table)]
    if table:
        yield report.as_text([{name: row[name] for name in used} for row in table])
    if left_out := len(_all_rows(c)) - len(rows):
        yield f"... and {left_out} more, in .rows"
    # What it means
    for sentence in _findings(c):
        yield ""
        yield from textwrap.wrap(sentence, WIDTH)
    if verbose:
        versions = ", ".join(f"{name} {version}" for name, version in c.versions)
        yield ""
        yield f"{c.dtype} on {c.device}, matmul precision {c.matmul_precision}; {versions}"


def _html(c: Certificate) -> Iterator[str]:
    rows = map(_cells, _shown(c))
    yield report.as_html([{name: row[name] for name in BRIEF} for row in rows], _headline(c))
    yield from (f"<p>{html.escape(line)}</p>" for line in _findings(c))


# --- in words -------------------------------------------------------------------------------------


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
    # Eight steps of four letters fit a line with their places
    shown = things if len(things) <= 8 else (*things[:3], "...", things[-1])
    return ", ".join(map(str, shown))
