"""Training on DeepSpeed: SFT, Retrieval-GRPO and the baselines, one file an objective on one engine."""
