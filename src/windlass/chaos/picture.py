"""The picture: who was hurt when, as bars, over the attempts that began each second. One SVG file, no library."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from windlass.chaos.report import Report
from windlass.chaos.site import Hit

_LEFT, _WIDTH, _ROW, _GRAPH = 110, 1090, 22, 130
_COLOURS = {
    "scheduler": "#7c3aed",
    "api": "#0891b2",
    "worker": "#16a34a",
    "redis": "#dc2626",
    "postgres": "#2563eb",
    "network": "#db2777",
    "container": "#b45309",
    "all": "#111827",
}
_STYLE = "text{font:12px sans-serif;fill:#374151}.t{font-weight:bold}line{stroke:#e5e7eb}"


def draw(report: Report) -> str:
    """The SVG document."""
    rows = _rows(report.hits)
    ends = [_end(hit, report.began) for hit in report.hits]
    span = max([report.duration_s, 1.0, *ends, *report.starts[-1:]])
    scale = _WIDTH / span
    top = 34
    graph = top + len(rows) * _ROW + 24
    height = graph + _GRAPH + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 20}" height="{height}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="100%" height="100%" fill="#fff"/><text class="t" x="10" y="20">{escape(_title(report))}</text>',
        *_axis(span, top, graph + _GRAPH, scale),
        *_curve(report.starts, graph, span, scale),
        *_bars(report, rows, top, scale),
        "</svg>",
    ]
    return "\n".join(parts)


def _title(report: Report) -> str:
    found = report.verdict
    held = "every promise held" if report.good else "A PROMISE BROKE"
    return f"windlass chaos, seed {report.seed}: {len(report.hits)} faults, {found.accepted} jobs accepted; {held}"


def _rows(hits: Iterable[Hit]) -> list[str]:
    """A row for each that was hit; one for what hit everything."""
    return sorted({target for hit in hits for target in _targets(hit)})


def _targets(hit: Hit) -> Sequence[str]:
    return hit.targets if len(hit.targets) < 4 else ("everything",)


def _end(hit: Hit, began: float) -> float:
    return max(hit.healed_at or hit.injected_at, hit.back_at or hit.injected_at) - began


def _bars(report: Report, rows: Sequence[str], top: int, scale: float) -> Iterator[str]:
    """Full colour while it lasted, pale until the cluster was back."""
    for number, row in enumerate(rows):
        yield f'<text x="10" y="{top + number * _ROW + 15}">{escape(row)}</text>'
    for hit in report.hits:
        colour, begin = _COLOURS.get(hit.component, "#6b7280"), hit.injected_at - report.began
        lasted = (hit.healed_at or hit.injected_at) - hit.injected_at
        until = _end(hit, report.began) - begin
        words = f"{hit.fault} at {begin:.1f} s, lasted {lasted:.1f} s" + (
            f", back after {hit.recovered_s:.2f} s" if hit.recovered_s is not None else ", never back"
        )
        for target in _targets(hit):
            place = f'x="{_LEFT + begin * scale:.1f}" y="{top + rows.index(target) * _ROW + 3}" height="{_ROW - 6}"'
            yield f"<g><title>{escape(words)}</title>"
            yield f'<rect {place} width="{max(2.0, until * scale):.1f}" fill="{colour}" opacity=".3"/>'
            yield f'<rect {place} width="{max(2.0, lasted * scale):.1f}" fill="{colour}" opacity=".8"/></g>'


def _curve(starts: Sequence[float], top: int, span: float, scale: float) -> Iterator[str]:
    """Attempts that began, in steps wide enough to see."""
    step = max(1.0, span / 400)
    counts = Counter(int(at / step) for at in starts if at >= 0)
    most = max(counts.values(), default=1)
    points = [f"{_LEFT},{top + _GRAPH}"]
    for slot in range(int(span / step) + 1):
        points.append(f"{_LEFT + slot * step * scale:.1f},{top + _GRAPH * (1 - counts[slot] / most):.1f}")
    points.append(f"{_LEFT + _WIDTH},{top + _GRAPH}")
    yield f'<polygon points="{" ".join(points)}" fill="#fde68a" stroke="#d97706"/>'
    yield f'<text x="10" y="{top + 12}">runs begun</text><text x="10" y="{top + 28}">{most / step:.0f}/s at most</text>'


def _axis(span: float, top: int, bottom: int, scale: float) -> Iterator[str]:
    step = next(size for size in (5, 10, 30, 60, 300, 600, 3600, 36000) if span / size <= 15 or size == 36000)
    for at in range(0, int(span) + 1, step):
        x = _LEFT + at * scale
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}">{at} s</text>'
