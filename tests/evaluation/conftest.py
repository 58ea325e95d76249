"""A small shop with graded queries in several slices, and random encoders that know its words."""

import itertools
import json
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from taoemb.config import Config, EncoderConfig
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.release import Release, load_release, save_release
from taoemb.judge.prompt import read_messages
from tests.word_bert import word_bert

KINDS = ("sofa", "lamp", "kettle", "jacket", "phone", "drill")
COLOURS = ("red", "blue", "green", "black")
BRANDS = ("acme", "borealis", "corvo", "delta")
HOSTILE = '<script>alert("x")</script> & $\\frac{'
SETTINGS = Config.model_validate(
    {
        "evaluation": {
            "hitrate": [5, 50],
            "recall": [5],
            "ndcg": [5],
            "goodrate": [5, 10],
            "mrr": [5],
            "bootstrap": 200,
            "device": "cpu",
        },
        "gate": {"metric": "goodrate@5"},
    }
)


def write_shop(folder: Path) -> Path:
    """96 items (kind × colour × brand); a query for each kind and colour, graded on 16 items."""
    folder.mkdir(parents=True, exist_ok=True)
    items = list(itertools.product(KINDS, COLOURS, BRANDS))
    titles = [f"{brand} {colour} {kind}" for kind, colour, brand in items]
    titles[5] = HOSTILE + " red sofa"
    ids = [f"i{n}" for n in range(len(items))]
    brands = [brand for *_, brand in items]
    pq.write_table(pa.table({"item_id": ids, "title": titles, "brand": brands}), folder / "items.parquet")
    asked = list(itertools.product(KINDS, COLOURS))
    slices = [["plain" if c in COLOURS[:2] else "long-tail", f"category:{kind}", "template:ab"] for kind, c in asked]
    queries = {
        "query_id": [f"q{n}" for n in range(len(asked) + 1)],
        "text": [*(f"{colour} {kind}" for kind, colour in asked), "never judged"],
        "slices": pa.array([*slices, ["plain"]], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(queries), folder / "queries.parquet")
    random = np.random.default_rng(0)
    judged = [(q, n, grade(asked[q], items[n])) for q in range(len(asked)) for n in random.permutation(len(items))[:40]]
    judgments = {
        "query_id": [f"q{q}" for q, _, _ in judged],
        "item_id": [f"i{n}" for _, n, _ in judged],
        "grade": pa.array([g for _, _, g in judged], pa.int8()),
        "source": ["rule"] * len(judged),
    }
    pq.write_table(pa.table(judgments), folder / "judgments.parquet")
    return folder


def grade(query: tuple[str, str], item: tuple[str, str, str]) -> int:
    kind, colour = query[0] == item[0], query[1] == item[1]
    return 4 if kind and colour else 3 if kind else 2 if colour else 1


def write_model(folder: Path, seed: int) -> Path:
    """A random one-layer BERT whose vectors are mostly a bag of the shop's words, as a Hugging Face folder."""
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return word_bert(folder, [*KINDS, *COLOURS, *BRANDS], seed, initializer_range=0.1, **shape)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("models")
    return write_model(root / "one", 1), write_model(root / "two", 2)


@pytest.fixture(scope="session")
def parent(model_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Release:
    encoder = load_encoder(EncoderConfig(model=str(model_folders[0])))
    return save_release(tmp_path_factory.mktemp("releases") / "parent", encoder)


@pytest.fixture(scope="session")
def child(parent: Release, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The parent's item encoder under another query encoder, trained with the reward of judge "reward-judge"."""
    encoder = parent.query_encoder()
    words = encoder.backbone.embeddings.word_embeddings.weight
    with torch.no_grad():
        words.add_(0.05 * torch.randn(words.shape, generator=torch.Generator().manual_seed(3)))
    folder = tmp_path_factory.mktemp("releases") / "child"
    training = {"objective": "grpo", "reward_judges": ["reward-judge"]}
    save_release(folder, encoder, item_source=parent, parent=parent, training=training)
    return load_release(folder)


@pytest.fixture(scope="session")
def settings() -> Config:
    return SETTINGS


@dataclass
class RuleJudge:
    """An endpoint that grades by the shop's rule, through real HTTP; queries in `silent` get no usable answer."""

    digest: str = "heldout-judge"
    silent: tuple[str, ...] = ()
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, body: dict) -> dict:
        query, item = read_messages(body["messages"])
        self.asked.append((query, item))
        if query in self.silent:
            return self._say("?", [{"token": "?", "logprob": -0.1, "bytes": None}])
        wanted, words = query.split(), item.split("\n")[0].split()
        label = grade((wanted[-1], wanted[0]), (words[-1], words[-2], ""))
        rest = [{"token": str(g), "logprob": math.log(0.1), "bytes": None} for g in (1, 2, 3, 4) if g != label]
        top = [{"token": str(label), "logprob": math.log(0.7), "bytes": None}, *rest]
        return self._say(str(label), top)

    def _say(self, content: str, top: list[dict]) -> dict:
        message = {"role": "assistant", "content": content}
        said = {"content": [{**top[0], "top_logprobs": top}]}
        return {"choices": [{"index": 0, "message": message, "logprobs": said, "finish_reason": "length"}]}


@pytest.fixture
def rule_judge() -> Iterator[RuleJudge]:
    judge = RuleJudge()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._send({"data": [{"id": "judge", "taoemb_digest": judge.digest}]})

        def do_POST(self):
            self._send(judge.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def _send(self, content):
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            pass  # a client that hangs up in the middle of a request is part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    judge.url = f"http://127.0.0.1:{server.server_address[1]}/openai/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield judge
    server.shutdown()
    server.server_close()
    thread.join()
