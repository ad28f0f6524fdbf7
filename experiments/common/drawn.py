"""How every figure looks: sizes for a README's column or for a hall, titles that fit."""

import re
from typing import Any

from experiments.common.options import Options

POINTS, COLUMN = 10.0, 8.0  # letters; inches of a README's column, a paper's text at 70%
LARGE_POINTS, LARGE = 16.0, 10.0  # read from the last row
LARGE_DPI = 192  # 1920 pixels wide
STRETCH = 1.35  # large letters take height: less than 1.6 as much, for the width grows too


def style(config: Options) -> dict[str, Any]:
    """Return the rcParams that figures are drawn with."""
    points = LARGE_POINTS if config.large else POINTS
    scale = points / POINTS
    return {
        "font.size": points,
        "axes.titlesize": "medium",
        "figure.titlesize": 1.1 * points,
        "legend.fontsize": "small",
        "legend.frameon": False,
        "axes.linewidth": 0.8 * scale,
        "lines.linewidth": 1.5 * scale,
        "lines.markersize": 6 * scale,
        "svg.hashsalt": "jaxmlp",  # the same file from the same figure
    }


def fitted(figure: Any, config: Options) -> Any:
    """Return a figure at the width that is wanted, with its titles broken into lines that fit."""
    width, height = figure.get_size_inches()
    wanted = LARGE if config.large else min(width, COLUMN)
    figure.set_size_inches(wanted, height * (STRETCH if config.large else 1))
    for _ in range(2):  # a title of more lines leaves less room beside it
        figure.draw_without_rendering()
        for part in (figure, *figure.subfigs):
            title = part._suptitle
            if title is not None:
                _wrap(title, part.bbox.width)
        for ax in figure.get_axes():
            _wrap(ax.title, _room(ax))
    for ax in figure.get_axes():
        if ax.get_legend() is not None:
            ax.get_legend().set_alignment("left")  # its title above its lines
    return figure


def _room(ax: Any) -> float:
    """Pixels that a title may take, centred on its panel: within the figure, and its neighbours."""
    figure, own = ax.figure, ax.get_window_extent()
    centre, whole = (own.x0 + own.x1) / 2, figure.bbox
    room = 2 * min(centre - whole.x0, whole.x1 - centre)
    for other in figure.axes:
        box = other.get_window_extent()
        if other is not ax and other.get_title() and abs(box.y1 - own.y1) < own.height / 2:
            room = min(room, 0.97 * abs((box.x0 + box.x1) / 2 - centre))
    return room


def _wrap(title: Any, room: float) -> None:
    """Break a title that is wider than its room; one that fits keeps its lines."""
    for _ in range(4):  # letters differ in width
        wide = title.get_window_extent().width
        if wide <= room or not title.get_text():
            return
        longest = max(len(_seen(line)) for line in title.get_text().splitlines())
        letters = max(10, int(longest * room / wide) - 1)
        title.set_text("\n".join(_even(title.get_text(), letters)))


def _even(text: str, letters: int) -> list[str]:
    """Break text into as few lines as fit, and these as alike as can be: no word stands alone."""
    lines: list[str] = []
    for narrower in range(letters, 0, -1):
        broken = [""]
        for word in re.split(r"[ \n]+", text.strip()):  # at a no-break space it holds together
            longer = f"{broken[-1]} {word}".strip()
            if broken[-1] and len(_seen(longer)) > narrower:
                broken.append(word)
            else:
                broken[-1] = longer
        if lines and len(broken) > len(lines):
            break
        lines = broken
    return lines


def _seen(text: str) -> str:
    """The letters of $10^{-3}$ that are seen."""
    return re.sub(r"[${}^\\]", "", text)
