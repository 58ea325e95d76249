"""Settings of the encoder and of judges."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from taoemb.settings.section import Section


class LoraConfig(Section):
    """Low-rank adapters (peft) instead of full fine-tuning."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"


class EncoderConfig(Section):
    """The text encoder a run starts from (a release, a Hugging Face folder or hub id)."""

    model: str = Field("all-MiniLM-L6-v2", description="Release folder, model folder, hub id, or the packaged default.")
    pooling: Literal["auto", "mean", "cls", "last"] = Field("auto", description="`auto` reads the model's own choice.")
    query_template: str | None = Field(
        None, description="Text put around a query, e.g. an instruction; default: the model's own, else `{text}`."
    )
    item_template: str | None = Field(
        None,
        description="Item fields as text; a [bracketed part] vanishes when a field in it is missing, "
        "`{description:160}` is its first 160 characters. Default: the model's own, else "
        "`{title}[, {brand}][, {category}][. {description:160}]`.",
    )
    max_query_tokens: int | None = Field(None, ge=4, description="Default: the release's own, else 64.")
    max_item_tokens: int | None = Field(None, ge=4, description="Default: the release's own, else 128.")
    dimension: int | None = Field(None, ge=8, description="Cut vectors to this many dimensions (Matryoshka).")
    matryoshka: tuple[int, ...] = Field((), description="Also train these shorter dimensions (SFT).")
    lora: LoraConfig | None = None
    tokens_per_batch: int | None = Field(
        None, ge=64, description="Padded tokens in one forward pass when embedding in bulk; default by device."
    )
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "fp32", description="Arithmetic of bulk embedding; `auto`: bf16 where the hardware has it."
    )
    bulk_backend: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="What embeds catalogues on a CPU (a GPU always runs torch); `auto`: openvino where it is "
        "installed, the model can be converted and there are enough items to pay for that.",
    )
    attention: str | None = Field(
        None,
        description="transformers' attn_implementation, e.g. sdpa, flash_attention_2; default: the model's own, but "
        "eager where bf16 is trained on a CPU and texts have at most 128 tokens (more memory, much less time).",
    )
    compile: bool = Field(
        False,
        description="Compile the layers (torch.compile): faster passes on a GPU after a minute; not with ZeRO stage 3.",
    )
    trust_remote_code: bool = False


class JudgeConfig(Section):
    """A judge endpoint and how it is called."""

    url: str | None = Field(None, description="Base URL of the OpenAI routes, e.g. http://judge/openai/v1.")
    model: str = Field("judge", description="Model name in requests.")
    release: str | None = Field(
        None, description="Digest that names the judge in the cache; default: what /models says."
    )
    api_key_file: Path | None = Field(None, description="File that holds the bearer token (a mounted Secret).")
    rubric: str = Field("v1", description="Name of a packaged rubric, or a path to a rubric file.")
    item_tokens: int = Field(256, ge=16, description="Budget for the item's text (about 4 characters a token).")
    concurrency: int = Field(32, ge=1, description="Requests in flight at once.")
    batch_size: int = Field(
        1, ge=1, description="Pairs in a request; above 1 needs a server with …/chat/completions/batch."
    )
    timeout_s: float = Field(30.0, gt=0, description="One request.")
    wait_s: float = Field(300.0, ge=0, description="How long to keep trying while the judge is away.")
    max_unanswered: float = Field(0.1, ge=0, le=1, description="Share of unanswered pairs in a step that stops a run.")
    min_label_mass: float = Field(
        0.5, gt=0, le=1, description="An answer counts when the labels hold this much of the first token's probability."
    )
    cache: Path | None = Field(None, description="SQLite file of earlier judgments, shared by all who judge.")
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="Merged over every request, e.g. {chat_template_kwargs: {enable_thinking: false}}.",
    )


class JudgeServerConfig(Section):
    """`taoemb judge serve`."""

    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="`auto`: bf16 on a GPU; on a CPU an LLM fp32, a cross-encoder bf16 if fast."
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; default: all.")
    batch_pairs: int = Field(256, ge=1, description="Most pairs in one pass over the queue.")
    batch_wait_ms: float = Field(2.0, ge=0, description="Longest that a pair waits for others to share a pass.")
    tokens_per_batch: int = Field(16_384, ge=64, description="Padded tokens in one forward pass.")
    queue_pairs: int = Field(16_384, ge=1, description="Waiting pairs from which requests are answered 429.")
    max_body_mb: float = Field(32.0, gt=0, description="Larger requests are answered 413.")


class JudgeTrainConfig(Section):
    """A cross-encoder judge trained from graded pairs."""

    model: str = Field("all-MiniLM-L6-v2", description="Model folder, hub id, or the packaged default to start from.")
    head: Literal["softmax", "ordinal"] = Field("softmax", description="Grades as classes, or as cuts on one score.")
    epochs: float = Field(1.0, gt=0)
    max_pairs: int = Field(30_000, ge=1, description="Graded pairs used at most (evenly over queries and grades).")
    batch_size: int = Field(64, ge=1)
    lr: float = Field(1e-4, gt=0)
    warmup: float = Field(0.1, ge=0, le=1, description="Share of the steps.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Mass given to the neighbouring grades.")
    frozen_layers: int = Field(0, ge=0, description="First layers (and word embeddings) that keep their weights.")
    zero_shot: float = Field(
        8.0, ge=0, description="Weight of the base model's own cosine beside what is learned; 0: none."
    )
    max_tokens: int = Field(64, ge=16, description="Query and item together; more reads more and trains slower.")
    item_tokens: int = Field(
        256, ge=16, description="Budget of the item texts it trains on: that of judge.item_tokens."
    )
    valid: float = Field(0.1, gt=0, lt=1, description="Share of the queries held out to measure agreement.")
    query_share: float = Field(1.0, gt=0, le=1, description="Use only this share of the queries, for two judges …")
    query_part: int = Field(0, ge=0, description="… that share none: the number of the part, e.g. 0 or 1 of 0.5.")
    precision: Literal["auto", "fp32", "bf16-autocast"] = Field(
        "auto", description="`auto`: bf16 where hardware has it."
    )
    seed: int = 0
