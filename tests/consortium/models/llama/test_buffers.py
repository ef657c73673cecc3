"""A buffer pool gives the same memory for the same name, and other memory for another."""

import torch
from consortium.models.llama.buffers import BufferPool

LIKE = torch.zeros(1)


def test_a_name_keeps_its_memory_while_it_is_large_enough() -> None:
    buffer_pool = BufferPool()
    first = buffer_pool("a", 4, 3, like=LIKE)
    assert first.shape == (4, 3)
    assert buffer_pool("a", 2, 3, like=LIKE).data_ptr() == first.data_ptr()
    assert buffer_pool("a", 2, 3, like=LIKE).shape == (2, 3)
    assert buffer_pool("b", 4, 3, like=LIKE).data_ptr() != first.data_ptr()


def test_larger_or_of_another_type_is_new_memory() -> None:
    buffer_pool = BufferPool()
    first = buffer_pool("a", 4, like=LIKE)
    assert buffer_pool("a", 5, like=LIKE).data_ptr() != first.data_ptr()
    assert buffer_pool("a", 5, like=LIKE.bfloat16()).dtype == torch.bfloat16
