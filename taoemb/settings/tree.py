"""The whole tree, its sections in the order of the loop."""

from pydantic import Field

from taoemb.settings.cluster import ControllerConfig, JobConfig, KServeConfig
from taoemb.settings.data import QueryGenerationConfig, SplitConfig
from taoemb.settings.models import EncoderConfig, JudgeConfig, JudgeServerConfig, JudgeTrainConfig
from taoemb.settings.release import EvaluationConfig, GateConfig, MilvusConfig
from taoemb.settings.section import Section
from taoemb.settings.serving import EncoderServerConfig, EventsConfig, GatewayConfig, LogsConfig
from taoemb.settings.training import (
    EngineConfig,
    GRPOConfig,
    HardNegativesConfig,
    LiveInfoNCEConfig,
    RewardConfig,
    SFTConfig,
)


class Config(Section):
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
    logs: LogsConfig = LogsConfig()
    kserve: KServeConfig = KServeConfig()
    controller: ControllerConfig = ControllerConfig()
    job: JobConfig = JobConfig()
