"""taoemb: train, publish and roll out a dense-retrieval encoder with Retrieval-GRPO (arXiv 2511.13885)."""

__version__ = "0.1.0"
