"""What the arithmetic units of this machine are good at."""

import torch


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is fast there: any CUDA device, and CPUs with AVX512-BF16 or AMX."""
    if device.type != "cpu":
        return True
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
