"""The tree of settings: a section a part of the system, each setting with its unit and its reason.

Read it through `taoemb.config`, which loads it and re-exports every section.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Precision = Literal["auto", "fp32", "bf16-autocast", "bf16"]
CutOff = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _keep_the_sections_own_defaults(cls, values: Any) -> Any:
        """A partly given inner section keeps the defaults of where it stands (grpo.optim.lr is not sft.optim.lr)."""
        if not isinstance(values, dict):
            return values
        merged = dict(values)
        for name, field in cls.model_fields.items():
            if isinstance(field.default, BaseModel) and isinstance(values.get(name), dict):
                merged[name] = field.default.model_dump(exclude_unset=True) | values[name]
        return merged


class SplitConfig(_Section):
    """How queries are divided (near-duplicates stay on one side)."""

    valid: float = Field(0.1, ge=0, lt=1, description="Share of queries for choices made during development.")
    test: float = Field(0.2, ge=0, lt=1, description="Share of queries for the final numbers.")
    by: Literal["query", "template"] = Field(
        "query", description="`template`: test holds only queries of templates that train and valid never show."
    )
    seed: int = 0


class QueryGenerationConfig(_Section):
    """Training queries made from a catalogue's own structure, for shops without a query log."""

    count: int = Field(6000, ge=1, description="Queries to generate.")
    graded_per_query: int = Field(12, ge=1, description="Rule-graded items kept per query (they train a judge).")
    max_positives: int = Field(8, ge=1, description="Grade-4 items kept as pairs per query.")
    seed: int = 0


