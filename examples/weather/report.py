"""What a year's weather was like: months, records, dry spells, heating need.

python3 report.py weather.csv
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

#: A day needs heating for every degree its mean stays below this, in °C.
HEATING_BELOW = 15.5


class Day(NamedTuple):
    date: str
    low: float
    high: float
    rain: float

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2


def read(path: str) -> dict[str, list[Day]]:
    stations: dict[str, list[Day]] = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            day = Day(row["date"], float(row["low_c"]), float(row["high_c"]), float(row["rain_mm"]))
            stations[row["station"]].append(day)
    return stations


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def longest_dry(days: list[Day]) -> tuple[int, str]:
    """Length and last day of the longest run without rain."""
    best, run = (0, "-"), 0
    for day in days:
        run = 0 if day.rain else run + 1
        best = max(best, (run, day.date))
    return best


def report(station: str, days: list[Day]) -> None:
    months: dict[str, list[Day]] = defaultdict(list)
    for day in days:
        months[day.date[:7]].append(day)
    print(f"{station}: {len(days)} days")
    print("  month     mean °C   rain mm")
    for month, of_month in months.items():
        print(f"  {month} {mean(d.mean for d in of_month):10.1f} {sum(d.rain for d in of_month):9.1f}")
    warm, cold = max(days, key=lambda d: d.high), min(days, key=lambda d: d.low)
    dry, until = longest_dry(days)
    need = sum(max(0.0, HEATING_BELOW - d.mean) for d in days)
    print(f"  warmest {warm.high:.1f} °C on {warm.date}, coldest {cold.low:.1f} °C on {cold.date}")
    print(f"  longest dry spell {dry} days, until {until}; heating need {need:.0f} degree days")


def main() -> None:
    for station, days in read(sys.argv[1]).items():
        report(station, days)


if __name__ == "__main__":
    main()
