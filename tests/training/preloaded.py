"""What the process that jobs are forked from imports once: all that a training job imports, and starts no thread."""

import os

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()):
    import deepspeed  # noqa: F401
import sentence_transformers.models  # noqa: F401
import transformers.models.bert.modeling_bert  # noqa: F401

import taoemb.training.entry
import taoemb.training.grpo
import taoemb.training.hard_negatives
import taoemb.training.live_infonce
import taoemb.training.sft  # noqa: F401
