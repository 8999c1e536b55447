"""python -m tests.simulation: live through seeds, and say which broke a promise.

python -m tests.simulation --seeds 10000            seeds 0 to 9999, on all cores
python -m tests.simulation --seed 4711 --trace      one of them again, told line by line
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

#: Sets of words are walked in an order that depends on this; a seed is to mean the same everywhere.
HASHES = "0"
CHUNK = 20
PROGRESS_S = 60.0


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != HASHES:
        os.environ["PYTHONHASHSEED"] = HASHES
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    options = _options()
    if options.mutations is not None:
        return _mutations(options.mutations, options.jobs, options.output)
    if options.seed is not None:
        return _one(options.seed, options.trace, options.output)
    return _many(range(options.first, options.first + options.seeds), options.jobs, options.output)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--seed", type=int, help="live through this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell what happens")
    parser.add_argument(
        "--mutations", nargs="*", metavar="NAME", help="plant each known defect, or these, and catch it"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return parser.parse_args()


def _one(seed: int, trace: bool, output: str) -> int:
    from tests.simulation import patches, scenario

    with patches.simulated():
        verdict = scenario.run(seed, tracing=trace)
    for line in verdict.trace:
        print(line)
    if output == "json":
        print(json.dumps({"seed": seed, "digest": f"{verdict.digest:08x}", "broken": verdict.broken}))
    else:
        print(
            f"seed {seed}: {verdict.seconds:.0f} virtual seconds, {verdict.attempts} attempts of {verdict.jobs} jobs,"
        )
        print(f"digest {verdict.digest:08x}; {'; '.join(verdict.broken) or 'every promise was kept'}")
    return 1 if verdict.broken else 0


def lived(seeds: range) -> list[dict[str, object]]:
    """A share of the seeds, in one process of the pool."""
    from tests.simulation import patches, scenario

    with patches.simulated():
        return [
            {
                "seed": v.seed,
                "broken": v.broken[:5],
                "seconds": v.seconds,
                "jobs": v.jobs,
                "attempts": v.attempts,
                "seen": v.seen,
            }
            for v in map(scenario.run, seeds)
        ]


def caught(name: str) -> tuple[str, int | None, str]:
    """Return the first seed that catches a planted defect, and what it says. That seed is fine without the defect."""
    from tests.simulation import patches, scenario
    from tests.simulation.mutations import MUTATIONS, planted

    (mutation,) = (m for m in MUTATIONS if m.name == name)
    with patches.simulated():
        for seed in range(mutation.first, mutation.first + mutation.seeds):
            with planted(mutation):
                verdict = scenario.run(seed)
            if verdict.broken and not scenario.run(seed).broken:
                return name, seed, verdict.broken[0]
    return name, None, ""


def _mutations(names: list[str], jobs: int, output: str) -> int:
    from tests.simulation.mutations import MUTATIONS

    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        found = {name: (seed, said) for name, seed, said in pool.map(caught, [one.name for one in chosen])}
    if output == "json":
        print(json.dumps(found))
    for mutation in chosen if output == "text" else ():
        seed, said = found[mutation.name]
        told = f"caught by seed {seed}: {said}"
        if seed is None:
            told = f"NOT CAUGHT within {mutation.seeds} seeds from {mutation.first}"
        print(f"{mutation.name}: {mutation.sentence}\n    {told}")
    return 1 if any(seed is None for seed, _ in found.values()) else 0


def _shares(seeds: range) -> Iterator[range]:
    for start in range(seeds.start, seeds.stop, CHUNK):
        yield range(start, min(start + CHUNK, seeds.stop))


def _many(seeds: range, jobs: int, output: str) -> int:
    began = told = time.monotonic()
    done = 0
    totals: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    failed: dict[int, list[str]] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        for verdicts in pool.map(lived, _shares(seeds)):
            for verdict in verdicts:
                totals.update({name: verdict[name] for name in ("seconds", "jobs", "attempts")})  # type: ignore[misc]
                seen.update(verdict["seen"])  # type: ignore[arg-type]
                if verdict["broken"]:
                    failed[verdict["seed"]] = verdict["broken"]  # type: ignore[index,assignment]
                    if output == "text":
                        print(f"seed {verdict['seed']}: {verdict['broken']}", flush=True)
            done += len(verdicts)
            if time.monotonic() - told >= PROGRESS_S:
                told = time.monotonic()
                print(f"{done} of {len(seeds)} seeds, {len(failed)} broke a promise", file=sys.stderr, flush=True)
    took = time.monotonic() - began
    report = {
        "seeds": len(seeds),
        "first": seeds.start,
        "failed": {str(seed): broken for seed, broken in failed.items()},
        "virtual_hours": round(totals["seconds"] / 3600, 1),
        "jobs": totals["jobs"],
        "attempts": totals["attempts"],
        "seconds": round(took, 1),
        "seen": dict(sorted(seen.items())),
    }
    if output == "json":
        print(json.dumps(report))
    else:
        print(
            f"{len(seeds)} seeds from {seeds.start}: {len(failed)} broke a promise. {report['virtual_hours']} virtual"
            f" hours, {report['jobs']} jobs, {report['attempts']} attempts, in {report['seconds']} s"
        )
        print("faults and sights: " + ", ".join(f"{name} {count}" for name, count in report["seen"].items()))
        if failed:
            print(f"again: make sim SEED={min(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
