"""The real encoder server in its own process: three protocols, one vector, the digest everywhere, honest limits."""

import asyncio
import base64
import json
import re
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taoemb.encoder.release import Release
from taoemb.serving.encoder.process import running_encoder
from tests.serving.encoder_releases import TEXTS, bert_release

OPENAI, V1, V2 = "/openai/v1/embeddings", "/v1/models/encoder:predict", "/v2/models/encoder/infer"
LIMITS = {"threads": 1, "max_texts": 24, "max_characters": 300, "max_body_mb": 0.05, "latency_budget_ms": 5}
HEADER = "x-taoemb-release"
HTTP = httpx.Client(timeout=30)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return bert_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def url(release: Release) -> Iterator[str]:
    with running_encoder(release.path, settings=[f"encoder_server.{k}={v}" for k, v in LIMITS.items()]) as url:
        yield url


@pytest.fixture(scope="module")
def expected_ND(release: Release) -> np.ndarray:
    return release.query_encoder().encode(TEXTS, "query")


def post(url: str, route: str, body: object, headers: dict[str, str] | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HTTP.post(url + route, content=content, headers=headers)


def ask(texts: list[str], **more: object) -> dict[str, Any]:
    return {"model": "encoder", "input": texts, **more}


def tensor(data: object, **more: object) -> dict[str, Any]:
    shape = [len(data)] if isinstance(data, list) else [1]
    return {"inputs": [{"name": "text", "shape": shape, "datatype": "BYTES", "data": data}], **more}


def packed(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(raw)) + raw for raw in map(str.encode, texts))


def binary(raw: bytes, count: int, size: int | None = None, **more: object) -> tuple[bytes, dict[str, str]]:
    """A V2 request with its texts behind the JSON part, and its headers."""
    given = {"name": "text", "shape": [count], "datatype": "BYTES"}
    head = json.dumps({"inputs": [given | {"parameters": {"binary_data_size": size or len(raw)}}], **more}).encode()
    return head + raw, {"inference-header-content-length": str(len(head))}


def close(got: object, expected_ND: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(got, dtype=np.float32), expected_ND, atol=1e-5, rtol=0)


def test_openai_gives_the_releases_vectors(url: str, release: Release, expected_ND: np.ndarray) -> None:
    reply = post(url, OPENAI, ask(TEXTS)).json()
    assert (reply["object"], reply["model"], reply["release"]) == ("list", "encoder", release.manifest.digest)
    assert [entry["index"] for entry in reply["data"]] == list(range(len(TEXTS)))
    close([entry["embedding"] for entry in reply["data"]], expected_ND)
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] > 4 * len(TEXTS)
    raw = post(url, OPENAI, ask(TEXTS, encoding_format="base64")).json()["data"]
    close([np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in raw], expected_ND)
    lone = post(url, OPENAI, {"model": "encoder", "input": TEXTS[0], "dimensions": 16}).json()
    close(lone["data"][0]["embedding"], expected_ND[0])


def test_the_openai_client_reads_it(url: str, release: Release, expected_ND: np.ndarray) -> None:
    client = openai.OpenAI(base_url=f"{url}/openai/v1", api_key="none")
    reply = client.embeddings.create(model="encoder", input=TEXTS)  # it asks for base64 by itself
    close([entry.embedding for entry in reply.data], expected_ND)
    [model] = client.models.list().data
    assert (model.id, model.model_extra["release"]) == ("encoder", release.manifest.digest)


def test_v1_gives_the_releases_vectors(url: str, release: Release, expected_ND: np.ndarray) -> None:
    reply = post(url, V1, {"instances": TEXTS}).json()
    assert reply["release"] == release.manifest.digest
    close(reply["predictions"], expected_ND)


def test_v2_gives_the_releases_vectors(url: str, release: Release, expected_ND: np.ndarray) -> None:
    for data, shape in ((TEXTS, [len(TEXTS)]), ([[text] for text in TEXTS], [len(TEXTS), 1])):
        body = tensor(data, id="mine")
        body["inputs"][0]["shape"] = shape
        reply = post(url, V2, body).json()
        assert (reply["model_name"], reply["id"]) == ("encoder", "mine")
        assert reply["parameters"] == {"release": release.manifest.digest}
        [output] = reply["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("embedding", "FP32", [len(TEXTS), 16])
        close(np.reshape(output["data"], (-1, 16)), expected_ND)


@pytest.mark.parametrize("wants_binary", [False, True])
@pytest.mark.parametrize("gives_binary", [False, True])
def test_kserves_client_reads_v2(
    url: str, release: Release, expected_ND: np.ndarray, gives_binary: bool, wants_binary: bool
) -> None:
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    given = InferInput("text", [len(TEXTS)], "BYTES")
    given.set_data_from_numpy(np.array([text.encode() for text in TEXTS], dtype=object), binary_data=gives_binary)
    request = InferRequest("encoder", [given], parameters={"binary_data_output": wants_binary})

    async def infer() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2", retries=1))
        try:
            return await client.infer(url, request, model_name="encoder")
        finally:
            await client.close()

    reply = asyncio.run(infer())
    close(reply.get_output_by_name("embedding").as_numpy(), expected_ND)
    assert reply.parameters["release"] == release.manifest.digest


def test_health_metadata_and_models(url: str) -> None:
    assert HTTP.get(f"{url}/v2/health/live").json() == {"live": True}
    assert HTTP.get(f"{url}/v2/health/ready").json() == {"ready": True}
    assert HTTP.get(f"{url}/v2/models/encoder/ready").json()["ready"] is True
    assert HTTP.get(f"{url}/v1/models/encoder").json() == {"name": "encoder", "ready": True}
    metadata = HTTP.get(f"{url}/v2/models/encoder").json()
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 16]}]


