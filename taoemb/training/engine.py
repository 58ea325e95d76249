"""One encoder under DeepSpeed: ZeRO stage, precision and offload come from the settings.

Gradients of ranks are averaged by DeepSpeed, so an objective's loss is the mean over this rank's own queries.
"""

import contextlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taoemb.config import EngineConfig, OptimConfig, prepare_deepspeed_environment
from taoemb.encoder.batching import TokenBatch
from taoemb.encoder.hardware import has_bf16
from taoemb.encoder.model import Encoder
from taoemb.errors import InputError
from taoemb.training.distributed import Ranks


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """The learning rate of a step: linear warm-up, then constant, or linear or cosine decay to 0."""
    warmup = math.ceil(optim.warmup * steps)
    if step < warmup:
        return optim.lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    match optim.schedule:
        case "constant":
            return optim.lr
        case "linear":
            return optim.lr * (1 - progress)
        case "cosine":
            return optim.lr * 0.5 * (1 + math.cos(math.pi * progress))


def autocasts(engine: EngineConfig, device: torch.device) -> bool:
    """Whether weights stay float32 and matrix products are bf16."""
    return engine.precision == "bf16-autocast" or (engine.precision == "auto" and has_bf16(device))


def deepspeed_settings(engine: EngineConfig, optim: OptimConfig, device: torch.device) -> dict[str, Any]:
    """The DeepSpeed configuration (its JSON document) that the settings ask for."""
    zero: dict[str, Any] = {"stage": engine.zero_stage}
    if engine.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if engine.offload == "optimizer+parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,  # batches are built here; DeepSpeed only needs the ratio
        "gradient_accumulation_steps": engine.gradient_accumulation,
        "gradient_clipping": optim.grad_clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**12,
    }
    if engine.precision == "bf16":
        settings["bf16"] = {"enabled": True}
    if autocasts(engine, device):
        settings["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return settings | engine.deepspeed


def _parameter_groups(encoder: Encoder, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only; biases and norms are left alone."""
    trainable = [p for p in encoder.parameters() if p.requires_grad]
    decayed = [p for p in trainable if p.dim() > 1]
    others = [p for p in trainable if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _turn_dropout_off(encoder: Encoder) -> None:
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _sizes(encoder: Encoder) -> tuple[int, int]:
    """About the bytes of a release and of a checkpoint: float32 weights; these, a master copy and Adam's moments."""
    weights = sum(p.numel() for p in encoder.parameters())
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    return 4 * weights, 4 * weights + 12 * trained


class Engine:
    """An encoder, its optimiser and DeepSpeed's sharding of both."""

    def __init__(self, encoder: Encoder, config: EngineConfig, optim: OptimConfig, steps: int, ranks: Ranks) -> None:
        if encoder.compiled and config.zero_stage == 3:
            raise InputError("encoder.compile: not with engine.zero_stage 3, whose weights come and go within a layer")
        prepare_deepspeed_environment(ranks.rank, ranks.world_size)
        import deepspeed  # reads its accelerator from the environment when it is imported

        deepspeed.utils.logger.setLevel("ERROR")
        # A shared-memory all-reduce for CPUs, compiled at every first run: gloo serves, and images have no compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        with contextlib.redirect_stdout(io.StringIO()):
            deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), dist_init_required=False)
        self._optim, self._steps, self._stage = optim, steps, config.zero_stage
        self.release_bytes, self.checkpoint_bytes = _sizes(encoder)
        self.accumulation = config.gradient_accumulation
        self.encoder = encoder.to(ranks.device)
        if config.gradient_checkpointing:
            encoder.enable_gradient_checkpointing()
        optimizer = torch.optim.AdamW(
            _parameter_groups(encoder, optim.weight_decay), lr=optim.lr, betas=optim.betas, fused=True
        )
        settings = deepspeed_settings(config, optim, ranks.device)
        with contextlib.redirect_stdout(io.StringIO()):  # its op builder prints
            self._engine, *_ = deepspeed.initialize(model=encoder, optimizer=optimizer, config=settings)
        if ranks.world_size == 1 and config.zero_stage == 0:
            # Alone there is nothing to average, yet DeepSpeed would copy all gradients into one buffer and back.
            self._engine.enable_backward_allreduce = False
        # No dropout: old and new log-probabilities must come from the same arithmetic (paper section 3).
        _turn_dropout_off(encoder)
        self._engine.train(config.gradient_checkpointing)  # transformers recomputes activations in train mode only

    def embed(self, batches: Sequence[TokenBatch]) -> Tensor:
        """Unit vectors (N, D) float32 of tokenised texts, with gradient."""
        return self._engine(batches).float()

    @torch.no_grad()
    def embed_without_gradient(self, batches: Sequence[TokenBatch]) -> Tensor:
        """Unit vectors (N, D) float32 of tokenised texts under the current weights."""
        return self._engine(batches).float()

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of one micro-batch (DeepSpeed divides by the accumulation)."""
        self._engine.backward(loss)
        if not self._engine.is_gradient_accumulation_boundary():
            self._engine.step()

    def step(self, step: int) -> dict[str, float]:
        """Apply the accumulated gradient at the learning rate of `step`; returns what to log."""
        rate = learning_rate(self._optim, step, self._steps)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        unsharded = [p.grad for p in self.encoder.parameters() if p.grad is not None] if self._stage == 0 else []
        own_norm = torch.nn.utils.get_total_norm(unsharded)  # DeepSpeed knows none without ZeRO and in float32
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return {"lr": rate, "grad_norm": float(own_norm if norm is None else norm)}

    def save(self, folder: Path, tag: str) -> None:
        """Write the sharded state under folder/tag (all ranks call). Raises OSError or RuntimeError on a full disk."""
        try:
            self._engine.save_checkpoint(str(folder), tag=tag, save_latest=False)
        except (OSError, RuntimeError):
            # The other ranks wait at the end of DeepSpeed's own save: meet them there, so that they hear of it.
            if self._stage == 3:
                self._engine.optimizer.checkpoint_event_epilogue()
            torch.distributed.barrier()
            raise

    def load(self, folder: Path, tag: str) -> None:
        """Read what `save` wrote (all ranks call)."""
        self._engine.load_checkpoint(str(folder), tag=tag)

    def close(self) -> None:
        """Take DeepSpeed's hooks off the encoder: they keep optimiser states alive, beside the next engine's."""
        self._engine.destroy()

    def weights(self) -> dict[str, Tensor] | None:
        """The whole encoder's float32 weights on the main rank's CPU (all ranks call); None on other ranks."""
        if self._stage == 3:
            import deepspeed

            parameters = list(self.encoder.parameters())
            with deepspeed.zero.GatheredParameters(parameters, modifier_rank=None):
                return self._full_precision_copy()
        return self._full_precision_copy()

    def _full_precision_copy(self) -> dict[str, Tensor] | None:
        if torch.distributed.get_rank() != 0:
            return None
        return {name: value.detach().float().cpu().clone() for name, value in self.encoder.state_dict().items()}
