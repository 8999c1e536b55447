"""What docs/reference/job-spec.md claims holds."""

import inspect
import re
from pathlib import Path

import pytest
import yaml
from scripts.job_spec_doc import CAUSES, EXAMPLE, page

from windlass.cli.specfile import read
from windlass.core.fields import BACKOFF, FIELDS, RESOURCES, VOLUME, parse_spec
from windlass.core.parsers import Field
from windlass.core.spec import Backoff, JobSpec, Resources, Volume
from windlass.core.states import Cause

ROOT = Path(__file__).parents[2]


def test_its_example_is_a_valid_job() -> None:
    assert isinstance(parse_spec(yaml.safe_load(EXAMPLE)), JobSpec)


def test_every_cause_is_told() -> None:
    assert set(CAUSES) == set(Cause)


@pytest.mark.parametrize(
    ("kind", "table"),
    [(JobSpec, FIELDS), (Resources, RESOURCES), (Backoff, BACKOFF), (Volume, VOLUME)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_default_that_is_told_is_the_real_one(kind: type, table: dict[str, Field]) -> None:
    real = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    for name, row in table.items():
        if "default" in row.schema:
            assert row.parse(row.schema["default"]) == real[name], name
        else:
            assert real[name] is None or not isinstance(real[name], int | float | str) or name == "driver", name


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_valid_jobs(path: Path) -> None:
    text = path.read_text().replace("@examples@", "/examples")
    for job in read(text, path.name):
        assert isinstance(parse_spec(job.spec), JobSpec), job.place()


def test_what_is_generated_in_examples_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    for maker, made in (
        ("make_batch.py", "batch.yaml"),
        ("weather/make_weather.py", "weather/weather.csv"),
        ("delivery/make_stops.py", "delivery/stops.csv"),
    ):
        code = (ROOT / "examples" / maker).read_text()
        exec(compile(code, maker, "exec"), {"__name__": "__main__"})
        assert capsys.readouterr().out == (ROOT / "examples" / made).read_text(), made


def test_the_page_names_no_field_that_is_not_one() -> None:
    named = set(re.findall(r"^\| `([a-z_]+)` \|", page(), re.MULTILINE))
    assert named <= FIELDS.keys() | RESOURCES.keys() | BACKOFF.keys() | VOLUME.keys() | {cause.value for cause in Cause}
