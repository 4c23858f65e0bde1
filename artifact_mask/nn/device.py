"""Where networks compute, in which precision, the same twice, and what to do when memory is full."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from artifact_mask.config import Precision


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Device of a name; without one a GPU if there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def fastest_precision(device: torch.device) -> Precision:
    """Fastest precision that a GPU computes natively; float32 on a CPU."""
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def native_precision(device: torch.device) -> Precision:
    """Fastest precision that any device computes natively: ``"bfloat16"`` also on a CPU with AVX512-BF16 or AMX.

    For work that bears its rounding; other CPUs would emulate it, and take longer than with float32.
    """
    if device.type != "cpu":
        return fastest_precision(device)
    found = torch.cpu.get_capabilities()
    return "bfloat16" if found.get("avx512_bf16") or found.get("amx_bf16") else "float32"


@contextmanager
def inference_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Compute without gradients, convolutions in ``dtype``, the same bytes every time."""
    with torch.inference_mode(), _mixed_on(device, dtype):
        yield


@contextmanager
def gradients_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Compute with gradients, convolutions in ``dtype``.

    The same bytes every time on a CPU. On a GPU those of max pooling are summed in any order.
    """
    with torch.enable_grad(), _mixed_on(device, dtype):
        yield


@contextmanager
def _mixed_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Convolutions in ``dtype``; cuDNN is kept to deterministic algorithms: what is computed again must be the same."""
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        if device.type != "cuda":
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True):
            yield


def to_device(batch: NDArray[np.float32], device: torch.device) -> torch.Tensor:
    """Put a batch ``(n, y, x)`` on a device as ``(n, 1, y, x)``, laid out as convolutions like it."""
    tensor = torch.from_numpy(batch)[:, None]
    if device.type == "cuda":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return tensor.contiguous(memory_format=torch.channels_last)


def halve_when_full(compute: Callable[[NDArray[Any]], NDArray[np.float32]], batch: NDArray[Any]) -> NDArray[np.float32]:
    """Compute a batch, in halves while the memory does not do."""
    try:
        return compute(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # Outside the handler, whose traceback keeps the tensors of the failed pass alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    return np.concatenate([halve_when_full(compute, batch[:half]), halve_when_full(compute, batch[half:])])
