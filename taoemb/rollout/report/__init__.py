"""The rollout's report: one self-contained page, written or served live."""