class LoraConfig(_Section):
    """Low-rank adapters (peft) instead of full fine-tuning."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"


class EncoderConfig(_Section):
    """The text encoder a run starts from (a release, a Hugging Face folder or hub id)."""

    model: str = Field("all-MiniLM-L6-v2", description="Release folder, model folder, hub id, or the packaged default.")
    pooling: Literal["auto", "mean", "cls", "last"] = Field("auto", description="`auto` reads the model's own choice.")
    query_template: str | None = Field(
        None, description="Text put around a query, e.g. an instruction; default: the model's own, else `{text}`."
    )
    item_template: str | None = Field(
        None,
        description="Item fields as text; a [bracketed part] vanishes when a field in it is missing; "
        "default: the model's own, else `{title}`.",
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
    attention: str | None = Field(None, description="transformers' attn_implementation, e.g. sdpa, flash_attention_2.")
    trust_remote_code: bool = False


class JudgeConfig(_Section):
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
    cache: Path | None = Field(None, description="SQLite file of earlier judgments, shared by all who judge.")
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="Merged over every request, e.g. {chat_template_kwargs: {enable_thinking: false}}.",
    )


class JudgeServerConfig(_Section):
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


class JudgeTrainConfig(_Section):
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


class RewardConfig(_Section):
    """r = f_rel + g_quality + h_excl (paper section 4) and how the parts combine."""

    combine: Literal["gated", "sum"] = Field(
        "gated", description="`gated`: quality and exclusivity of relevant items only."
    )
    gate: float = Field(0.6, ge=0, le=1, description="Relevance from which an item counts as relevant.")
    relevance: float = Field(1.0, ge=0, description="Weight.")
    quality: float = Field(0.1, ge=0, description="Weight.")
    exclusivity: float = Field(0.1, ge=0, description="Weight.")
    exclusivity_measure: Literal["bm25", "overlap"] = Field(
        "bm25", description="`bm25`: not among the BM25 route's top; `overlap`: share of query terms not in the title."
    )
    bm25_top: int = Field(100, ge=1, description="Depth of the BM25 route.")


class OptimConfig(_Section):
    """AdamW with warm-up and a schedule."""

    lr: float = Field(3e-5, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, le=1, description="Share of the steps.")
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = Field(1.0, ge=0, description="Global norm; 0 turns clipping off.")


class SFTConfig(_Section):
    """Supervised fine-tuning: InfoNCE over in-batch and global random negatives (paper section 2)."""

    steps: int = Field(160, ge=1)
    queries: int = Field(64, ge=1, description="Queries a step, over all ranks.")
    random_negatives: int = Field(64, ge=0, description="Items drawn from the whole catalogue a step, over all ranks.")
    tau: float = Field(0.05, gt=0, description="Softmax temperature.")
    optim: OptimConfig = OptimConfig()


class HardNegativesConfig(SFTConfig):
    """Baseline: SFT with negatives mined offline by the starting encoder."""

    negatives: int = Field(4, ge=1, description="Mined negatives a query.")
    depth: int = Field(64, ge=1, description="Top-K from which negatives are mined.")
    max_score_ratio: float = Field(
        0.97, gt=0, description="Skip items that score above this share of the positive's score."
    )
    optim: OptimConfig = OptimConfig(lr=2e-5)


class GRPOConfig(_Section):
    """Retrieval-GRPO (paper section 3); docs/decisions.md has the reasons for the defaults."""

    towers: Literal["query", "both"] = Field("query", description="`query`: items frozen; `both`: the paper.")
    pool: Literal["catalogue", "batch"] = Field("catalogue", description="Where Top-K is taken from.")
    batch_items: int = Field(128, ge=2, description="Random items beside the positives when the pool is the batch.")
    steps: int = Field(400, ge=1)
    queries: int = Field(64, ge=1, description="Queries a step, over all ranks.")
    k: int = Field(32, ge=2, description="Group size K.")
    tau: float = Field(0.05, gt=0, description="Policy temperature: pi = softmax(s / tau) over the group.")
    clip: float = Field(0.2, gt=0, description="PPO clip range epsilon.")
    kl: float = Field(0.02, ge=0, description="Weight of KL(pi || pi_ref) on the group.")
    anchor: float = Field(0.1, ge=0, description="Weight of the InfoNCE anchor on known pairs.")
    max_advantage: float = Field(2.0, gt=0, description="Advantages are clamped to ± this.")
    min_std: float = Field(1e-4, ge=0, description="Groups whose reward std is below are masked out.")
    staleness: int = Field(
        1, ge=0, description="Steps that judging may lag behind the policy; 0 is strictly on-policy."
    )
    updates: int = Field(1, ge=1, description="Optimiser updates on each batch of groups.")
    refresh: int = Field(50, ge=1, description="Steps between two embeddings of the whole catalogue (towers: both).")
    heldout_every: int = Field(0, ge=0, description="Steps between checks by the held-out judge; 0 turns them off.")
    heldout_queries: int = Field(64, ge=1)
    optim: OptimConfig = OptimConfig(lr=1e-4)


class LiveInfoNCEConfig(_Section):
    """Control: InfoNCE whose negatives are the model's own live Top-K; no judge, no reward."""

    towers: Literal["query", "both"] = "query"
    steps: int = Field(400, ge=1)
    queries: int = Field(64, ge=1)
    k: int = Field(32, ge=2)
    tau: float = Field(0.05, gt=0)
    refresh: int = Field(50, ge=1)
    optim: OptimConfig = OptimConfig(lr=1e-4)


class EngineConfig(_Section):
    """DeepSpeed and the run's bookkeeping, the same for every objective."""

    seed: int = 0
    zero_stage: Literal[0, 1, 2, 3] = 0
    precision: Precision = Field("auto", description="`auto`: bf16-autocast where the hardware has bf16, else fp32.")
    offload: Literal["none", "optimizer", "optimizer+parameters"] = "none"
    gradient_accumulation: int = Field(1, ge=1, description="Backward passes a step; divides each rank's queries.")
    gradient_checkpointing: bool = False
    length_buckets: int = Field(2, ge=1, description="Length-sorted forward passes a micro-batch is cut into.")
    checkpoint_every: int = Field(100, ge=1, description="Steps.")
    keep_checkpoints: int = Field(2, ge=1)
    log_every: int = Field(1, ge=1, description="Steps between metric records.")
    trackers: tuple[Literal["tensorboard", "mlflow", "prometheus"], ...] = ("tensorboard",)
    mlflow_uri: str | None = None
    metrics_port: int = Field(9400, ge=0, le=65535, description="Of the tracker prometheus; 0: any free one.")
    metrics_host: str = Field("127.0.0.1", description="Address that it listens on; 0.0.0.0 in a pod.")
    collapse_cosine: float = Field(
        0.9, gt=0, le=1, description="Alarm when the mean pairwise cosine of items or queries passes this."
    )
    deepspeed: dict[str, Any] = Field(
        default_factory=dict, description="Merged over the DeepSpeed config made from the above."
    )


