"""Settings of rewards, objectives and the engine."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from taoemb.settings.section import Section

Precision = Literal["auto", "fp32", "bf16-autocast", "bf16"]


class RewardConfig(Section):
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


class OptimConfig(Section):
    """AdamW with warm-up and a schedule."""

    lr: float = Field(3e-5, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, le=1, description="Share of the steps.")
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = Field(1.0, ge=0, description="Global norm; 0 turns clipping off.")


class SFTConfig(Section):
    """Supervised fine-tuning: InfoNCE over in-batch and global random negatives (paper section 2)."""

    steps: int = Field(160, ge=1)
    queries: int = Field(64, ge=1, description="Queries a step, over all ranks.")
    random_negatives: int = Field(64, ge=0, description="Items drawn from the whole catalogue a step, over all ranks.")
    tau: float = Field(0.05, gt=0, description="Softmax temperature.")
    soup: float = Field(
        1.0, gt=0, le=1, description="Share of the trained weights in the release; the rest are the starting model's."
    )
    optim: OptimConfig = OptimConfig()


class HardNegativesConfig(SFTConfig):
    """Baseline: SFT with negatives mined offline by the starting encoder."""

    negatives: int = Field(4, ge=1, description="Mined negatives a query.")
    depth: int = Field(64, ge=1, description="Top-K from which negatives are mined.")
    max_score_ratio: float = Field(
        0.97, gt=0, description="Skip items that score above this share of the positive's score."
    )
    optim: OptimConfig = OptimConfig(lr=2e-5)


class GRPOConfig(Section):
    """Retrieval-GRPO (paper section 3); docs/decisions.md has the reasons for the defaults."""

    towers: Literal["query", "both", "alternating"] = Field(
        "query", description="`query`: items frozen; `both`: the paper; `alternating`: queries and items step by step."
    )
    pool: Literal["catalogue", "batch"] = Field("catalogue", description="Where Top-K is taken from.")
    batch_items: int = Field(128, ge=2, description="Random items beside the positives when the pool is the batch.")
    steps: int = Field(400, ge=1)
    queries: int = Field(64, ge=1, description="Queries a step, over all ranks.")
    k: int = Field(32, ge=2, description="Group size K.")
    tau: float = Field(0.05, gt=0, description="Policy temperature: pi = softmax(s / tau) over the group.")
    clip: float = Field(0.2, gt=0, description="PPO clip range epsilon.")
    kl: float = Field(0.02, ge=0, description="Weight of KL(pi || pi_ref) on the group.")
    anchor: float = Field(0.1, ge=0, description="Weight of the InfoNCE anchor on known pairs.")
    max_advantage: float = Field(
        2.0, gt=0, description="A group whose largest advantage is above is scaled down to this, as a whole."
    )
    min_std: float = Field(1e-4, ge=0, description="Groups whose reward std is below are masked out.")
    staleness: int = Field(
        1, ge=0, description="Steps that judging may lag behind the policy; 0 is strictly on-policy."
    )
    updates: int = Field(1, ge=1, description="Optimiser updates on each batch of groups.")
    refresh: int = Field(50, ge=1, description="Steps between two embeddings of the whole catalogue (towers: both).")
    heldout_every: int = Field(0, ge=0, description="Steps between checks by the held-out judge; 0 turns them off.")
    heldout_queries: int = Field(64, ge=1)
    admission: Literal["off", "warn", "refuse", "continue-sft"] = Field(
        "off",
        description="What to do when the judge doesn't order graded pairs surely better than the release that it is to "
        "teach: `warn`; `refuse`: stop; `continue-sft`: go on with that release untrained. `off`: it is not tried.",
    )
    admission_data: Path | None = Field(
        None, description="Dataset folder whose judgments neither judge nor release was trained on; default: --data."
    )
    admission_pairs: int = Field(500, ge=20, description="Pairs that the judge is asked about at most.")
    optim: OptimConfig = OptimConfig(lr=1e-4)


class LiveInfoNCEConfig(Section):
    """Control: InfoNCE whose negatives are the model's own live Top-K; no judge, no reward."""

    towers: Literal["query", "both"] = "query"
    steps: int = Field(400, ge=1)
    queries: int = Field(64, ge=1)
    k: int = Field(32, ge=2)
    tau: float = Field(0.05, gt=0)
    refresh: int = Field(50, ge=1)
    optim: OptimConfig = OptimConfig(lr=1e-4)


class EngineConfig(Section):
    """DeepSpeed and the run's bookkeeping, the same for every objective."""

    seed: int = 0
    zero_stage: Literal[0, 1, 2, 3] = 0
    precision: Precision = Field("auto", description="`auto`: bf16-autocast where the hardware has bf16, else fp32.")
    offload: Literal["none", "optimizer", "optimizer+parameters"] = "none"
    gradient_accumulation: int = Field(1, ge=1, description="Backward passes a step; divides each rank's queries.")
    gradient_checkpointing: bool = False
    length_buckets: int = Field(4, ge=1, description="Length-sorted forward passes a micro-batch is cut into.")
    checkpoint_every: int = Field(100, ge=1, description="Steps.")
    keep_checkpoints: int = Field(2, ge=1)
    banks: Path | None = Field(
        None, description="Folder that keeps embedded catalogues, so that runs from one release embed it once."
    )
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
