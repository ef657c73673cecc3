"""A workspace gives the same memory for the same name, and other memory for another."""

import torch
from consortium.models.llama.buffers import Workspace

LIKE = torch.zeros(1)


def test_a_name_keeps_its_memory_while_it_is_large_enough() -> None:
    workspace = Workspace()
    first = workspace("a", 4, 3, like=LIKE)
    assert first.shape == (4, 3)
    assert workspace("a", 2, 3, like=LIKE).data_ptr() == first.data_ptr()
    assert workspace("a", 2, 3, like=LIKE).shape == (2, 3)
    assert workspace("b", 4, 3, like=LIKE).data_ptr() != first.data_ptr()


def test_larger_or_of_another_type_is_new_memory() -> None:
    workspace = Workspace()
    first = workspace("a", 4, like=LIKE)
    assert workspace("a", 5, like=LIKE).data_ptr() != first.data_ptr()
    assert workspace("a", 5, like=LIKE.bfloat16()).dtype == torch.bfloat16