class MilvusConfig(_Section):
    """The vector store."""

    uri: str = Field("milvus.db", description="A Milvus Lite file, or http(s)://host:19530.")
    token_file: Path | None = Field(None, description="File that holds the token (a mounted Secret).")
    alias: str = Field("taoemb", description="The alias that search uses; it moves atomically.")
    prefix: str = Field("taoemb", description="Collections are named {prefix}_{digest}.")
    index: Literal["HNSW", "FLAT", "IVF_FLAT"] = "HNSW"
    hnsw_m: int = Field(16, ge=4)
    hnsw_ef_construction: int = Field(200, ge=8)
    search_ef: int = Field(128, ge=1)
    batch: int = Field(1000, ge=1, description="Rows in one upsert.")
    spot_queries: int = Field(50, ge=1, description="Exact searches compared before the alias moves.")
    min_recall: float = Field(
        0.95, ge=0, le=1, description="Spot recall@10 against exact search below which publishing fails."
    )
    spot_items: int = Field(200_000, ge=1, description="Stored vectors that these exact searches read at most.")
    max_removed: float = Field(
        0.5, ge=0, le=1, description="Share of a collection's items that one publish may remove (a wrong --data?)."
    )
    bulk_rows: int = Field(250_000, ge=1, description="Items in one Parquet shard of a bulk import.")
    bulk_remote: str | None = Field(
        None, description="Where the bulk folder lies in the bucket that Milvus imports from; empty: its root."
    )
    bulk_url: str | None = Field(None, description="Milvus' REST address, where it is not the same as `uri`.")


class EvaluationConfig(_Section):
    """Offline metrics and the gate."""

    hitrate: tuple[CutOff, ...] = (10, 100, 1000)
    recall: tuple[CutOff, ...] = (10, 100)
    ndcg: tuple[CutOff, ...] = (10,)
    goodrate: tuple[CutOff, ...] = (10, 100)
    mrr: tuple[CutOff, ...] = (10,)
    good_grade: int = Field(3, ge=1, le=4, description="Grades from this on are good: Goodrate, Recall, MRR, bpref.")
    relevant_grade: int = Field(4, ge=1, le=4, description="Grades from this on are ground truth for Hitrate.")
    judge_depth: int = Field(10, ge=1, description="Deepest place that the held-out judge is asked about.")
    judge_queries: int = Field(500, ge=1, description="Most queries that it is asked about, drawn by seed.")
    template_slices: bool = Field(False, description="Also report slices named template:… (generated queries).")
    run_depth: int = Field(100, ge=1, description="Places of each ranking kept in run.parquet.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where encoders run; `auto`: a GPU if any.")
    bootstrap: int = Field(1000, ge=100, description="Resamples over queries.")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    seed: int = 0


class GateConfig(_Section):
    """What a release must do to be published, against its baseline."""

    metric: str = Field("goodrate@10", description="The metric that must not fall.")
    margin: float = Field(0.02, ge=0, description="How far the interval's lower end may lie below the baseline.")
    require_gain: bool = Field(False, description="The interval must lie above the baseline.")
    guard_margin: float = Field(
        0.05, ge=0, description="How far any slice may fall (interval's upper end below minus this)."
    )
    min_queries: int = Field(20, ge=1, description="Slices with fewer queries are not judged.")


class EncoderServerConfig(_Section):
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
    max_characters: int = Field(4000, ge=1, description="Length of one text; longer ones are answered 413.")
    max_body_mb: float = Field(8.0, gt=0, description="Larger requests are answered 413.")
    linger_s: float = Field(
        1.0, ge=0, description="After SIGTERM: how long it is not ready but still answers, so that load balancers see."
    )
    drain_s: float = Field(30.0, ge=0, description="How long requests under way may take after that.")


