"""`make demo`: start Windlass on a temporary folder, run the examples as real jobs, show the results, stop everything.

1. `windlass up` on a free port, with a data folder of its own;
2. an image for the examples, where a Docker Engine answers; where none does, the same work runs as plain processes;
3. each example through the command line, as a person would, its output as it comes; then the batch;
4. a table of the results, the end of everything, and a look at what was left behind.

Exits with 0 only if every result is as expected and nothing was left.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from demo_cluster import Cluster, Trouble
from demo_images import Images

HERE = Path(__file__).resolve().parent
BATCH_LIMIT_S = 180
#: How often the batch is looked at: on a small machine each look costs the jobs a bit of their time.
LOOK_S = 1.0


class Example(NamedTuple):
    """A job file, and how its job must end. `program` is what its image would run, for where there is no image."""

    file: str
    about: str
    state: str = "succeeded"
    tries: int = 1
    cause: str | None = None
    program: tuple[str, ...] = ()


EXAMPLES = (
    Example("weather/job.yaml", "a Python script over a year of weather in a CSV file"),
    Example("chain.yaml", "a shell chain, a && b && c"),
    Example("delivery/job.yaml", "an application image with its own input", program=("python3", "plan_round.py")),
    Example("flaky.yaml", "a job that fails twice and then succeeds", tries=3),
    Example("time-limit.yaml", "a job that hits its time limit", state="failed", tries=2, cause="timeout"),
)
BATCH = Example("batch.yaml", "two hundred jobs: Goldbach's conjecture up to 100,000")


class Result(NamedTuple):
    """One line of the table."""

    name: str
    ran_in: str
    state: str
    tries: str
    cause: str
    took: float
    fault: str


def run_one(cluster: Cluster, images: Images, example: Example) -> Result:
    """Submit one example, show its output, and hold its end against what was expected."""
    title(example.about)
    began = time.monotonic()
    path, ran_in = written(cluster, images, example)
    job = cluster.windlass("submit", "-f", str(path), shown=f"submit -f {example.file}").strip()
    cluster.show("logs", "-f", job)
    cluster.windlass("wait", job, ok=None)
    status = json.loads(cluster.windlass("show", "-o", "json", job))
    tries = status["status"]["attempts"]
    last: dict[str, Any] = tries[-1] if tries else {}
    seen = (status["state"], len(tries), last.get("cause"))
    fault = "" if seen == (example.state, example.tries, example.cause) else f"{seen}: {status['status']['reason']}"
    after = f"{len(tries)} attempt{'s' if len(tries) > 1 else ''}"
    print(f"  {example.state} after {after}, as it should" if not fault else f"  UNEXPECTED: {fault}")
    return Result(
        status["name"], ran_in, status["state"], str(len(tries)), last.get("cause") or "-",
        time.monotonic() - began, fault,
    )  # fmt: skip


def run_batch(cluster: Cluster, images: Images) -> Result:
    """Submit the batch and tell how far it is until all have ended."""
    title(BATCH.about)
    began = time.monotonic()
    path, ran_in = written(cluster, images, BATCH)
    jobs = cluster.windlass("submit", "-f", str(path), shown=f"submit -f {BATCH.file}").split()
    print(f"  {len(jobs)} jobs accepted in {time.monotonic() - began:.1f} s")
    done = told = 0
    found: list[dict[str, Any]] = []
    while done < len(jobs):
        if time.monotonic() - began > BATCH_LIMIT_S:
            raise Trouble(f"after {BATCH_LIMIT_S} s only {done} of {len(jobs)} jobs have ended")
        found = json.loads(cluster.windlass("ps", "--all", "-l", "example=batch", "-o", "json"))
        done = sum(job["state"] in ("succeeded", "failed", "cancelled") for job in found)
        if done == len(jobs) or done - told >= len(jobs) // 8:
            told = done
            print(f"  {done:3} of {len(jobs)} have ended after {time.monotonic() - began:4.1f} s", flush=True)
        if done < len(jobs):
            time.sleep(LOOK_S)
    took = time.monotonic() - began
    bad = [job["id"] for job in found if job["state"] != "succeeded"]
    tries = sum(len(job["status"]["attempts"]) for job in found)
    fault = f"{len(bad)} did not succeed, such as {bad[0]}" if bad else ""
    print(f"  {len(found) / took:.0f} jobs/s" if not fault else f"  UNEXPECTED: {fault}")
    return Result(f"goldbach x {len(found)}", ran_in, "failed" if bad else "succeeded", str(tries), "-", took, fault)


def written(cluster: Cluster, images: Images, example: Example) -> tuple[Path, str]:
    """The example's job file as it can run here, in the demo's own folder; and what it runs in."""
    import yaml

    (given,) = yaml.safe_load_all((HERE / example.file).read_text())
    specs: list[dict[str, Any]] = [given] if "image" in given else given
    folder = (HERE / example.file).parent
    ran_in = "process"
    for spec in specs:
        image = images.of(spec["image"])
        if image is None:
            as_process(spec, example, folder)
        else:
            ran_in, spec["image"] = "container", image
            for volume in spec.get("volumes", ()):
                volume["source"] = volume["source"].replace("@examples@", str(HERE))
    path = cluster.folder / example.file.replace("/", "-").replace(".yaml", ".jsonl")
    path.write_text("".join(json.dumps(spec) + "\n" for spec in specs))
    return path, ran_in


def as_process(spec: dict[str, Any], example: Example, folder: Path) -> None:
    """Turn a container's spec into one for a process that does the same in the example's own folder."""
    for field in ("image", "volumes", "network"):
        spec.pop(field, None)
    if example.program:
        spec["command"] = list(example.program)
    if example.program or spec.get("workdir") != "/tmp":
        spec["workdir"] = str(folder)
    else:
        del spec["workdir"]  # it writes: let it do so in the folder every process gets


def title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def print_table(results: list[Result]) -> None:
    title("results")
    print(f"  {'JOB':<18}{'RAN IN':<12}{'STATE':<12}{'ATTEMPTS':<10}{'CAUSE':<9}{'TOOK':>7}   AS EXPECTED")
    for r in results:
        print(f"  {r.name:<18}{r.ran_in:<12}{r.state:<12}{r.tries:<10}{r.cause:<9}{r.took:>6.1f}s   {r.fault or 'yes'}")


def main() -> int:
    """The whole demo; its exit code."""
    signal.signal(signal.SIGTERM, _interrupted)
    began = time.monotonic()
    results: list[Result] = []
    faults: list[str] = []
    cluster = Cluster(allowed=[HERE])
    images = Images(HERE)
    try:
        title("windlass up")
        cluster.start()
        images.prepare(cluster.node())
        results = [run_one(cluster, images, example) for example in EXAMPLES]
        results.append(run_batch(cluster, images))
        print_table(results)
    except (Trouble, subprocess.TimeoutExpired) as trouble:
        faults.append(str(trouble))
    except KeyboardInterrupt:
        faults.append("interrupted")
    finally:
        title("stopping")
        faults += cluster.stop()
        faults += images.remove()
    faults += [f"{r.name}: {r.fault}" for r in results if r.fault]
    for fault in faults:
        print(f"demo: {fault}", file=sys.stderr)
    if not faults:
        print(f"  all is stopped and nothing is left; {time.monotonic() - began:.0f} s in all")
    return 1 if faults else 0


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    os.environ["PYTHONUNBUFFERED"] = "1"
    sys.exit(main())
