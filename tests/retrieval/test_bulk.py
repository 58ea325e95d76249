"""Bulk import against a loopback server: Milvus Lite's gRPC, and a stand-in for the import API that reads the files."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from milvus_lite.server_manager import server_manager_instance
from pymilvus import MilvusClient

from taoemb.config import MilvusConfig
from taoemb.encoder.model import Encoder
from taoemb.errors import InputError, TaoembError
from taoemb.retrieval import bulk
from taoemb.retrieval.bulk import Shard, bulk_import, parse_shard, write_shard
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.publish import publish
from taoemb.retrieval.search import search
from tests.retrieval.tiny_shop import shop, write_items


@dataclass
class ImportService:
    """Milvus' REST import jobs over a folder that plays the bucket; a job takes two looks to finish."""

    bucket: Path
    milvus: str
    fails: str = ""
    token: str = ""
    jobs: dict[str, dict] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def answer(self, verb: str, body: dict) -> dict:
        self.asked.append(verb)
        if verb == "create":
            self.jobs["7"] = {"jobId": "7", "collectionName": body["collectionName"], "state": "Pending", "progress": 0}
            self.jobs["7"]["files"] = [path for (path,) in body["files"]]
            return {"jobId": "7"}
        if verb == "list":
            return {"records": list(self.jobs.values())}
        job = self.jobs[body["jobId"]]
        if job["state"] == "Pending":
            job |= {"state": "Importing", "progress": 40}
        elif job["state"] == "Importing":
            self._read(job)
            job |= {"state": "Failed", "reason": self.fails} if self.fails else {"state": "Completed", "progress": 100}
        return job

    def _read(self, job: dict) -> None:
        client = MilvusClient(self.milvus, dedicated=True)
        for file in job["files"][: 1 if self.fails else None]:
            rows = pq.read_table(self.bucket / file).to_pylist()
            client.insert(job["collectionName"], [{**r, "vector": np.array(r["vector"], np.float32)} for r in rows])
        client.close()


@dataclass
class Site:
    config: MilvusConfig
    service: ImportService
    bucket: Path


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
    monkeypatch.setattr(bulk, "POLL_S", 0.01)
    milvus = server_manager_instance.start_and_get_uri(str(tmp_path / "server.db"))
    service = ImportService(tmp_path / "bucket", milvus)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            allowed = self.headers.get("Authorization", "") == (f"Bearer {service.token}" if service.token else "")
            prefix, _, verb = self.path.rpartition("/")
            assert prefix == "/v2/vectordb/jobs/import"
            tree = {"code": 0, "data": service.answer(verb, body)} if allowed else {"code": 1800, "message": "who?"}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(tree).encode())

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    config = MilvusConfig(
        uri=milvus,
        bulk_url=f"http://127.0.0.1:{http.server_port}",
        bulk_remote="imports",
        bulk_rows=25,
        spot_queries=10,
    )
    yield Site(config, service, tmp_path / "bucket")
    http.shutdown()
    http.server_close()
    server_manager_instance.release_server(str(tmp_path / "server.db"))


@pytest.fixture
def data(tmp_path) -> Path:
    return write_items(tmp_path / "data", shop(60))


def test_shards_are_written_imported_verified_and_searched(releases, site, data):
    fill = bulk_import(releases.base, site.bucket / "imports")
    result = publish(releases.base, data, site.config, fill=fill)
    assert (result.embedded, result.recall, result.active) == (60, 1.0, True)
    assert [Path(file).name for file in site.service.jobs["7"]["files"]] == [Shard(i, 3).file for i in (1, 2, 3)]
    _, hits = search("red oak sofa 0", site.config, k=60, filter="price > 50")
    assert {hit.item_id for hit in hits} == {f"i{row}" for row in range(51, 60) if row % 7}
    again = publish(releases.base, data, site.config, fill=bulk_import(releases.base, site.bucket / "imports"))
    assert (again.embedded, again.recall) == (0, None)
    assert site.service.asked.count("create") == 1


def test_bulk_stores_what_upserts_store(releases, site, data, config):
    name = publish(releases.base, data, config).collection
    publish(releases.base, data, site.config, fill=bulk_import(releases.base, site.bucket / "imports"))
    rows = []
    for one in (config, site.config):
        with MilvusStore(one) as store:
            assert store.count(name) == 60
            rows.append(sorted(store.client.query(name, filter='item_id != ""', output_fields=["*"]), key=_by_id))
    for upserted, imported in zip(*rows, strict=True):
        np.testing.assert_allclose(upserted.pop("vector"), imported.pop("vector"), atol=1e-6)
        assert upserted == imported


def _by_id(row: dict) -> str:
    return row["item_id"]


def test_shards_are_written_side_by_side_and_once(releases, site, data, monkeypatch):
    folder = site.bucket / "imports"
    written = [write_shard(releases.base, data, site.config, folder, Shard(number, 4)) for number in (4, 2, 1)]
    assert [one["items"] for one in written] == [15, 15, 15]
    assert all(one["written"] for one in written)
    encode, texts = Encoder.encode, []
    monkeypatch.setattr(Encoder, "encode", lambda self, some, *how: texts.extend(some) or encode(self, some, *how))
    assert not write_shard(releases.base, data, site.config, folder, Shard(4, 4))["written"]
    assert texts == []
    result = publish(releases.base, data, site.config, fill=bulk_import(releases.base, folder))
    assert (result.embedded, len(texts), result.recall) == (15, 15, 1.0)  # the third, which was missing