class GatewayConfig(_Section):
    """`taoemb serve gateway`."""

    traffic: str = Field(
        "traffic.json",
        description="Where the arms and the split stand: a file, or kserve://NAMESPACE/INFERENCESERVICE.",
    )
    poll_s: float = Field(0.5, gt=0, description="How often they are read again.")
    workers: int = Field(1, ge=1, description="Processes; a Milvus Lite file serves one only.")
    k: int = Field(10, ge=1, description="Items in a page unless the request says.")
    max_k: int = Field(100, ge=1, description="Most items in a page.")
    max_query_characters: int = Field(512, ge=1)
    encoder_timeout_s: float = Field(1.0, gt=0, description="One call of an arm's encoder.")
    search_timeout_s: float = Field(5.0, gt=0, description="One search of the vector store.")
    patience_s: float = Field(10.0, gt=0, description="How long a search tries all arms before it is answered 503.")
    search_threads: int = Field(8, ge=1, description="Searches of the vector store at once, a process.")
    concurrency: int = Field(256, ge=1, description="Searches under way, a process; beyond, they are answered 503.")
    max_body_mb: float = Field(1.0, gt=0, description="Larger requests are answered 413.")
    tester_token_file: Path | None = Field(
        None, description="File with the token that forcing an arm asks for; none: anybody may."
    )
    drain_s: float = Field(10.0, ge=0, description="How long requests under way may take after SIGTERM.")


class EventsConfig(_Section):
    """Where served pages, shoppers' events and rollouts are kept."""

    url: str = Field("sqlite:///events.db", description="SQLAlchemy URL: sqlite:///FILE or postgresql+psycopg://…")
    url_file: Path | None = Field(None, description="File that holds the URL (a mounted Secret); wins over `url`.")
    spool: Path = Field(
        Path("spool"), description="Folder on a local disk for rows on their way; processes and restarts share it."
    )
    batch: int = Field(500, ge=1, description="Rows in one transaction.")
    flush_s: float = Field(0.25, gt=0, description="Longest that a row waits for others.")
    queue: int = Field(
        10_000, ge=1, description="Rows in memory while the spool can't be written; beyond, they are lost and counted."
    )
    timeout_s: float = Field(5.0, gt=0, description="A database that does not answer for so long counts as away.")


class KServeConfig(_Section):
    """Where the encoders of an InferenceService answer; read by the gateway (kserve://…) and by rollouts."""

    service_url: str = Field(
        "http://{service}.{namespace}.svc.cluster.local",
        description="Address of a Service; {service} and {namespace} are put in. Another one for port-forwards.",
    )
    model: str = Field("encoder", description="Name that the encoders serve the model under.")
    timeout_s: float = Field(3.0, gt=0, description="Of one call that reads a digest back, or of the API server.")


class ControllerConfig(_Section):
    """`taoemb rollout controller`."""

    poll_s: float = Field(5.0, gt=0, description="How often each EncoderRollout is looked at.")
    workers: int = Field(4, ge=1, description="EncoderRollouts worked on at once.")
    backoff_s: float = Field(300.0, gt=0, description="Longest wait after failures of one EncoderRollout.")
    lease: str = Field("taoemb-rollout-controller", description="Name of the Lease that elects one of the replicas.")
    lease_namespace: str = Field("", description="Its namespace; empty: the controller's own.")
    lease_s: float = Field(15.0, gt=0, description="A leader that is silent for so long has lost it.")
    renew_s: float = Field(10.0, gt=0, description="A leader that could not renew for so long stops working.")
    retry_s: float = Field(2.0, gt=0, description="Time between two tries to renew or to get it.")
    port: int = Field(8085, ge=0, le=65535, description="Of /healthz, /readyz and /metrics; 0: any free one.")
    host: str = Field("127.0.0.1", description="Address that they listen on; 0.0.0.0 in a pod.")

    @model_validator(mode="after")
    def _lease_outlives_renewals(self) -> "ControllerConfig":
        if not self.retry_s < self.renew_s < self.lease_s:
            raise ValueError("give retry_s < renew_s < lease_s")
        return self


