"""How a metric is made: each is in the catalogue, with its roles and the values its labels may have.

Two kinds: those that are counted where something happens, and `Figures`, which are asked for when a page is asked for.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Summary, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

# A second series for each counter that only tells when it began.
disable_created_metrics()

API, SCHEDULER, WORKER = ROLES = ("api", "scheduler", "worker")

#: The values a label may have: all of them, or in words what bounds their number.
Values = Collection[str] | str
Labels = Mapping[str, Values]
NO_LABELS: Final[Labels] = {}

#: Seconds: of a statement or a request, and of a job's wait or run.
SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LONG_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0)


class Entry(NamedTuple):
    """One metric of the catalogue, under the name by which it is asked for."""

    name: str
    kind: str
    words: str
    labels: Labels
    roles: Sequence[str]


CATALOGUE: dict[str, Entry] = {}


def _enter(entry: Entry) -> tuple[str, ...]:
    assert entry.name not in CATALOGUE, entry.name
    CATALOGUE[entry.name] = entry
    return tuple(entry.labels)


def _begin(made: Counter | Histogram | Summary, labels: Labels) -> None:
    """Make each series whose labels are known, so that a rate is 0 and not absent before the first event."""
    closed = [values for values in labels.values() if not isinstance(values, str)]
    if labels and len(closed) == len(labels):
        for values in itertools.product(*closed):
            made.labels(*values)


def counter(name: str, words: str, roles: Sequence[str], labels: Labels = NO_LABELS, *, begun: bool = True) -> Counter:
    """What only grows. `begun` is False where not every role has every value: each begins its own."""
    made = Counter(name, words, _enter(Entry(name, "counter", words, labels, roles)))
    if begun:
        _begin(made, labels)
    return made


def gauge(name: str, words: str, roles: Sequence[str], labels: Labels = NO_LABELS) -> Gauge:
    """What goes up and down."""
    return Gauge(name, words, _enter(Entry(name, "gauge", words, labels, roles)))


def histogram(
    name: str, words: str, roles: Sequence[str], buckets: Sequence[float], labels: Labels = NO_LABELS
) -> Histogram:
    """How often an amount was at most each of the buckets."""
    made = Histogram(name, words, _enter(Entry(name, "histogram", words, labels, roles)), buckets=buckets)
    _begin(made, labels)
    return made


def summary(name: str, words: str, roles: Sequence[str]) -> Summary:
    """A sum and a count: the mean, at the price of two series."""
    return Summary(name, words, _enter(Entry(name, "summary", words, NO_LABELS, roles)))


#: A figure: the metric's name, the labels' values, and the value.
Figure = tuple[str, tuple[str, ...], float]


class Figures(Collector):
    """Metrics that are read at the moment somebody asks, from whoever knows them then. With no source there are none.

    The page is made in a thread of its own: a source takes copies of what the loop may change meanwhile."""

    def __init__(self, roles: Sequence[str]) -> None:
        self._roles = roles
        self._entries: dict[str, Entry] = {}
        self.source: Callable[[], Iterable[Figure]] | None = None
        REGISTRY.register(self)

    def gauge(self, name: str, words: str, labels: Labels = NO_LABELS) -> str:
        """What goes up and down; its name."""
        return self._add(Entry(name, "gauge", words, labels, self._roles))

    def counter(self, name: str, words: str, labels: Labels = NO_LABELS) -> str:
        """What only grows; its name."""
        return self._add(Entry(name, "counter", words, labels, self._roles))

    def _add(self, entry: Entry) -> str:
        _enter(entry)
        self._entries[entry.name] = entry
        return entry.name

    def describe(self) -> list[GaugeMetricFamily | CounterMetricFamily]:
        """The metrics without their values."""
        return list(self._families().values())

    def collect(self) -> list[GaugeMetricFamily | CounterMetricFamily]:
        """The metrics with their values of this moment."""
        source, families = self.source, self._families()
        for name, labels, value in source() if source is not None else ():
            families[name].add_metric(labels, value)
        return [family for family in families.values() if family.samples]

    def _families(self) -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
        kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
        return {e.name: kinds[e.kind](e.name, e.words, labels=list(e.labels)) for e in self._entries.values()}
