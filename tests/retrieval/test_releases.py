"""History under an alias: roll back, prune, and nothing is ever searched by a release that is not bound to it."""

import pytest

from taoemb.errors import InputError, TaoembError
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.publish import publish
from taoemb.retrieval.registry import CollectionEntry, ReleaseEntry
from taoemb.retrieval.releases import list_releases, prune, rollback
from taoemb.retrieval.search import search
from tests.retrieval.tiny_shop import shop, write_items


@pytest.fixture
def data(tmp_path):
    return write_items(tmp_path / "data", shop(30))


def statuses(config) -> dict[str, str]:
    return {entry.digest: entry.status for entry in list_releases(config)}


def collections(config) -> set[str]:
    with MilvusStore(config) as store:
        return {name for name in store.client.list_collections() if not name.endswith("_releases")}


def test_rolling_back_goes_one_release_back_each_time(releases, config, data):
    base, query_only, other = (
        release.manifest.digest for release in (releases.base, releases.query_only, releases.other)
    )
    for release in (releases.base, releases.query_only, releases.other):
        publish(release, data, config)
    assert [entry.digest for entry in list_releases(config)] == [other, query_only, base]
    assert statuses(config) == {base: "retired", query_only: "retired", other: "active"}

    back = rollback(config)
    assert (back.digest, back.status) == (query_only, "active")
    with MilvusStore(config) as store:
        assert store.alias_target() == back.collection
    assert search("red sofa", config)[0] == query_only
    assert rollback(config).digest == base
    with pytest.raises(InputError, match="no earlier release"):
        rollback(config)
    assert rollback(config, other[:8]).digest == other
    assert statuses(config) == {base: "retired", query_only: "retired", other: "active"}


def test_rolling_back_to_what_is_not_there_is_refused(releases, config, data):
    with pytest.raises(InputError, match="no earlier release"):
        rollback(config)
    publish(releases.base, data, config)
    with pytest.raises(InputError, match="is active already"):
        rollback(config, releases.base.manifest.digest)
    with pytest.raises(InputError, match="not published under alias taoemb"):
        rollback(config, releases.other.manifest.digest)
    first = publish(releases.other, data, config)
    publish(releases.base, data, config)
    with MilvusStore(config) as store:
        store.drop(first.collection)
    with pytest.raises(TaoembError, match="is gone; publish it again"):
        rollback(config)
    assert statuses(config)[releases.base.manifest.digest] == "active"


def test_publishing_the_active_release_again_keeps_its_way_back(releases, config, data):
    publish(releases.base, data, config)
    publish(releases.other, data, config)
    publish(releases.other, data, config)
    assert rollback(config).digest == releases.base.manifest.digest


def test_prune_keeps_the_active_one_its_way_back_and_shared_collections(releases, config, data):
    base, other = (publish(release, data, config).collection for release in (releases.base, releases.other))
    publish(releases.query_only, data, config)  # active in base's collection; goes back to other
    forgotten, dropped = prune(config, 0)
    assert [entry.digest for entry in forgotten] == [releases.base.manifest.digest]
    assert dropped == []
    assert collections(config) == {base, other}
    assert rollback(config).digest == releases.other.manifest.digest


def test_prune_drops_what_nothing_is_bound_to(releases, config, data):
    other, base = (publish(release, data, config).collection for release in (releases.other, releases.base))
    publish(releases.query_only, data, config)
    assert prune(config, 2) == ([], [])
    forgotten, dropped = prune(config, 1)
    assert [entry.digest for entry in forgotten] == [releases.other.manifest.digest]
    assert (dropped, collections(config)) == ([other], {base})
    with pytest.raises(InputError, match="not bound"):
        search("red sofa", config, releases.other.path)
    assert publish(releases.other, data, config).embedded == 30


def test_prune_leaves_other_aliases_and_staged_releases_alone(releases, config, data):
    staging = config.model_copy(update={"alias": "staging"})
    publish(releases.other, data, staging)
    for release in (releases.other, releases.base, releases.query_only):
        publish(release, data, config)
    forgotten, dropped = prune(config, 0)
    assert ([entry.alias for entry in forgotten], dropped) == (["taoemb"], [])
    assert search("red sofa", staging)[0] == releases.other.manifest.digest
    publish(releases.base, data, staging, activate=False)
    assert prune(staging, 0) == ([], [])
    with pytest.raises(InputError, match="--keep -1"):
        prune(config, -1)


def test_an_interrupted_prune_ends_in_the_next_one(releases, config, data, monkeypatch):
    other, base = (publish(release, data, config).collection for release in (releases.other, releases.base))
    publish(releases.query_only, data, config)
    with monkeypatch.context() as patched:
        patched.setattr(MilvusStore, "drop", lambda self, name: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prune(config, 0)
    assert collections(config) == {other, base}
    assert prune(config, 0) == ([], [other])
    assert collections(config) == {base}


def test_a_dropped_collection_is_filled_again(releases, config, data):
    name = publish(releases.base, data, config).collection
    with MilvusStore(config) as store:
        store.drop(name)
    with pytest.raises(TaoembError, match="is gone; publish it again"):
        search("red sofa", config)
    assert publish(releases.base, data, config).embedded == 30
    assert len(search("red sofa", config, k=5)[1]) == 5


def test_the_registry_finds_by_the_start_of_a_digest(config):
    def entry(digest):
        return ReleaseEntry(digest, "e" * 64, "c", "taoemb", "staged", "/nowhere", 1, "2026")

    with MilvusStore(config) as store:
        store.registry.write([entry("abcdef11"), entry("abcdef22"), CollectionEntry("c", "e" * 64, "ready", "f")])
        assert store.registry.find("abcdef1").digest == "abcdef11"
        assert store.registry.find("abcde") is None  # too short to name anything
        assert store.registry.find("0" * 64) is None
        with pytest.raises(InputError, match="2 releases start so"):
            store.registry.find("abcdef")


def test_a_long_training_record_still_fits_into_the_registry(config):
    manifest = {"digest": "d" * 64, "training": {"log": "é" * 70_000}}
    entry = ReleaseEntry("d" * 64, "e" * 64, "c", "taoemb", "staged", "/nowhere", 1, "2026", manifest=manifest)
    with MilvusStore(config) as store:
        store.registry.write([entry])
        (read,) = store.registry.releases("taoemb")
    assert read.manifest == {"digest": "d" * 64}
