"""No secret is ever shown: real commands with known ones, whatever goes wrong."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from taoemb.errors import InputError
from taoemb.plain import keep_secrets_out_of_logs, without_secrets
from taoemb.secret_file import read_secret

SECRET = "S3CRET-tulip-77"
URLS = [
    f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:1/shop",
    f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:port/shop",
    f"postgresql://ann:x@{SECRET}@127.0.0.1:1/shop",
    f"postgresql://ann:{SECRET}/x@127.0.0.1:1/shop",
    f"postgresql://ann:x/{SECRET}@127.0.0.1:1/shop",
    f"postgresql://127.0.0.1:1/shop?user=ann&password={SECRET}",
    f"postgresql://ann:{SECRET}@127.0.0.1:1/shop?bogus=1",
    f"mysql://ann:{SECRET}@127.0.0.1/shop",
    f"sqlite://ann:{SECRET}@127.0.0.1/shop",
    f"[postgresql://ann:{SECRET}@127.0.0.1/shop]",
    f"{{a: 'postgresql://ann:{SECRET}@127.0.0.1/shop'}}",
]


def test_no_command_shows_the_databases_password(tmp_path: Path) -> None:
    script = tmp_path / "all.py"  # one process for all: importing takes seconds
    script.write_text(
        "import sys\nfrom taoemb.cli.main import main\n"
        f"for url in {URLS!r}:\n"
        "    try:\n        main(['serve', 'migrate', '--set', 'events.timeout_s=1', '--set', 'events.url=' + url])\n"
        "    except SystemExit as done:\n        print('exit', done.code)\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert SECRET not in said
    assert "Traceback" not in said
    assert done.stdout.count("exit") == len(URLS), said
    assert "***" in said


def test_no_command_shows_a_token_that_its_file_holds_wrongly(tmp_path: Path) -> None:
    for number, content in enumerate((f"one\n{SECRET}", f"{SECRET}\x07", f"é{SECRET}", "", " \n")):
        file = tmp_path / f"token-{number}"
        file.write_text(content)
        with pytest.raises(InputError) as refused:
            read_secret(file, "judge.api_key_file")
        assert SECRET not in str(refused.value)
        assert str(file) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"postgresql://ann:{SECRET}@h/d: gone", "postgresql://ann:***@h/d: gone"),
        (f"http://:{SECRET}@h", "http://:***@h"),
        (f"ann:x@y{SECRET}@h: http://ann:x@y{SECRET}@h/", "http://ann:***@h/"),
        (f"?user=ann&password={SECRET}&x=1", "?user=ann&password=***&x=1"),
        (f"Illegal header value b'Bearer {SECRET}'", "Illegal header value b'Bearer ***'"),
        ("http://127.0.0.1:8080/search?a=1@2 at 10:30", "http://127.0.0.1:8080/search?a=1@2 at 10:30"),
        ("the bearer of a token: token_file /etc/x", "the bearer of a token: token_file /etc/x"),
        ("kserve://search/encoder: cosine 0.5 = half", "kserve://search/encoder: cosine 0.5 = half"),
    ],
)
def test_messages_of_libraries_lose_what_looks_like_a_secret(text: str, shown: str) -> None:
    assert shown in without_secrets(text)


def test_what_libraries_log_loses_it_too(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    keep_secrets_out_of_logs()
    try:
        logging.getLogger("some.library").warning("lost %s", f"amqp://ann:{SECRET}@h")
        assert caplog.messages == ["lost amqp://ann:***@h"]
    finally:
        logging.setLogRecordFactory(before)
