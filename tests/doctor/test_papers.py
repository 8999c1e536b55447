"""Papers of a bundle are bounded, say what is missing, and are cut only behind the redactor."""

import pytest

from windlass.doctor import papers
from windlass.doctor.papers import Papers
from windlass.doctor.redact import Redactor

SECRET = "s3cr3t-s3cr3t-s3cr3t"


def finished(made: Papers) -> tuple[dict[str, bytes], dict[str, str], dict[str, str]]:
    """Contents, what was cut, and what was left out, by name."""
    done, left_out = made.finished(Redactor())
    return (
        {paper.name: content for paper, content in done},
        {paper.name: paper.cut for paper, _ in done},
        {one.what: one.why for one in left_out},
    )


def test_each_is_bounded_and_the_newest_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(papers, "MOST", 100)
    made = Papers()
    made.put("log", "", "".join(f"line {n}\n" for n in range(100)), newest_last=True)
    made.put("events.jsonl", "", ({"n": n} for n in range(100)))
    made.put("large.json", "", {"a": "x" * 200})
    content, cut, _ = finished(made)
    assert all(len(one) <= 100 for one in content.values())
    assert content["log"].endswith(b"line 99\n")
    assert content["events.jsonl"].startswith(b'{"n":0}\n')
    assert "at its beginning" in cut["log"]
    assert "at its end" in cut["events.jsonl"]
    assert cut["large.json"].startswith("all of its")


def test_all_together_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(papers, "MOST_OF_ALL", 100)
    made = Papers()
    for n in range(4):
        made.put(f"{n}.txt", "", "x" * 40)
    content, _, left_out = finished(made)
    assert content.keys() == {"0.txt", "1.txt"}
    assert "would be over" in left_out["2.txt"]


@pytest.mark.parametrize("limit", range(5, 60, 3))
def test_no_cut_leaves_half_a_secret(monkeypatch: pytest.MonkeyPatch, limit: int):
    for name in ("MOST", "MOST_RAW"):
        monkeypatch.setattr(papers, name, limit)
    made = Papers()
    made.secrets.add(SECRET)
    for newest_last in (False, True):
        made.put(f"{newest_last}.txt", "", f"before\nit is {SECRET} here\nbehind\n", newest_last=newest_last)
    content, _, _ = finished(made)
    assert not any(b"s3c" in one or b"cr3t" in one for one in content.values())


def test_what_is_left_out_tells_no_secret_either():
    made = Papers()
    made.secrets.add(SECRET)
    made.without("ledger/", ValueError(f"no pg_hba.conf entry for {SECRET}"))
    assert SECRET not in str(finished(made))
