"""Where models compute unless they are told, and in what."""

import os

import torch


def default_device() -> torch.device:
    """The GPU if there is one, else the processor; always that where accelerate is told so."""
    told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1", "yes")
    return torch.device("cuda" if torch.cuda.is_available() and not told else "cpu")


def bfloat16_computes(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 itself; elsewhere bfloat16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))
