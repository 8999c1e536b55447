"""A short delivery round: from the depot past every stop and back.

    python3 plan_round.py stops.csv [SEED]

Begins with the nearest stop each time, then turns stretches around and moves stops as long as that makes the round
shorter (2-opt), from several random starts. Not the best round there is, but a good one in a second.
"""

import csv
import math
import random
import sys

STARTS = 6

Place = tuple[str, float, float]


def read(path: str) -> list[Place]:
    with open(path, newline="") as file:
        return [(row["stop"], float(row["x_km"]), float(row["y_km"])) for row in csv.DictReader(file)]


def distances(places: list[Place]) -> list[list[float]]:
    return [[math.dist(a[1:], b[1:]) for b in places] for a in places]


def length(order: list[int], km: list[list[float]]) -> float:
    return sum(km[a][b] for a, b in zip(order, order[1:] + order[:1], strict=True))


def nearest_first(start: int, km: list[list[float]]) -> list[int]:
    order, left = [start], set(range(len(km))) - {start}
    while left:
        order.append(min(left, key=lambda n: km[order[-1]][n]))
        left.remove(order[-1])
    return order


def untangle(order: list[int], km: list[list[float]]) -> list[int]:
    """Turn around stretches between two edges while that helps."""
    count, better = len(order), True
    while better:
        better = False
        for i in range(count - 1):
            for j in range(i + 2, count - (i == 0)):
                a, b, c, d = order[i], order[i + 1], order[j], order[(j + 1) % count]
                if km[a][c] + km[b][d] < km[a][b] + km[c][d] - 1e-9:
                    order[i + 1 : j + 1] = reversed(order[i + 1 : j + 1])
                    better = True
    return order


def main() -> None:
    places = read(sys.argv[1])
    dice = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    km = distances(places)
    print(f"{len(places)} places; in the order of the list the round is {length(list(range(len(places))), km):.1f} km")
    best: list[int] = []
    for start in [0, *dice.sample(range(1, len(places)), STARTS - 1)]:
        order = untangle(nearest_first(start, km), km)
        print(f"  from {places[start][0]:8} {length(order, km):6.1f} km", flush=True)
        best = order if not best or length(order, km) < length(best, km) else best
    at = best.index(0)
    best = best[at:] + best[:at]
    print(f"best: {length(best, km):.1f} km, by way of {', '.join(places[n][0] for n in best[1:6])}, …")


if __name__ == "__main__":
    main()
