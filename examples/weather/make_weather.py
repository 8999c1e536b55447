"""Writes weather.csv: a year of daily weather at two stations. All of it is synthetic: no such station exists.

    python3 make_weather.py > weather.csv

The same seed gives the same file, so anybody can check that the one in the repository came from here.
"""

import csv
import math
import random
import sys
from datetime import date, timedelta

SEED = 2025
#: name, mean of the year, swing between summer and winter (both °C), share of days with rain
STATIONS = (("harbour", 11.0, 8.0, 0.42), ("hilltop", 6.5, 10.5, 0.35))


def main() -> None:
    dice = random.Random(SEED)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("date", "station", "low_c", "high_c", "rain_mm", "wind_kmh"))
    for station, mean, swing, wet in STATIONS:
        drift = 0.0
        for n in range(365):
            day = date(2025, 1, 1) + timedelta(days=n)
            # The warmest day falls in late July; the weather of yesterday lives on for a while.
            season = mean - swing * math.cos(2 * math.pi * (n - 20) / 365)
            drift = 0.8 * drift + dice.gauss(0, 1.6)
            spread = dice.uniform(2.5, 6.5)
            rain = dice.expovariate(1 / 6.0) if dice.random() < wet else 0.0
            wind = dice.gammavariate(3.0, 6.0)
            low, high = season + drift - spread, season + drift + spread
            out.writerow((day, station, f"{low:.1f}", f"{high:.1f}", f"{rain:.1f}", f"{wind:.0f}"))


if __name__ == "__main__":
    main()
