"""Run the benchmarks and print a table: `python -m bench [NAME ...] [--quick] [--check]`, or
`python -m bench failover`, `python -m bench overhead` or `python -m bench compose`."""

import argparse
import asyncio
import sys
import time

from bench import api, backlog, commands, compose, containers, disk, failover, jobs, memory, overhead
from bench.cluster import cluster
from bench.promises import PROMISED, missed
from bench.report import Row, machine, table

MEASURES = {
    "noop": jobs.noop,
    "latency": jobs.latency,
    "submit": api.submit,
    "batch": api.batch,
    "memory": memory.idle,
    "containers": containers.rate,
    "backlog": backlog.rate,
    "disk": disk.ledger,
    "commands": commands.rate,
}


def main() -> None:
    """Each measure gets a fresh cluster."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MEASURES, []], help="which measures; default all")
    parser.add_argument("--quick", action="store_true", help="smaller counts, rougher figures")
    parser.add_argument("--check", action="store_true", help="hold ratios to the promised ones; exit 1 on a miss")
    asked = parser.parse_args()
    print(machine())
    rows: list[Row] = []
    misses: list[str] = []
    for name in asked.names or (PROMISED if asked.check else MEASURES):
        began = time.monotonic()
        with cluster() as (port, supervisor):
            found = asyncio.run(MEASURES[name](port, supervisor, asked.quick))
        rows += found
        if asked.check and name in PROMISED:
            misses += missed(name, found)
        for row in found:
            print(f"  {row.what}: {row.value}   [{time.monotonic() - began:.0f} s]", flush=True)
    print()
    print(table(rows))
    if misses:
        sys.exit("\n".join(misses))


if __name__ == "__main__":
    if sys.argv[1:2] == ["failover"]:
        failover.main(sys.argv[2:])
    elif sys.argv[1:2] == ["overhead"]:
        overhead.main(sys.argv[2:])
    elif sys.argv[1:2] == ["compose"]:
        compose.main(sys.argv[2:])
    else:
        main()
