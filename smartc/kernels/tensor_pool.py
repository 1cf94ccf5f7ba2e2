"""Memory for tensors that every step makes anew: in large pages, and reused once no tensor lies in it."""

from __future__ import annotations

import mmap
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch

# A page that is found by one entry of the processor's table where small ones take 512.
LARGE_PAGE = 1 << 21
# From this number of bytes on large pages are worth their cost; smaller memory the allocator hands out again by
# itself.
SMALLEST = 1 << 20
# What asks for large pages; other systems than Linux have none, or give them unasked.
ADVICE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)


@dataclass
class _Buffer:
    """Some memory, and who uses it: a view that lives as long as any tensor in it."""

    memory: memoryview
    lease: weakref.ref[memoryview]


@dataclass
class TensorPool:
    """Memory for some tensors of a step.

    To map fresh memory page by page takes longer than to compute what is put there, and memory in small pages is
    slower to read and to write: measured, a product of 11 M weights and their masks takes half the time in large ones.

    Attributes:
        most: The number of buffers that are kept for the next step.
    """

    most: int = 2
    _buffers: list[_Buffer] = field(default_factory=list, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __deepcopy__(self, memo: Any) -> TensorPool:
        """Return an empty pool of the same size."""
        return TensorPool(self.most)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as nothing kept."""
        return TensorPool, (self.most,)

    def empty_like(self, like: torch.Tensor) -> torch.Tensor:
        """Return a contiguous tensor of the same shape, type and device whose memory nothing else uses."""
        size = like.numel() * like.element_size()
        plain = type(like) in (torch.Tensor, torch.nn.Parameter) and like.device.type == "cpu"
        if ADVICE is None or not plain or size < SMALLEST:
            return torch.empty_like(like, memory_format=torch.contiguous_format)
        with self._lock:
            lease = self._leased(size)
        return torch.frombuffer(lease, dtype=like.dtype).view(like.shape)

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy that is no part of a graph."""
        return self.empty_like(tensor).copy_(tensor.detach())

    def empty(self) -> None:
        """Keep nothing for later; what is in use lives on in its tensors."""
        with self._lock:
            self._buffers = []

    def _leased(self, size: int) -> memoryview:
        """Return a view of a free buffer of a number of bytes, or of a new one."""
        free = (buffer for buffer in self._buffers if buffer.lease() is None and len(buffer.memory) == size)
        buffer = next(free, None)
        memory = _mapped(size) if buffer is None else buffer.memory
        # A view of its own: the tensors in the buffer hold it, and nothing else does.
        lease = memory[:]
        # What leaves the list lives on in its tensors.
        self._buffers = [*(each for each in self._buffers if each is not buffer), _Buffer(memory, weakref.ref(lease))]
        self._buffers = self._buffers[-self.most :]
        return lease


# Masks and their gradients are as long as all of a model's units together: each a step's largest tensor.
MASK_POOL = TensorPool(4)


def _mapped(size: int) -> memoryview:
    """Return fresh memory that begins with a large page."""
    assert ADVICE is not None
    memory = mmap.mmap(-1, size + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel that was built without them
        memory.madvise(ADVICE)
    first = -torch.frombuffer(memory, dtype=torch.uint8, count=1).data_ptr() % LARGE_PAGE
    return memoryview(memory)[first : first + size]
