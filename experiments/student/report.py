"""The results as one line for each file, and as a page."""

import html
from pathlib import Path
from typing import Any, NamedTuple

from experiments.student.process import Answer


class Verdict(NamedTuple):
    """Hold a file, its answer, and the certificate if there is an answer."""

    file: Path
    answer: Answer
    certificate: Any = None

    @property
    def is_right(self) -> bool:
        return self.certificate is not None and self.certificate.passed


def lines(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """Return rows: name, passed, first wrong step, mistake, and what to mend."""
    names = [verdict.file.name for verdict in verdicts]
    return [
        {
            # names without their folders, as long as they tell the files apart
            "name": name if names.count(name) == 1 else str(verdict.file),
            "passed": "yes" if verdict.is_right else "no",
            "first wrong step": getattr(verdict.certificate, "first_wrong_step", None) or "",
            "mistake": mistakes(verdict),
            "diagnosis": sentence(verdict),
        }
        for name, verdict in zip(names, verdicts, strict=True)
    ]


def mistakes(verdict: Verdict) -> str:
    found = verdict.certificate.diagnoses if verdict.certificate else ()
    return " or ".join(dict.fromkeys(diagnosis.mistake for diagnosis in found))


def sentence(verdict: Verdict) -> str:
    """Return what to mend, a sentence for each mistake; "" for a right gradient."""
    certificate = verdict.certificate
    if certificate is None:
        return verdict.answer.crash
    if certificate.passed:
        return ""
    if certificate.diagnoses:
        by_mistake = {d.mistake: d.mend for d in reversed(certificate.diagnoses)}
        return " or: ".join(list(by_mistake.values())[::-1])
    missing = [f"d{row.name}" for row in certificate.rows if row.verdict == "missing"]
    broken = [
        f"d{row.name}: {row.verdict} {row.why}".rstrip()
        for row in certificate.rows
        if row.is_wrong and row.verdict not in ("wrong", "missing")
    ]
    broken += [f"{', '.join(missing)} missing"] if missing else []
    return "; ".join(broken) or " ".join(certificate.notes)


def page(verdict: Verdict) -> str:
    """Return the certificate, what the file printed, and the file, as HTML."""
    from jaxmlp import report

    certificate = verdict.certificate
    said = f"<p>{html.escape(verdict.answer.crash)}</p>"
    parts = [said if certificate is None else certificate._repr_html_()]
    if verdict.answer.printed:
        parts.append(f"<h2>Printed</h2><pre>{html.escape(verdict.answer.printed)}</pre>")
    if verdict.file.suffix == ".py" and verdict.file.is_file():
        source = verdict.file.read_text(errors="replace")
        parts.append(f"<h2>The file</h2><pre>{html.escape(source)}</pre>")
    return report.page(verdict.file.name, "\n".join(parts))
