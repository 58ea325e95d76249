"""Publishing on a real Milvus Lite file: verified before it is searched, resumed after a kill, free when unchanged."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from taoemb.data.dataset import open_catalogue
from taoemb.encoder.model import Encoder
from taoemb.encoder.release import Release, load_release
from taoemb.errors import InputError, TaoembError
from taoemb.retrieval.fill import upsert_changes
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.publish import publish
from taoemb.retrieval.search import search
from taoemb.retrieval.spotcheck import spot_recall
from tests.retrieval.tiny_shop import shop, write_items


@pytest.fixture
def embedded(monkeypatch) -> list[str]:
    """The item texts that are embedded from here on."""
    texts: list[str] = []
    encode = Encoder.encode

    def counting(self, some, kind, progress=None):
        if kind == "item":
            texts.extend(some)
        return encode(self, some, kind, progress)

    monkeypatch.setattr(Encoder, "encode", counting)
    return texts


def stored(config, name: str) -> dict[str, np.ndarray]:
    """item id → vector of a whole collection."""
    with MilvusStore(config) as store:
        ids = [item for some, _ in store.hashes(name) for item in some]
        return dict(zip(*store.vectors(name, ids), strict=True)) if ids else {}


def alias(config) -> str | None:
    with MilvusStore(config) as store:
        return store.alias_target()


def test_a_published_catalogue_is_searched_like_exact_search(releases, config, tmp_path):
    items = shop(130)
    result = publish(releases.base, write_items(tmp_path / "data", items), config)
    assert (result.items, result.embedded, result.removed, result.active) == (130, 130, 0, True)
    assert result.recall == 1.0
    assert result.collection == f"taoemb_{releases.base.manifest.item_encoder_digest[:16]}"
    assert alias(config) == result.collection
    assert load_release(releases.base.path).manifest.collection == result.collection

    encoder = releases.base.item_encoder()
    texts = [f"{item['title']}{', acme' if item['brand'] else ''}" for item in items]
    expected = encoder.encode(texts, "item")
    vectors = stored(config, result.collection)
    np.testing.assert_allclose([vectors[item["item_id"]] for item in items], expected, atol=1e-6)

    digest, hits = search("blue oak lamp", config, k=7)
    assert digest == releases.base.manifest.digest
    scores = encoder.encode(["blue oak lamp"], "query")[0] @ expected.T
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:7], atol=1e-5)
    best = items[int(scores.argmax())]
    shown = {name: best[name] for name in ("item_id", "title", "brand", "category", "price")}
    assert {name: value for name, value in dataclasses.asdict(hits[0]).items() if name != "score"} == shown


def test_filters_read_the_scalar_fields(releases, config, tmp_path):
    publish(releases.base, write_items(tmp_path / "data", shop(90)), config)
    _, hits = search("red sofa", config, k=90, filter='price < 20 and brand == "acme" and signal_rating > 0.5')
    expected = {f"i{row}" for row in range(20) if row % 7 and row % 3 and row % 5 > 2}
    assert {hit.item_id for hit in hits} == expected
    with pytest.raises(InputError, match="filter"):
        search("red sofa", config, filter="price <")


def test_publishing_again_embeds_nothing(releases, config, tmp_path, embedded):
    data = write_items(tmp_path / "data", shop(60))
    publish(releases.base, data, config)
    embedded.clear()
    again = publish(releases.base, data, config)
    assert embedded == []
    assert (again.embedded, again.removed, again.recall, again.active) == (0, 0, None, True)


def test_a_new_catalogue_costs_its_changed_items(releases, config, tmp_path, embedded):
    items = shop(60)
    name = publish(releases.base, write_items(tmp_path / "data", items), config).collection
    embedded.clear()
    changed = [*items[5:], {"item_id": "new", "title": "green cork chair 77", "category": None, "price": 1.0}]
    changed[0] = {**changed[0], "title": "black glass shelf 5"}
    changed[1] = {**changed[1], "price": 99.5}  # no word of it is embedded, but it is stored
    result = publish(releases.base, write_items(tmp_path / "data", changed[::-1]), config)
    assert sorted(embedded) == sorted(["black glass shelf 5, acme", "green cork chair 77", f"{items[6]['title']}"])
    assert (result.items, result.embedded, result.removed, result.recall) == (56, 3, 5, 1.0)
    assert stored(config, name).keys() == {item["item_id"] for item in changed}
    _, hits = search("any", config, k=56)
    assert {hit.item_id: hit.price for hit in hits}["i6"] == 99.5


def test_a_query_only_release_binds_without_loading_an_item_encoder(releases, config, tmp_path, monkeypatch):
    data = write_items(tmp_path / "data", shop(60))
    first = publish(releases.base, data, config)

    def refuse(*_, **__):
        raise AssertionError("the item encoder was loaded")

    monkeypatch.setattr(Release, "item_encoder", refuse)
    second = publish(releases.query_only, data, config)
    assert second.collection == first.collection
    assert (second.embedded, second.active) == (0, True)
    digest, hits = search("blue lamp", config, k=3)
    assert digest == releases.query_only.manifest.digest
    vector = releases.query_only.query_encoder().encode(["blue lamp"], "query")[0]
    vectors = stored(config, first.collection)
    assert hits[0].score == pytest.approx(max(float(vector @ other) for other in vectors.values()), abs=1e-5)


def test_a_query_only_release_is_complete_even_when_its_parent_was_never_published(releases, config, tmp_path):
    result = publish(releases.query_only, write_items(tmp_path / "data", shop(40)), config)
    vectors = stored(config, result.collection)
    expected = releases.base.item_encoder().encode(["red oak sofa 0"], "item")[0]
    np.testing.assert_allclose(vectors["i0"], expected, atol=1e-6)


_CHILD = """
import sys, time
from pathlib import Path
from taoemb.config import MilvusConfig
from taoemb.data.dataset import open_catalogue
from taoemb.encoder.model import Encoder
from taoemb.encoder.release import load_release
from taoemb.retrieval.publish import publish

