"""Writes stops.csv: sixty places of a made-up delivery round, on a plane measured in kilometres.

python3 make_stops.py > stops.csv
"""

import csv
import random
import sys

SEED = 60


def main() -> None:
    dice = random.Random(SEED)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("stop", "x_km", "y_km"))
    out.writerow(("depot", "10.0", "10.0"))
    for n in range(1, 60):
        out.writerow((f"stop-{n:02}", f"{dice.uniform(0, 20):.2f}", f"{dice.uniform(0, 20):.2f}"))


if __name__ == "__main__":
    main()
