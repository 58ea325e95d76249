"""Request ids: only what a gateway with the key served is taken for a page."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from taoemb.errors import InputError
from taoemb.secret_file import make_secret
from taoemb.serving.gateway import page_ids
from taoemb.serving.gateway.models import Id
from taoemb.serving.gateway.page_ids import PageIds, key_file


@pytest.fixture(scope="module")
def ids(tmp_path_factory):
    return PageIds(make_secret(tmp_path_factory.mktemp("key") / "key"), 60.0)


def test_a_page_of_ones_own_is_known_and_its_id_fits_the_tables(ids):
    made = [ids.new() for _ in range(100)]
    assert len(set(made)) == 100
    assert {ids.problem(one) for one in made} == {None}
    assert TypeAdapter(Id).validate_python(made[0]) == made[0]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_no_changed_id_is_known(ids, data):
    made = ids.new()
    at = data.draw(st.integers(0, len(made) - 1))
    other = data.draw(st.sampled_from(string.hexdigits.lower()[:16].replace(made[at], "")))
    assert ids.problem(made[:at] + other + made[at + 1 :]) == "unsigned"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=64))
def test_no_text_is_known(ids, text):
    assert ids.problem(text) == "unsigned"
    assert ids.problem(text + ids.new()[len(text) :]) in ("unsigned", None if not text else "unsigned")


def test_another_key_is_another_gateway(ids, tmp_path):
    assert PageIds(make_secret(tmp_path / "key"), 60.0).problem(ids.new()) == "unsigned"


def test_a_page_of_long_ago_is_old(tmp_path):
    now = 1_800_000_000.0
    ids = PageIds(make_secret(tmp_path / "key"), 60.0, clock=lambda: now)
    made = ids.new()
    now += 60
    assert ids.problem(made) is None
    now += 1
    assert ids.problem(made) == "old"
    now -= 3600
    assert ids.problem(made) == "old", "a page from the future"


def test_a_key_is_changed_without_losing_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(page_ids, "_READ_S", -1)
    file = tmp_path / "key"
    file.write_text("a" * 32)
    ids, other = PageIds(file, 60.0), PageIds(file, 60.0)
    before = ids.new()
    file.write_text(f"{'b' * 32}\n{'a' * 32}\n")
    assert ids.problem(before) is None
    after = ids.new()
    assert other.problem(after) is None
    file.write_text("b" * 32)
    assert (other.problem(before), other.problem(after)) == ("unsigned", None)
    file.unlink()
    assert other.problem(after) is None, "the key that was read stays"


@pytest.mark.parametrize("content", [None, "", "\n\n", "short", f"{'a' * 32}\nshort"])
def test_a_file_without_a_good_key_is_refused(tmp_path, content):
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match="page_key_file"):
        PageIds(file, 60.0)


def test_a_machine_makes_one_key_for_all_its_gateways(tmp_path):
    made = key_file(None, tmp_path / "spool")
    key = made.read_text()
    assert key_file(None, tmp_path / "spool").read_text() == key
    assert made.stat().st_mode & 0o077 == 0
    assert sorted(one.name for one in (tmp_path / "spool").iterdir()) == ["page-key"]
    assert key_file(tmp_path / "given", tmp_path) == tmp_path / "given"