encode = Encoder.encode
def slow(self, texts, kind, progress=None):
    print("embed", flush=True)
    time.sleep(0.1)
    return encode(self, texts, kind, progress)
Encoder.encode = slow
publish(load_release(Path(sys.argv[1])), Path(sys.argv[2]), MilvusConfig(uri=sys.argv[3], batch=20))
"""


def test_a_killed_publish_goes_on_where_it_stopped(releases, config, tmp_path, embedded):
    data = write_items(tmp_path / "data", shop(400))
    command = [sys.executable, "-c", _CHILD, str(releases.base.path), str(data), config.uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for _ in range(7):  # the seventh batch begins: the fifth at least is written
            assert child.stdout.readline() == "embed\n"
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert alias(config) is None
    with pytest.raises(InputError, match="nothing is published"):
        search("red sofa", config)
    result = publish(releases.base, data, config)
    assert 400 - 7 * 20 <= len(embedded) <= 400 - 5 * 20
    assert result.embedded == len(embedded)
    texts = [f"{item['title']}{', acme' if item['brand'] else ''}" for item in shop(400)]
    vectors = stored(config, result.collection)
    expected = releases.base.item_encoder().encode(texts, "item")
    np.testing.assert_allclose([vectors[f"i{row}"] for row in range(400)], expected, atol=1e-6)


def test_a_collection_that_lacks_rows_never_gets_the_alias(releases, config, tmp_path):
    data = write_items(tmp_path / "data", shop(60))
    first = publish(releases.base, data, config)

    def lose_one(store, name, rows, hashes):
        done = upsert_changes(releases.other)(store, name, rows, hashes)
        store.delete(name, ["i7"])
        return done

    with pytest.raises(TaoembError, match="holds 59 rows for 60 items"):
        publish(releases.other, data, config, fill=lose_one)
    assert alias(config) == first.collection
    assert search("red sofa", config)[0] == releases.base.manifest.digest
    with pytest.raises(InputError, match="not bound"):
        search("red sofa", config, releases.other.path)
    mended = publish(releases.other, data, config)
    assert (mended.embedded, alias(config)) == (1, mended.collection)


def test_a_bad_index_never_gets_the_alias(releases, config, tmp_path, monkeypatch):
    data = write_items(tmp_path / "data", shop(60))
    first = publish(releases.base, data, config)
    nearest = MilvusStore.nearest

    def forgetful(self, name, vectors, k):
        return [answer[2:] for answer in nearest(self, name, vectors, k + 2)]

    with monkeypatch.context() as patched:
        patched.setattr(MilvusStore, "nearest", forgetful)
        with pytest.raises(TaoembError, match=r"spot recall@10 is 0\.800, below milvus\.min_recall 0\.95"):
            publish(releases.other, data, config)
    assert alias(config) == first.collection
    mended = publish(releases.other, data, config)
    assert (mended.embedded, mended.recall, alias(config)) == (0, 1.0, mended.collection)


@pytest.mark.parametrize(("sample", "low", "high"), [(200, 0.8, 0.8), (100, 0.7, 0.9)])
def test_spot_recall_of_a_sample_stands_for_the_whole(releases, config, tmp_path, monkeypatch, sample, low, high):
    few = config.model_copy(update={"spot_items": sample, "spot_queries": 50})
    data = write_items(tmp_path / "data", shop(200))
    assert publish(releases.base, data, few).recall == 1.0
    nearest = MilvusStore.nearest

    def forgetful(self, name, vectors, k):
        return [answer[2:] for answer in nearest(self, name, vectors, k + 2)]

    monkeypatch.setattr(MilvusStore, "nearest", forgetful)
    with MilvusStore(few) as store:
        name = publish(releases.base, data, few).collection
        assert low <= spot_recall(store, name, open_catalogue(data), "cosine") <= high


def test_a_much_smaller_catalogue_is_taken_for_a_mistake(releases, config, tmp_path):
    publish(releases.base, write_items(tmp_path / "data", shop(60)), config)
    small = write_items(tmp_path / "small", shop(20))
    with pytest.raises(InputError, match="would remove 40 of 60 items"):
        publish(releases.base, small, config)
    assert len(search("red sofa", config, k=100)[1]) == 60
    assert publish(releases.base, small, config.model_copy(update={"max_removed": 1.0})).removed == 40


def test_signals_that_appear_later_are_left_out(releases, config, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = write_items(tmp_path / "data", shop(30))
    publish(releases.base, data, config)
    table = pq.read_table(data / "items.parquet")
    pq.write_table(table.append_column("signal_sales", pa.array(np.arange(30.0))), data / "items.parquet")
    assert publish(releases.base, data, config).items == 30


def test_staged_releases_wait_for_their_turn(releases, config, tmp_path):
    data = write_items(tmp_path / "data", shop(30))
    assert not publish(releases.base, data, config, activate=False).active
    assert alias(config) is None
    assert len(search("red sofa", config, releases.base.manifest.digest[:12], k=5)[1]) == 5
    assert publish(releases.base, data, config).active


def test_a_read_only_release_folder_is_published_all_the_same(releases, config, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may always write
    before = (releases.base.path / "release.json").read_bytes()
    renamed = config.model_copy(update={"prefix": "elsewhere"})
    publish(load_release(releases.base.path), write_items(tmp_path / "data", shop(20)), renamed)
    assert (releases.base.path / "release.json").read_bytes() == before


def test_bad_catalogues_are_refused_before_anything_is_written(releases, config, tmp_path):
    with pytest.raises(InputError, match="no items"):
        publish(releases.base, write_items(tmp_path / "none", []), config)
    long = [*shop(3), {"item_id": "é" * 257, "title": "rug"}]
    with pytest.raises(InputError, match=r"items\.parquet, row 3, column 'item_id': is longer than 512 bytes"):
        publish(releases.base, write_items(tmp_path / "long", long), config)
    with pytest.raises(InputError, match=r"items\.parquet"):
        publish(releases.base, tmp_path / "missing", config)
    assert not Path(config.uri).exists()


def test_long_texts_are_cut_between_characters(releases, config, tmp_path):
    items = [*shop(12), {"item_id": "long", "title": "é" * 3000, "brand": "b" * 9999, "category": "c" * 9999}]
    publish(releases.base, write_items(tmp_path / "data", items), config)
    _, hits = search("é", config, k=13)
    found = next(hit for hit in hits if hit.item_id == "long")
    assert (found.title, found.brand, found.category) == ("é" * 1024, "b" * 512, "c" * 1024)
