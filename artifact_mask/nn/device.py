"""Where networks compute, in which precision, the same twice, and what to do when memory is full."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


@contextmanager
def inference_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Compute without gradients, convolutions in ``dtype``, the same bytes every time.

    cuDNN is kept to deterministic algorithms: a unit that is computed again has to give the same bytes.
    """
    mixed = torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
    with torch.inference_mode(), mixed:
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


def halve_when_full(
    compute: Callable[[NDArray[np.float32]], NDArray[np.float32]], batch: NDArray[np.float32]
) -> NDArray[np.float32]:
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