REFUSED: list[tuple[str, object, int, str]] = [
    (OPENAI, b"", 400, "not JSON"),
    (OPENAI, b"[" * 10_000, 400, "not JSON"),
    (OPENAI, b"\xff\xfe", 400, "not JSON"),
    (OPENAI, b'{"model": "encoder", "input": "\\ud800"}', 400, "not JSON"),
    (OPENAI, [], 400, "not a JSON object"),
    (OPENAI, {"input": "x"}, 404, "the model None does not exist; this server has 'encoder'"),
    (OPENAI, ask(["x"]) | {"model": "gpt"}, 404, "'gpt'"),
    (OPENAI, ask([]), 400, "input: expected a list of one text"),
    (OPENAI, ask(["x", 3]), 400, r"input\[1\]: expected a text, found int"),
    (OPENAI, ask([[1, 2]]), 400, r"input\[0\]"),
    (OPENAI, {"model": "encoder"}, 400, "input"),
    (OPENAI, ask(["x"], dimensions=8), 400, "this release gives 16"),
    (OPENAI, ask(["x"], encoding_format="int8"), 400, "float or base64"),
    (OPENAI, ask(["x"] * 25), 413, "25 texts in one request; this server takes 24"),
    (OPENAI, ask(["x", "y" * 301]), 413, "text 1 has 301 characters; this server takes 300"),
    (OPENAI, b" " * 50_001, 413, "larger than 50,000 bytes"),
    (V1, {}, 400, "instances"),
    (V1, {"instances": "x"}, 400, "instances"),
    (V1, {"instances": [{"text": "x"}]}, 400, r"instances\[0\]: expected a text, found dict"),
    (V1, {"instances": ["x"] * 25}, 413, "takes 24"),
    (V1.replace("encoder", "other"), {"instances": ["x"]}, 404, "'other' does not exist"),
    (V2, {"inputs": []}, 400, "inputs: expected one tensor"),
    (V2, tensor(["x"]) | {"id": 3}, 400, "id: "),
    (V2, {"inputs": [tensor(["x"])["inputs"][0] | {"name": "ids"}]}, 400, "'text'"),
    (V2, {"inputs": [tensor(["x"])["inputs"][0] | {"datatype": "INT64"}]}, 400, "BYTES"),
    (V2, {"inputs": [tensor(["x"])["inputs"][0] | {"shape": [2]}]}, 400, r"shape: expected \[1\]"),
    (V2, tensor([1]), 400, "expected a text"),
    (V2, tensor(["x"], outputs=[{"name": "logits"}]), 400, "'embedding'"),
    (V2, tensor(["x"], parameters=[]), 400, "parameters must be an object"),
    (V2, tensor(["x"] * 25), 413, "takes 24"),
    (V2.replace("encoder", "other"), tensor(["x"]), 404, "'other' does not exist"),
    ("/v2/repository/models/encoder/unload", {}, 403, "can't be changed"),
]


@pytest.mark.parametrize(("route", "body", "status", "words"), REFUSED, ids=range(len(REFUSED)))
def test_bad_requests_are_4xx_that_say_why(
    url: str, release: Release, route: str, body: object, status: int, words: str
) -> None:
    reply = post(url, route, body)
    assert reply.status_code == status
    error = reply.json()["error"]
    message = error["message"] if route == OPENAI else error
    assert re.search(words, message)
    assert reply.headers[HEADER] == release.manifest.digest


BROKEN = [
    (b"", 1, 4),
    (packed(["x"]), 1, 3),
    (packed(["x"]) + b"\x01", 1, None),
    (b"\x09\x00\x00\x00x", 1, None),
    (b"\x01\x00\x00\x00\xff", 1, None),
    (packed(["x", "y"]), 1, None),
]


