"""How fast this machine multiplies matrices now, with the threads and dtype of the work it is held against."""

from __future__ import annotations

import time

import torch
from consortium.common.seeds import derive

from benchmarks.harness.case import Product

_AT_LEAST_S = 0.1
_COPIED, _COPIES = 64 << 20, 4


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def product_rate(product: Product) -> float:
    """Floating-point operations per second of a matrix product, over at least a tenth of a second, warmed up."""
    generator = torch.Generator(product.device).manual_seed(derive(0, "product"))
    shapes = (product.rows, product.inner), (product.inner, product.columns)
    left, right = (torch.randn(shape, generator=generator, device=product.device).to(product.dtype) for shape in shapes)
    out = left @ right
    num_products, seconds = 1, _timed(left, right, out, 1)
    while seconds < _AT_LEAST_S:
        num_products *= 2 if seconds <= 0 else max(2, min(64, int(1.2 * _AT_LEAST_S / seconds)))
        seconds = _timed(left, right, out, num_products)
    return product.flops * num_products / seconds


def generation_rate() -> float:
    """Bytes per second at which this machine's memory is copied."""
    source, target = torch.ones(_COPIED, dtype=torch.uint8), torch.ones(_COPIED, dtype=torch.uint8)
    start = time.perf_counter()
    for _ in range(_COPIES):
        target.copy_(source)
    return _COPIED * _COPIES / (time.perf_counter() - start)


def _timed(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, num_products: int) -> float:
    synchronise(left.device)
    start = time.perf_counter()
    for _ in range(num_products):
        torch.matmul(left, right, out=out)
    synchronise(left.device)
    return time.perf_counter() - start