class JobConfig(_Section):
    """Where training and bulk embedding run: on this machine, or as jobs on a Kubernetes cluster."""

    backend: Literal["local", "trainjob"] = Field(
        "local", description="`local`: processes here; `trainjob`: Kubeflow Trainer (bulk embedding: an indexed Job)."
    )
    ranks: int | None = Field(
        None, ge=1, description="Processes that train together on a machine, or embed at once; default: gpus, else 1."
    )
    nodes: int = Field(1, ge=1, description="Machines of a TrainJob; pods of bulk embedding at once.")
    gpus: int = Field(0, ge=0, description="GPUs a machine.")
    gpu_resource: str = "nvidia.com/gpu"
    cpu: int | float | str | None = Field(None, description="CPUs of a machine, e.g. 8; default: the runtime's.")
    memory: str | None = Field(
        None, description="Its memory, e.g. 64Gi; gpus, cpu and memory replace the runtime's together."
    )
    namespace: str = Field("", description="Default: that of the kubeconfig's context, or the pod's own.")
    runtime: str = Field("taoemb-torch", description="Training runtime; helm/taoemb makes it.")
    runtime_kind: Literal["TrainingRuntime", "ClusterTrainingRuntime"] = "TrainingRuntime"
    launcher: Literal["torchrun", "mpirun"] = Field(
        "torchrun", description="What starts the ranks: torchrun in a torch runtime, mpirun in an MPI runtime."
    )
    settings: str = Field(
        "",
        description="Settings file inside the job, below the run's own settings; the chart's runtimes have "
        "/etc/taoemb/settings/settings.yaml with the judges' addresses.",
    )
    image: str = Field("", description="Default: the runtime's; for bulk embedding this release's trainer image.")
    volumes: dict[str, str] = Field(
        default_factory=dict, description="Claims and where they are mounted, e.g. {taoemb-artefacts: /artefacts}."
    )
    secrets: dict[str, str] = Field(
        default_factory=dict, description="Secrets and where their keys stand as files, e.g. {judge-key: /secrets}."
    )
    tolerations: tuple[dict[str, Any], ...] = Field((), description="As in a pod.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that the nodes must have.")
    service_account: str = Field("", description="Default: the runtime's.")
    queue: str = Field("", description="Kueue LocalQueue; empty: none.")
    priority: str = Field("", description="Kueue WorkloadPriorityClass; a pod's PriorityClass stands in the runtime.")
    retries: int = Field(3, ge=0, description="New tries after the infrastructure failed; a failing program gets none.")
    backoff_s: float = Field(30.0, gt=0, description="Wait before the first new try; it doubles, up to ten minutes.")
    start_timeout_s: float = Field(
        900.0, gt=0, description="A pod whose image or configuration is missing for so long has failed."
    )
    grace_s: int = Field(120, ge=20, description="What a stopped pod gets to write its checkpoint.")
    poll_s: float = Field(2.0, gt=0, description="Time between two looks at a job.")

    @model_validator(mode="after")
    def _priorities_are_of_queues(self) -> "JobConfig":
        if self.priority and not self.queue:
            raise ValueError("priority is Kueue's: give queue too")
        return self

    @model_validator(mode="after")
    def _resources_are_whole(self) -> "JobConfig":
        given = {bool(self.cpu), bool(self.memory)}
        if self.backend == "trainjob" and (len(given) == 2 or (self.gpus and not self.memory)):
            raise ValueError("what a job asks for replaces the runtime's: give cpu and memory, with gpus too")
        return self


class Config(_Section):
    """The whole tree."""

    split: SplitConfig = SplitConfig()
    queries: QueryGenerationConfig = QueryGenerationConfig()
    encoder: EncoderConfig = EncoderConfig()
    judge: JudgeConfig = JudgeConfig()
    heldout_judge: JudgeConfig | None = Field(
        None, description="A different judge: grades releases, never gives reward."
    )
    judge_server: JudgeServerConfig = JudgeServerConfig()
    judge_train: JudgeTrainConfig = JudgeTrainConfig()
    rewards: RewardConfig = RewardConfig()
    sft: SFTConfig = SFTConfig()
    hard_negatives: HardNegativesConfig = HardNegativesConfig()
    live_infonce: LiveInfoNCEConfig = LiveInfoNCEConfig()
    grpo: GRPOConfig = GRPOConfig()
    engine: EngineConfig = EngineConfig()
    milvus: MilvusConfig = MilvusConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    encoder_server: EncoderServerConfig = EncoderServerConfig()
    gateway: GatewayConfig = GatewayConfig()
    events: EventsConfig = EventsConfig()
    kserve: KServeConfig = KServeConfig()
    controller: ControllerConfig = ControllerConfig()
    job: JobConfig = JobConfig()