@pytest.mark.parametrize(("raw", "count", "size"), BROKEN, ids=range(len(BROKEN)))
def test_broken_raw_tensors_are_400(url: str, raw: bytes, count: int, size: int | None) -> None:
    body, headers = binary(raw, count, size)
    assert post(url, V2, body, headers).status_code == 400


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "99999999", "٣"])
def test_a_bad_json_length_is_400(url: str, length: str) -> None:
    reply = post(url, V2, tensor(["x"]), {"inference-header-content-length": length.encode()})  # type: ignore[dict-item]
    assert reply.status_code == 400
    assert "inference-header-content-length" in reply.json()["error"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
texts_like = st.lists(st.text(max_size=20), max_size=3) | json_values
tensors = st.fixed_dictionaries(
    {"name": st.just("text"), "datatype": st.just("BYTES"), "shape": st.just([1]) | json_values},
    optional={"data": texts_like, "parameters": json_values},
)
bodies = st.one_of(
    st.tuples(st.just(OPENAI), st.fixed_dictionaries({"model": st.just("encoder"), "input": texts_like})),
    st.tuples(st.just(V1), st.fixed_dictionaries({"instances": texts_like})),
    st.tuples(
        st.just(V2),
        st.fixed_dictionaries(
            {"inputs": st.lists(tensors | json_values, max_size=2)},
            optional={"outputs": json_values, "parameters": json_values, "id": json_values},
        ),
    ),
)


@given(bodies, st.binary(max_size=12))
@settings(max_examples=150, deadline=None)
def test_no_body_makes_the_server_fail(url: str, asked: tuple[str, dict], tail: bytes) -> None:
    route, body = asked
    head = json.dumps(body).encode()
    headers = {"inference-header-content-length": str(len(head))} if route == V2 else {}
    for content in (head, head + tail):
        assert post(url, route, content, headers).status_code in (200, 400, 413)


def test_every_reply_carries_the_digest(url: str, release: Release) -> None:
    """Also where no route is, where KServe answers, and where no request could be read."""
    paths = ("/", "/metrics", "/nothing", "/v2", "/v2/models/other", "/v2/models/encoder", "/v1/models/encoder:predict")
    replies = [HTTP.get(url + path) for path in paths]
    replies += [HTTP.head(url + OPENAI), HTTP.options(url + V2), post(url, V1 + "x", {})]
    replies += [post(url, "/v2/models/encoder/versions/1/infer", tensor(["x"]))]  # KServe: 501
    assert {reply.status_code for reply in replies} >= {200, 404, 405, 501}
    assert {reply.headers[HEADER] for reply in replies} == {release.manifest.digest}
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as raw:
        raw.sendall(b"not HTTP at all\r\n\r\n")
        reply = raw.recv(4096).decode().lower()
    assert reply.startswith("http/1.1 400")
    assert f"{HEADER}: {release.manifest.digest}" in reply


def test_many_clients_get_their_own_vectors_in_shared_passes(url: str, release: Release) -> None:
    def sample(name: str) -> float:
        return float(re.search(rf"^{name} (\S+)", HTTP.get(f"{url}/metrics").text, re.MULTILINE)[1])  # type: ignore[index]

    texts = [f"red {'oak ' * (number % 9)}sofa {number}" for number in range(160)]
    before = sample("taoemb_encoder_pass_texts_count")
    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda text: client.post(url + V1, json={"instances": [text]}).json(), texts))
    close([reply["predictions"][0] for reply in replies], release.query_encoder().encode(texts, "query"))
    assert sample("taoemb_encoder_pass_texts_count") - before < 120  # alone they would be 160
    assert sample("taoemb_encoder_waiting_texts") == 0


def test_metrics_say_what_is_served_and_done(url: str, release: Release) -> None:
    post(url, OPENAI, ask(["red sofa", "blue oak lamp"]))
    post(url, OPENAI, ask([]))
    said = HTTP.get(f"{url}/metrics").text
    assert (
        f'taoemb_encoder_release_info{{backend="torch",digest="{release.manifest.digest}",precision="fp32"}} 1.0'
        in said
    )
    for pattern in (
        r'taoemb_encoder_requests_total\{protocol="openai",status="200"\} [1-9]',
        r'taoemb_encoder_requests_total\{protocol="openai",status="400"\} [1-9]',
        r'taoemb_encoder_request_seconds_count\{protocol="openai"\} [1-9]',
        r"taoemb_encoder_tokens_total [1-9]",
        r"taoemb_encoder_padding_tokens_total [1-9]",
        r"taoemb_encoder_texts_total [1-9]",
        r"taoemb_encoder_wait_seconds_count [1-9]",
        r"taoemb_encoder_pass_seconds_count [1-9]",
    ):
        assert re.search(f"^{pattern}", said, re.MULTILINE), pattern
