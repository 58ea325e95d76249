"""What an audit says follows from what was answered: silence is no clean bill."""

import pytest

from scripts.audit import UNKNOWN, locks, read, verdict

GOOD = {"name": "httpx", "version": "0.28.1", "vulns": []}
BAD = {
    "name": "old",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "X", "fix_versions": []}],
}
SILENT = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13)"}


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([GOOD], 0, "no known vulnerability in 1 packages"),
        ([GOOD, BAD], 1, "old 1.0: PYSEC-1 (mended in 1.1)"),
        ([BAD], 1, "X (mended in no version yet)"),
        ([GOOD, SILENT], 1, "not answered for: torch"),
        ([SILENT, SILENT], UNKNOWN, "nothing is known"),
        ([], UNKNOWN, "nothing is known"),
    ],
)
def test_an_audit_knows_what_it_does_not_know(packages, code, words):
    found, lines = verdict({"lock": read({"dependencies": packages})})
    assert found == code
    assert words in "\n".join(lines)


def test_every_lock_is_asked_about():
    names = {lock.relative_to(lock.parents[1]).as_posix() for lock in locks()}
    assert names >= {"judge/requirements.txt", "serving/requirements.txt", "trainer/requirements.txt", "torch/cpu.txt"}
