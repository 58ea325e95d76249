"""Settings of what answers shoppers and of what is kept of it."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from taoemb.limits import QUERY_CHARACTERS
from taoemb.settings.section import Section


class LogsConfig(Section):
    """What servers and the controller log, on standard error."""

    format: Literal["text", "json"] = Field("text", description="`json`: one object a line, for a log store.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lines below it are left out.")


class EncoderServerConfig(Section):
    """`taoemb serve encoder`."""

    backend: Literal["torch", "onnxruntime", "openvino"] = Field(
        "torch", description="What computes; the others run a graph exported from the release, checked against torch."
    )
    precision: Literal["fp32", "bf16", "int8"] = Field(
        "fp32", description="bf16: torch and openvino; int8: onnxruntime and openvino."
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; default: all.")
    graphs: Path | None = Field(None, description="Folder that keeps exported graphs by digest; default: none kept.")
    min_cosine: float = Field(
        0.99, ge=0, le=1, description="Lowest cosine with torch's fp32 vectors on the check texts; below, it refuses."
    )
    latency_budget_ms: float = Field(5.0, ge=0, description="Longest that a text waits for others to share a pass.")
    batch_texts: int = Field(64, ge=1, description="Most texts in one pass.")
    queue_texts: int = Field(4096, ge=1, description="Waiting texts from which requests are answered 429.")
    max_texts: int = Field(256, ge=1, description="Texts in one request; more are answered 413.")
    max_characters: int = Field(QUERY_CHARACTERS, ge=1, description="Length of one text; longer ones are answered 413.")
    max_body_mb: float = Field(8.0, gt=0, description="Larger requests are answered 413.")
    linger_s: float = Field(
        1.0, ge=0, description="After SIGTERM: how long it is not ready but still answers, so that load balancers see."
    )
    drain_s: float = Field(30.0, ge=0, description="How long requests under way may take after that.")


class GatewayConfig(Section):
    """`taoemb serve gateway`."""

    traffic: str = Field(
        "traffic.json",
        description="Where the arms and the split stand: a file, or kserve://NAMESPACE/INFERENCESERVICE.",
    )
    poll_s: float = Field(0.5, gt=0, description="How often they are read again.")
    workers: int = Field(1, ge=1, description="Processes; a Milvus Lite file serves one only.")
    k: int = Field(10, ge=1, description="Items in a page unless the request says.")
    max_k: int = Field(100, ge=1, description="Most items in a page.")
    max_query_characters: int = Field(
        512, ge=1, le=QUERY_CHARACTERS, description="Length of a shopper's query; longer ones are answered 422."
    )
    encoder_timeout_s: float = Field(1.0, gt=0, description="One call of an arm's encoder.")
    search_timeout_s: float = Field(
        5.0, gt=0, description="One search of the vector store, or one look-up of a release."
    )
    patience_s: float = Field(10.0, gt=0, description="How long a search tries all arms before it is answered 503.")
    search_threads: int = Field(8, ge=1, description="Searches of the vector store at once, an arm and a process.")
    concurrency: int = Field(
        256,
        ge=1,
        description="Searches under way, a process; beyond, they are answered 503. Half may wait for the candidate.",
    )
    max_body_mb: float = Field(1.0, gt=0, description="Larger requests are answered 413.")
    tester_token_file: Path | None = Field(
        None,
        description="File with the testers' token, for forcing an arm and seeing which one answered; none: nobody may.",
    )
    operator_token_file: Path | None = Field(
        None, description="File with the bearer token that /metrics and /traffic ask for; none: they ask for nothing."
    )
    page_key_file: Path | None = Field(
        None,
        description="File with the key that signs request ids, one a line (the first signs, all count); gateways "
        "behind one address share it. None: one of this machine's own in `events.spool`.",
    )
    event_age_s: float = Field(
        7 * 86400, gt=0, description="How long after its page an event is taken; more than a plan's event_window_s."
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        description="Proxies in front that each add to X-Forwarded-For: the client is so many places from its end. 0: "
        "the client is the peer.",
    )
    client_searches: float = Field(
        20.0,
        ge=0,
        description="Searches a second of one client address, in the long run; 0: no limit. Private addresses (the "
        "shop's own servers) have none; neither here nor below.",
    )
    client_events: float = Field(100.0, ge=0, description="Events a second of one client address; 0: no limit.")
    client_burst_s: float = Field(20.0, gt=0, description="So many seconds of both may come at once.")
    client_units: int = Field(
        200,
        ge=0,
        description="Users and sessions of one client address that are measured in an hour; pages of more are answered "
        "and not measured. 0: all.",
    )
    drain_s: float = Field(10.0, ge=0, description="How long requests under way may take after SIGTERM.")


class EventsConfig(Section):
    """Where served pages, shoppers' events and rollouts are kept."""

    url: str = Field("sqlite:///events.db", description="SQLAlchemy URL: sqlite:///FILE or postgresql+psycopg://…")
    url_file: Path | None = Field(None, description="File that holds the URL (a mounted Secret); wins over `url`.")
    spool: Path = Field(
        Path("spool"), description="Folder on a local disk for rows on their way; processes and restarts share it."
    )
    spool_mb: float = Field(
        4096,
        gt=0,
        description="Most that waits there; beyond, rows are kept in memory (`queue`), then lost and counted. Keep it "
        "below the size of its volume: a pod whose emptyDir is over its limit is evicted with all rows.",
    )
    batch: int = Field(500, ge=1, description="Rows in one transaction.")
    flush_s: float = Field(0.25, gt=0, description="Longest that a row waits for others.")
    queue: int = Field(
        10_000, ge=1, description="Rows in memory while the spool can't be written; beyond, they are lost and counted."
    )
    timeout_s: float = Field(5.0, gt=0, description="A database that does not answer for so long counts as away.")
