"""How a dashboard is written here: rows of panels, each with what it asks Prometheus for.

Queries use `$__rate_interval` for rates, so that a panel has data at any scrape interval and zoom. The
format is the classic one, which every Grafana takes from files; the newer one it takes only behind a switch.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml
from grafana_foundation_sdk.builders import bargauge, common, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common as choices
from grafana_foundation_sdk.models import dashboard as model

SOURCE = choices.DataSourceRef(type_val="prometheus", uid="${datasource}")
RATE = "[$__rate_interval]"
RULES = Path(__file__).parents[2] / "deploy/prometheus/rules/alerts.yml"
#: What is drawn over the panels: (title, colour, when).
MARKS = (
    ("Elections", "purple", "sum(increase(windlass_leader_terms_total[1m])) > 0"),
    ("Drains", "orange", 'sum(windlass_nodes{state="draining"}) > 0'),
)


@dataclass(frozen=True)
class Query:
    """What is asked, and how a line of the answer is called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel. `width` is in 24ths; `warn` and `bad` are where it turns orange and red (below, if `falling`)."""

    title: str
    queries: Sequence[Query]
    words: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    top: float | None = None
    warn: float | None = None
    bad: float | None = None
    falling: bool = False


@dataclass(frozen=True)
class Board:
    """One dashboard: rows by title. With `nodes` one may choose nodes."""

    uid: str
    title: str
    words: str
    rows: dict[str, Sequence[Panel]] = field(default_factory=dict)
    nodes: bool = False


def quantiles(metric: str, *shares: float) -> list[Query]:
    """Quantiles of a histogram, over all processes."""
    inner = f"sum by (le) (rate({metric}_bucket{RATE}))"
    return [Query(f"histogram_quantile({share:g}, {inner})", f"p{share * 100:g}") for share in shares]


def built(board: Board) -> model.Dashboard:
    """The dashboard as Grafana knows it."""
    made = (
        build.Dashboard(f"Windlass: {board.title}")
        .uid(f"windlass-{board.uid}")
        .description(board.words)
        .tags(["windlass"])
        .time("now-1h", "now")
        .refresh("10s")
        .timezone("browser")
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(build.DashboardLink("Windlass").type(model.DashboardLinkType.DASHBOARDS).tags(["windlass"]))
    )
    made.with_variable(build.TextBoxVariable("runbooks").label("Runbooks").default_value("/public/runbooks"))
    for title, colour, expr in MARKS:
        mark = build.AnnotationQuery().name(title).datasource(SOURCE).enable(True).icon_color(colour)
        made.annotation(mark.expr(expr))
    if board.nodes:
        made.with_variable(_choice_of_nodes())
    number = 0
    for title, panels in board.rows.items():
        number += 1
        made.with_row(build.Row(title).id(number))
        for panel in panels:
            number += 1
            made.with_panel(_panel(panel).id(number))
    return made.build()


def _choice_of_nodes() -> build.QueryVariable:
    return (
        build.QueryVariable("node")
        .label("Node")
        .datasource(SOURCE)
        .query("label_values(windlass_node_up, node)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .all_value(".*")
        .multi(True)
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )


def _panel(panel: Panel) -> timeseries.Panel | stat.Panel | bargauge.Panel:
    match panel.kind:
        case "stat":
            made = _stat(panel)
        case "bars":
            made = bargauge.Panel().orientation(choices.VizOrientation.HORIZONTAL).height(8)
        case _:
            made = _lines(panel)
    made.title(panel.title).description(panel.words).datasource(SOURCE).unit(panel.unit).span(panel.width)
    made.links([_runbook(name) for name in _alerts(panel)])
    made.min(0)
    if panel.top is not None:
        made.max(panel.top)
    made.thresholds(_thresholds(panel))
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        asked = Dataquery().expr(query.expr).legend_format(query.legend or "__auto").ref_id(letter).datasource(SOURCE)
        made.with_target(asked.instant() if panel.kind == "bars" else asked.range())
    return made


@cache
def _rules() -> list[tuple[str, str]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


def _alerts(panel: Panel) -> Iterator[str]:
    """The runbook pages of a panel: of each alert about one of its metrics, or the index when there is none."""
    shown = {name for query in panel.queries for name in re.findall(r"windlass[_:][\w:]+", query.expr)}
    found = [alert for alert, expr in _rules() if shown & set(re.findall(r"windlass[_:][\w:]+", expr))]
    yield from found or ["README"]


def _runbook(page: str) -> build.DashboardLink:
    title = "Runbooks" if page == "README" else f"Runbook: {page}"
    return (
        build.DashboardLink(title).type(model.DashboardLinkType.LINK).url(f"${{runbooks}}/{page}.md").target_blank(True)
    )


def _stat(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .height(4)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(choices.BigValueColorMode.VALUE)
        .graph_mode(choices.BigValueGraphMode.AREA)
    )


def _lines(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .height(8)
        .line_width(1)
        .fill_opacity(30 if panel.stacked else 8)
        .show_points(choices.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(True).placement(choices.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(choices.TooltipDisplayMode.MULTI))
    )
    return made.stacking(common.StackingConfig().mode(choices.StackingMode.NORMAL)) if panel.stacked else made


def _thresholds(panel: Panel) -> build.ThresholdsConfig:
    good, worse = ("red", "green") if panel.falling else ("green", "red")
    steps = [model.Threshold(color=good)]
    if panel.warn is not None:
        steps.append(model.Threshold(value=panel.warn, color="orange"))
    if panel.bad is not None:
        steps.append(model.Threshold(value=panel.bad, color=worse))
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
