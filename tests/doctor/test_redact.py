"""Nothing that is a secret gets through, in whichever form it is written; what is none stays readable."""

import base64
import json
import os
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from windlass.doctor.redact import HIDDEN, Redactor, of_url, redactor
from windlass.sources import load

SECRET = 'S3cr3t/+ &="é\\p'
TOKEN = "wl_" + "a1B2" * 9 + "zz"


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower().replace("s3cr3t", "S3cr3t"),
        quote_plus(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        repr(SECRET),
        json.dumps({"a": SECRET}),
        json.dumps({"a": json.dumps({"b": SECRET})}),
        json.dumps(repr(SECRET)),
        quote(quote(SECRET, safe=""), safe=""),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_known_secret_in_every_form(written: str):
    shown = Redactor([SECRET]).text(f"before {written} behind")
    assert "S3cr3t" not in shown
    assert "UzNjcj" not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" behind")


KEY = f"-----BEGIN PRIVATE KEY-----\n{'MIIkey' * 10}\n{'q9' * 30}\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "text",
    [
        f"it said {TOKEN} to us",
        "Authorization: Bearer q9q9q9q9",
        "Authorization: Token q9q9q9q9",
        "authorization=Basic cTlxOTpxOXE5OXE5",
        "Cookie: a=q9q9; session=q9q9q9",
        "password=q9q9q9q9",
        "password='q9 q9 q9'",
        '{"db_password": "q9 \\"q9 q9"}',
        '{"line": "{\\"password\\": \\"q9 q9\\", \\"a\\": 1}"}',
        '{"token": "q9q9q9"}',
        "https://api/x?token=q9q9q9&b=1",
        "https://api/x?api%5Fkey=1&secret%3Dq9q9",
        "postgresql://u:q9q9@host/db",
        "https://q9q9q9@github.com/a/b",
        "AWS_SECRET_ACCESS_KEY: q9q9q9",
        "ENCRYPTION_KEY=q9q9q9",
        "mysql --password q9q9q9 -h x",
        '["mysql", "--password", "q9q9q9"]',
        KEY,
        json.dumps({"line": KEY}),
        "\n".join(KEY.splitlines()[2:]),
        'password="q9 and the line ends',
    ],
)
def test_what_looks_like_a_secret(text: str):
    shown = Redactor().text(text)
    assert "q9" not in shown
    assert "cTlx" not in shown
    assert "MIIkey" not in shown
    assert TOKEN not in shown
    assert HIDDEN in shown


@pytest.mark.parametrize(
    "text",
    [
        "token 'ci' (submitter) ends 2026-11-27",
        "WINDLASS_DATABASE_URL_FILE=/run/secrets/database-url",
        "api.admin_token_file: /run/secrets/token",
        '{"event": "job_ended", "job_id": "job_01", "exit_code": 1}',
        'windlass_queue_depth{queue="default"} 5\n',
        "tokens: 3 valid",
    ],
)
def test_what_is_none_stays(text: str):
    assert Redactor().text(text) == text


def test_what_stands_under_a_name():
    told = {"password": "a", "list": [{"api_key": "b"}], "secret": {"x": 1}, "n": 5, "secret_file": "/f"}
    assert Redactor().value(told) == told | {"password": HIDDEN, "list": [{"api_key": HIDDEN}], "secret": HIDDEN}


def test_where_secrets_are_known_from(tmp_path: Path):
    digits, held = tmp_path / "password", tmp_path / "credentials.json"
    digits.write_text("1234567890\n")
    held.write_text(json.dumps({"token": "from-a-json-file", "node": "node_1"}))
    settings = load(None, {"database.url": "postgresql://u:from%2Fa-url@h/db?sslpassword=from-its-query"}, {})
    environ = {
        "PGPASSWORD": "from-a-variable", "OTEL_EXPORTER_OTLP_HEADERS": "x=from-a-header,y=from-another",
        "HTTPS_PROXY": "http://me:from-a-proxy@h", "HOME": "/root",
    }  # fmt: skip
    hide = redactor(settings, [digits, held, tmp_path / "not there", tmp_path], environ)
    secrets = ["1234567890", "from-a-json-file", "from/a-url", "from%2Fa-url", "from-its-query", "from-a-variable",
               "from-a-header", "from-another", "from-a-proxy"]  # fmt: skip
    assert [one for one in secrets if one in hide.text(" ".join(secrets))] == []
    assert hide.text("/root node_1") == "/root node_1"


def test_a_password_that_breaks_its_url_is_known():
    assert "p/w#x" in of_url("postgresql://u:p/w#x@host/db")


def test_a_hostile_line_takes_no_time():
    """So long that all but linear work would not come to its end."""
    for line in (
        "-" * 1_000_000,
        "a-" * 500_000,
        "token" * 200_000,
        "://" + "a:" * 500_000,
        '"\\' * 500_000,
        "password=" * 100_000,
    ):
        Redactor([SECRET]).text(f"{line}\n" * 3)


def test_a_fifo_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    redactor(load(None, {}, {}), [tmp_path / "pipe"], {})
