"""Memory that is used again holds no two tensors at a time."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch

from smartc.kernels import tensor_pool
from smartc.kernels.tensor_pool import LARGE_PAGE, SMALLEST, TensorPool
from smartc.masks.scaled_rows import Memory

LARGE = torch.empty(SMALLEST // 4)


def test_memory_is_used_again_once_no_tensor_lies_in_it() -> None:
    pool = TensorPool()
    first = pool.empty_like(LARGE)
    place, part = first.data_ptr(), first.view(4, -1)[2]
    del first
    second = pool.empty_like(LARGE)
    assert second.data_ptr() != place
    part.fill_(1.0)
    second.fill_(2.0)
    assert part.eq(1).all()
    del part
    assert pool.empty_like(LARGE).data_ptr() == place


@pytest.mark.skipif(tensor_pool.ADVICE is None, reason="this system has no large pages to ask for")
def test_large_tensors_begin_with_a_page() -> None:
    assert TensorPool().empty_like(LARGE).data_ptr() % LARGE_PAGE == 0


def test_no_more_buffers_are_kept_than_asked_for() -> None:
    pool = TensorPool(2)
    tensors = [pool.empty_like(LARGE).fill_(number) for number in range(5)]
    assert len({tensor.data_ptr() for tensor in tensors}) == 5
    assert all(tensor.eq(number).all() for number, tensor in enumerate(tensors))
    oldest = tensors[0].data_ptr()
    del tensors
    assert oldest not in {pool.empty_like(LARGE).data_ptr() for _ in range(3)}


def test_what_is_kept_can_be_given_up() -> None:
    pool = TensorPool()
    inside = pool.empty_like(LARGE).fill_(1.0)
    place = inside.data_ptr()
    pool.empty()
    other = pool.empty_like(LARGE).fill_(2.0)
    assert other.data_ptr() != place
    assert inside.eq(1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32])
def test_tensors_are_as_asked_for(dtype: torch.dtype) -> None:
    like = torch.ones(1024, 1024, dtype=dtype).T
    tensor = TensorPool().empty_like(like)
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == (like.shape, dtype, True)
    assert torch.equal(TensorPool().copy(like), like)


@pytest.mark.parametrize("like", [torch.empty(3), torch.empty(0), LARGE.to("meta")], ids=["small", "empty", "meta"])
def test_what_needs_no_pool_is_an_ordinary_tensor(like: torch.Tensor) -> None:
    tensor = TensorPool().empty_like(like)
    assert (tensor.shape, tensor.device, tensor.dtype) == (like.shape, like.device, like.dtype)


def test_systems_without_large_pages_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_pool, "ADVICE", None)
    assert TensorPool().empty_like(LARGE).shape == LARGE.shape


def test_copies_of_pools_begin_empty() -> None:
    pool = TensorPool(3)
    tensor = pool.empty_like(LARGE)
    place = tensor.data_ptr()
    del tensor
    for other in (copy.deepcopy(pool), pickle.loads(pickle.dumps(pool))):
        assert other.most == 3
        assert other.empty_like(LARGE).data_ptr() != place
    assert pool.empty_like(LARGE).data_ptr() == place


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda memory: pickle.loads(pickle.dumps(memory))])
def test_copies_of_products_hold_nothing(copied: Callable[[Memory], Memory]) -> None:
    memory = Memory(fresh_gradient=True)
    memory.spread(torch.rand(64), torch.clone, torch.float32)
    other = copied(memory)
    assert len(pickle.dumps(memory)) < 512
    assert other.fresh_gradient
    assert other.spread(torch.zeros(4), torch.clone, torch.float32).eq(0).all()
