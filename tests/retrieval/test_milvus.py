"""The store itself: opening, closing, and the gate in front of every search."""

import subprocess
import sys

import numpy as np
import pytest

from taoemb.config import MilvusConfig
from taoemb.errors import InputError, TaoembError
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.publish import publish
from taoemb.retrieval.search import search
from tests.retrieval.tiny_shop import shop, write_items


@pytest.fixture
def data(tmp_path):
    return write_items(tmp_path / "data", shop(30))


def test_the_gate_refuses_a_release_that_is_not_bound(releases, config, data):
    publish(releases.base, data, config)
    bound, stranger = releases.base.manifest.digest, releases.query_only.manifest.digest
    vector = np.ones((1, 32), dtype=np.float32)
    with MilvusStore(config) as store:
        assert len(store.search(vector, bound, 3)[0]) == 3
        with pytest.raises(InputError) as refused:
            store.search(vector, stranger, 3)
    assert stranger[:16] in str(refused.value)
    assert bound[:16] in str(refused.value)


def test_the_gate_refuses_another_release_s_collection(releases, config, data):
    theirs = publish(releases.base, data, config).collection
    publish(releases.other, data, config)
    vector, digest = np.ones((1, 32), dtype=np.float32), releases.other.manifest.digest
    with MilvusStore(config) as store:
        assert store.search(vector, digest, 3, collection=config.alias)  # the alias names its own collection
        with pytest.raises(InputError) as refused:
            store.search(vector, digest, 3, collection=theirs)
        with pytest.raises(InputError, match="is bound to"):
            store.search(vector, releases.base.manifest.digest, 3, collection=config.alias)
    for release in (releases.base, releases.other):
        assert release.manifest.item_encoder_digest[:16] in str(refused.value)


def test_a_collection_of_another_item_encoder_is_refused_by_its_property(releases, config, data):
    manifest = releases.base.manifest
    name = f"taoemb_{manifest.item_encoder_digest[:16]}"
    with MilvusStore(config) as store:
        store.create_collection(name, 32, "cosine", (), "f" * 64)
    with pytest.raises(InputError, match=f"embedded by item encoder {'f' * 16}, not by {name[7:]}"):
        publish(releases.base, data, config)


@pytest.mark.parametrize("k", [0, 16_385])
def test_k_has_limits(releases, config, data, k):
    publish(releases.base, data, config)
    with pytest.raises(InputError, match=f"k={k}"):
        search("red sofa", config, k=k)


@pytest.mark.parametrize("index", ["FLAT", "IVF_FLAT"])
def test_other_indexes(releases, config, data, index):
    other = config.model_copy(update={"index": index})
    assert publish(releases.base, data, other).recall == 1.0
    assert len(search("red sofa", other, k=4)[1]) == 4


def test_search_finds_the_release_s_folder_or_says_that_it_is_gone(releases, config, data, tmp_path):
    import shutil

    from taoemb.encoder.release import load_release

    shutil.copytree(releases.other.path, tmp_path / "release")
    publish(load_release(tmp_path / "release"), data, config)
    assert search("red sofa", config, k=1)[1]
    shutil.rmtree(tmp_path / "release")
    with pytest.raises(InputError, match=r"its folder .* is gone; give --release DIR"):
        search("red sofa", config)
    assert search("red sofa", config, releases.other.path, k=1)[1]
    shutil.copytree(releases.base.path, tmp_path / "release")
    with pytest.raises(InputError, match="holds release"):
        search("red sofa", config)
    with pytest.raises(InputError, match="query is empty"):
        search("  ", config)


@pytest.mark.parametrize("uri", ["shop.txt", "a host", "host:19530"])
def test_an_address_that_is_none_is_refused(uri):
    with pytest.raises(InputError, match=r"give a file that ends with \.db"):
        MilvusStore(MilvusConfig(uri=uri))


def test_a_server_that_does_not_answer_is_one_line():
    with pytest.raises(TaoembError, match=r"^cannot open Milvus at http://127\.0\.0\.1:1 .*$") as failed:
        MilvusStore(MilvusConfig(uri="http://127.0.0.1:1"))
    assert "\n" not in str(failed.value)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "junk.db").write_text("junk")
    with pytest.raises(TaoembError, match="no Milvus Lite file"):
        MilvusStore(MilvusConfig(uri=str(tmp_path / "junk.db")))


def test_a_token_file_is_read(tmp_path, config):
    with pytest.raises(InputError, match="token_file"):
        MilvusStore(config.model_copy(update={"token_file": tmp_path / "missing"}))
    (tmp_path / "token").write_text("root:secret\n")
    with MilvusStore(config.model_copy(update={"token_file": tmp_path / "token"})) as store:
        assert store.registry.releases() == []


_OPEN = """
import sys
from taoemb.config import MilvusConfig
from taoemb.errors import TaoembError
from taoemb.retrieval.milvus import MilvusStore
try:
    MilvusStore(MilvusConfig(uri=sys.argv[1])).close()
except TaoembError as error:
    sys.exit(str(error))
"""


def test_the_last_store_to_close_frees_the_file_for_other_processes(config):
    def elsewhere():
        return subprocess.run([sys.executable, "-c", _OPEN, config.uri], capture_output=True, text=True, check=False)

    first, second = MilvusStore(config), MilvusStore(config)
    first.close()
    assert second.alias_target() is None
    blocked = elsewhere()
    assert blocked.returncode == 1
    assert "another process has it open" in blocked.stderr
    assert blocked.stderr.count("\n") == 1
    second.close()
    assert elsewhere().returncode == 0
    with MilvusStore(config) as third:
        assert third.alias_target() is None