def test_a_shard_of_another_catalogue_is_written_again_or_refused(releases, site, data, tmp_path):
    folder = site.bucket / "imports"
    write_shard(releases.base, data, site.config, folder, Shard(1, 1))
    changed = write_items(tmp_path / "changed", shop(61))
    with pytest.raises(InputError, match=r"shard-00001-of-00001\.parquet: made from another catalogue"):
        publish(releases.base, changed, site.config, fill=bulk_import(releases.base, folder))
    assert write_shard(releases.base, changed, site.config, folder, Shard(1, 1))["written"]
    write_shard(releases.base, changed, site.config, folder, Shard(1, 2))
    with pytest.raises(InputError, match="shards of 1 and of 2; keep one set"):
        publish(releases.base, changed, site.config, fill=bulk_import(releases.base, folder))
    with MilvusStore(site.config) as store:
        assert store.alias_target() is None


def test_an_interrupted_write_leaves_no_shard(releases, site, data, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "encode", stop)
        with pytest.raises(KeyboardInterrupt):
            write_shard(releases.base, data, site.config, site.bucket, Shard(1, 1))
    assert list(site.bucket.rglob("*.parquet")) == []
    assert write_shard(releases.base, data, site.config, site.bucket, Shard(1, 1))["written"]


def test_a_running_import_is_followed_not_started_twice(releases, site, data):
    fill = bulk_import(releases.base, site.bucket / "imports")
    name = f"taoemb_{releases.base.manifest.item_encoder_digest[:16]}"
    for number in (1, 2, 3):
        write_shard(releases.base, data, site.config, site.bucket / "imports", Shard(number, 3))
    site.service.answer(
        "create", {"collectionName": name, "files": [[f"imports/{name}/{Shard(i, 3).file}"] for i in (1, 2, 3)]}
    )
    assert publish(releases.base, data, site.config, fill=fill).items == 60
    assert site.service.asked.count("create") == 1


def test_a_failed_import_says_why_and_can_be_run_again(releases, site, data):
    fill = bulk_import(releases.base, site.bucket / "imports")
    site.service.fails = "disk full"
    with pytest.raises(TaoembError, match="import job 7 failed: disk full"):
        publish(releases.base, data, site.config, fill=fill)
    site.service.fails = ""
    result = publish(releases.base, data, site.config, fill=fill)  # what the first import left is gone
    assert (result.embedded, result.recall) == (0, 1.0)


def test_a_searched_collection_is_not_added_to(releases, site, data, tmp_path):
    publish(releases.base, data, site.config)
    more = write_items(tmp_path / "more", shop(70))
    with pytest.raises(InputError, match="is searched and holds 60 rows"):
        publish(releases.base, more, site.config, fill=bulk_import(releases.base, site.bucket / "imports"))
    assert len(search("red sofa", site.config, k=99)[1]) == 60


def test_the_token_goes_along_and_a_refusal_is_reported(releases, site, data, tmp_path):
    site.service.token = "secret"
    with pytest.raises(TaoembError, match=r"bulk import \(list\): who\?"):
        publish(releases.base, data, site.config, fill=bulk_import(releases.base, site.bucket / "imports"))
    (tmp_path / "token").write_text("secret\n")
    known = site.config.model_copy(update={"token_file": tmp_path / "token"})
    assert publish(releases.base, data, known, fill=bulk_import(releases.base, site.bucket / "imports")).active


def test_an_import_api_that_is_not_there_is_reported(releases, site, data):
    lost = site.config.model_copy(update={"bulk_url": "http://127.0.0.1:1"})
    with pytest.raises(TaoembError, match=r"bulk import \(http://127\.0\.0\.1:1/v2"):
        publish(releases.base, data, lost, fill=bulk_import(releases.base, site.bucket / "imports"))


def test_settings_that_cannot_work_are_refused_before_anything_is_embedded(releases, site, data, config, monkeypatch):
    monkeypatch.setattr(Encoder, "encode", lambda *_: pytest.fail("embedded"))
    fill = bulk_import(releases.base, site.bucket / "imports")
    with pytest.raises(InputError, match=r"milvus\.db is a Milvus Lite file, and bulk import needs a Milvus server"):
        publish(releases.base, data, config, fill=fill)
    with pytest.raises(InputError, match=r"--set milvus\.bulk_remote=PREFIX"):
        publish(releases.base, data, site.config.model_copy(update={"bulk_remote": None}), fill=fill)


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/b", "1/0", "-1/2", "1/100000"])
def test_parse_shard_refuses(text):
    with pytest.raises(InputError, match="--shard"):
        parse_shard(text)


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_shards_cover_every_row_once(rows):
    spans = [parse_shard(f"{number}/5").span(rows) for number in range(1, 6)]
    assert [row for span in spans for row in range(*span)] == list(range(rows))
