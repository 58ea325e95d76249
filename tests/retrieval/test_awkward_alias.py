"""An alias that another owner set stays where it is: no publish, rollback, prune or rollout moves or empties it."""

from pathlib import Path

import pytest

from taoemb.config import Config, MilvusConfig
from taoemb.errors import InputError
from taoemb.retrieval import publish as publishing
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.publish import publish
from taoemb.retrieval.releases import list_releases, prune, rollback
from taoemb.rollout.local.backend import activate
from tests.retrieval.conftest import Releases
from tests.retrieval.tiny_shop import shop, write_items


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_items(tmp_path_factory.mktemp("shop") / "d", shop(60))


def target(config: MilvusConfig, alias: str = "taoemb") -> str | None:
    with MilvusStore(config.model_copy(update={"alias": alias})) as store:
        return store.alias_target()


def someone_elses(config: MilvusConfig, alias: str = "taoemb") -> None:
    with MilvusStore(config) as store:
        store.client.create_collection("products", dimension=8)
        if store.alias_target() is None:
            store.client.create_alias("products", alias)
        else:
            store.client.alter_alias("products", alias)


def test_awkward_alias_of_another_program(
    releases: Releases, config: MilvusConfig, data: Path, monkeypatch: pytest.MonkeyPatch, run_cli
) -> None:
    someone_elses(config)
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "upsert_changes", None)  # nothing is embedded
        done = run_cli("publish", "--release", releases.base.path, "--data", data, "--milvus", config.uri)
    assert done.code == 2
    (said,) = done.err.strip().splitlines()
    assert "alias taoemb names collection products, which was not published here (milvus.prefix taoemb)" in said
    assert "choose another milvus.alias" in said
    assert target(config) == "products"
    published = publish(releases.base, data, config, activate=False)  # staged it may be
    assert not published.active
    with pytest.raises(InputError, match="names collection products"):
        rollback(config, to=releases.base.manifest.digest)
    with pytest.raises(InputError, match="names collection products"):
        activate(Config(milvus=config), releases.base.manifest.digest)
    assert target(config) == "products"
    own = config.model_copy(update={"alias": "mine"})
    assert publish(releases.base, data, own).active
    assert (target(config), target(config, "mine")) == ("products", published.collection)


def test_awkward_alias_taken_away_in_the_middle(releases: Releases, config: MilvusConfig, data: Path) -> None:
    publish(releases.base, data, config)
    publish(releases.other, data, config)
    someone_elses(config)
    for act in (
        lambda: rollback(config),
        lambda: publish(releases.query_only, data, config),
        lambda: publish(releases.other, data, config),
    ):
        with pytest.raises(InputError, match="names collection products"):
            act()
    assert target(config) == "products"
    prune(config, 0)
    assert target(config) == "products"


def test_awkward_two_prefixes_with_one_alias(releases: Releases, config: MilvusConfig, data: Path) -> None:
    first = publish(releases.base, data, config)
    other = config.model_copy(update={"prefix": "second"})
    with pytest.raises(InputError, match=r"alias taoemb names collection taoemb_.*milvus\.prefix second"):
        publish(releases.other, data, other)
    assert target(config) == first.collection
    apart = other.model_copy(update={"alias": "second"})
    second = publish(releases.other, data, apart)
    publish(releases.other, data, other, activate=False)
    with pytest.raises(InputError, match=r"milvus\.prefix second"):
        rollback(other, to=releases.other.manifest.digest)
    assert (target(config), target(config, "second")) == (first.collection, second.collection)
    prune(apart, 0)
    prune(other, 0)
    assert [entry.status for entry in list_releases(config)] == ["active"]


def test_awkward_alias_that_is_a_collection(releases: Releases, config: MilvusConfig, data: Path) -> None:
    with MilvusStore(config) as store:
        store.client.create_collection("taoemb", dimension=8)
    with pytest.raises(InputError, match=r"milvus\.alias taoemb is the name of a collection"):
        publish(releases.base, data, config)


def test_awkward_prune_keeps_what_an_alias_names(releases: Releases, config: MilvusConfig, data: Path) -> None:
    """Somebody moved the alias by hand, or has one of their own."""
    names = {}
    for name, release in (("base", releases.base), ("other", releases.other), ("query", releases.query_only)):
        names[name] = publish(release, data, config).collection
    publish(releases.other, data, config)
    with MilvusStore(config) as store:
        store.client.create_alias(names["base"], "theirs")
    prune(config, 0)
    assert target(config, "theirs") == names["base"]
    with MilvusStore(config) as store:
        assert store.count(names["base"]) == 60


def test_awkward_release_of_another_alias_is_activated_under_ones_own(
    releases: Releases, config: MilvusConfig, data: Path
) -> None:
    """A rollout makes active what was published under a staging alias, and leaves that one alone."""
    base = publish(releases.base, data, config)
    staging = config.model_copy(update={"alias": "staging"})
    other = publish(releases.other, data, staging)
    activate(Config(milvus=config), releases.other.manifest.digest)
    assert (target(config), target(config, "staging")) == (other.collection, other.collection)
    assert {entry.alias: entry.status for entry in list_releases(staging)} == {"staging": "active"}
    rollback(config)
    assert (target(config), target(config, "staging")) == (base.collection, other.collection)
