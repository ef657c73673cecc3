"""Measuring a case: ours and the naive way, interleaved in one process on the same items.

Each way is run once untimed: that run warms caches and kernels, counts operations, shows the peak of memory and
gives the result to compare. Then follow the repetitions: the rate of a matrix product, ours, naive, and again. The
product is measured between them because machines that are shared, or that heat up, do not keep one speed.

What the naive way does must fit into the time allowed, so it may get fewer items than ours; the record says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.harness.case import Case
from benchmarks.harness.flops import counted
from benchmarks.harness.memory import PeakMemory, available_bytes
from benchmarks.harness.rate import generation_rate, product_rate, synchronise
from benchmarks.harness.record import Record, Span, origin

#: Says on standard error what is being done.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Budget:
    """How long a case may take.

    Attributes:
        seconds: about so long in all; half of it for either way. Our way is always run on all items, twice at least.
        repeats: repetitions, if there is time for them.
    """

    seconds: float
    repeats: int


@dataclass(frozen=True)
class _Pass:
    """The untimed run of one way."""

    value: Any
    seconds: float
    flops: int
    peak_bytes: int | None
    peak_from: str


def measure(benchmark: str, case: Case, budget: Budget, tell: Tell) -> Record:
    """Measure one case; a case that does not fit into memory gives a record that says so."""
    started = Record(
        benchmark,
        case.label,
        case.unit,
        case.items,
        product=str(case.product),
        parameters=case.parameters,
        **origin(case.product.device),
    )
    impossible = _impossible(case, budget)
    if impossible is not None:
        return replace(started, skipped=impossible)
    tell(f"{benchmark}, {case.label}: warming up")
    product_rate(case.product)
    case.prepare()
    return _measure(started, case, budget, partial(_say, tell, f"{benchmark}, {case.label}"))


def _impossible(case: Case, budget: Budget) -> str | None:
    """Why a case is left out: too little memory, or too little time for our way, which is run twice at least."""
    available = available_bytes(case.product.device)
    if available is not None and case.needed_bytes > available:
        return f"needs about {case.needed_bytes / 2**30:.3g} GiB of memory, and {available / 2**30:.3g} GiB can be had"
    if not case.written_bytes:
        return None
    seconds = 2 * case.written_bytes / generation_rate()
    if seconds <= budget.seconds:
        return None
    size = f"{case.written_bytes / 2**30:.3g} GiB"
    return f"our way alone writes {size} and would take {seconds:.0f} s or more (--seconds allows more)"


def _say(tell: Tell, place: str, what: str) -> None:
    tell(f"{place}: {what}")


def _measure(started: Record, case: Case, budget: Budget, tell: Tell) -> Record:
    if not case.has_fixed_part:  # where a small part costs nearly what the whole does, the untimed run has to do
        case.ours(case.granule)
    tell("ours, to count operations")
    ours = _run_untimed(case, case.ours, case.items)
    repeats = max(1, min(budget.repeats, int(budget.seconds / 2 / ours.seconds)))
    skipped = _too_slow(case, budget)
    naive: _Pass | None = None
    if case.naive is not None and skipped is None:
        tell("naive, to see how long it takes")
        naive = _run_untimed(case, case.naive, case.granule)
        items_naive = _items_naive(case, budget.seconds / 2 / (repeats + 1), naive.seconds)
        if items_naive > case.granule:
            tell(f"naive, to count operations ({items_naive} of {case.items})")
            naive = _run_untimed(case, case.naive, items_naive)
        started = replace(started, items_naive=items_naive, difference=_difference(case, ours, naive, items_naive))
    times = _interleaved(case, started.items_naive, repeats, tell)
    record = _with_ours(started, case, ours, times)
    if naive is None:
        return replace(record, skipped=skipped)
    return _with_naive(record, case, ours, naive, times)


@dataclass(frozen=True)
class _Times:
    """Seconds of each repetition, and the product's rates between them.

    Attributes:
        small: seconds of the naive way on a granule, where its time is a straight line through two sizes.
    """

    ours: list[float]
    naive: list[float]
    rates: list[float]
    small: float | None = None


def _interleaved(case: Case, items_naive: int, repeats: int, tell: Tell) -> _Times:
    times = _Times([], [], [])
    for repeat in range(repeats):
        tell(f"repetition {repeat + 1} of {repeats}")
        times.rates.append(product_rate(case.product))
        times.ours.append(_seconds(case, case.ours, case.items))
        if case.naive is not None and items_naive:
            times.naive.append(_seconds(case, case.naive, items_naive))
    if case.has_fixed_part and case.naive is not None and case.granule < items_naive < case.items:
        return replace(times, small=_seconds(case, case.naive, case.granule))
    return times


def _with_ours(record: Record, case: Case, ours: _Pass, times: _Times) -> Record:
    floor = None if case.floor is None else case.floor(ours.value)
    # A count below what cannot be avoided has missed something: graphs that are replayed, kernels of one's own.
    is_counted = ours.flops > 0 and (floor is None or ours.flops >= floor)
    flops = ours.flops if is_counted else floor
    seconds, rate = Span.of(times.ours), Span.of(times.rates).median
    moved = case.moved(ours.value)
    achieved = None if flops is None else flops / seconds.median
    return replace(
        record,
        repeats=len(times.ours),
        seconds_ours=Span.of([each / case.items for each in times.ours]),
        flops_ours=None if flops is None else flops / case.items,
        flops_from="counted" if is_counted else ("formula" if floor is not None else None),
        rate_ours=achieved,
        rate_product=rate,
        share_of_product=None if achieved is None else achieved / rate,
        floor_flops=None if floor is None else floor / case.items,
        times_floor=None if floor is None else seconds.median * rate / floor,
        bytes_moved=moved.count,
        bytes_meaning=moved.meaning,
        peak_ours_bytes=ours.peak_bytes,
        peak_from=ours.peak_from,
    )


def _with_naive(record: Record, case: Case, ours: _Pass, naive: _Pass, times: _Times) -> Record:
    items = record.items_naive
    share = items / case.items if case.share is None else case.share(ours.value, items)
    whole, how = _for_all_items(case, times, items, share)
    return replace(
        record,
        seconds_naive=Span.of([each / case.items for each in whole]),
        naive_from=how,
        ratio=Span.of([slow / fast for slow, fast in zip(whole, times.ours, strict=True)]),
        flops_naive=naive.flops / share / case.items,
        peak_naive_bytes=naive.peak_bytes,
    )


def _for_all_items(case: Case, times: _Times, items: int, share: float) -> tuple[list[float], str]:
    """Seconds that the naive way takes for all items, and how they were found."""
    if items == case.items:
        return times.naive, "timed on all items"
    if times.small is None:
        part = f"{items} of {case.items} items, {100 * share:.3g} % of the work"
        return [each / share for each in times.naive], f"timed on {part}, in proportion"
    more = (case.items - items) / (items - case.granule)
    line = [each + more * max(0.0, each - times.small) for each in times.naive]
    return line, f"straight line through {case.granule} and {items} of {case.items} items"


def _items_naive(case: Case, seconds: float, small_s: float) -> int:
    """As many items as the time allows, at most all; at least one granule, or two where a line needs two points."""
    granules = max(2 if case.has_fixed_part else 1, int(seconds / max(small_s, 1e-9)))
    return min(case.items, granules * case.granule)


def _too_slow(case: Case, budget: Budget) -> str | None:
    """Why the naive way is left out, where even its least work would take far longer than there is time."""
    if case.naive is None or case.least_flops is None:
        return None
    seconds = case.least_flops(case.granule) / product_rate(case.product)
    if seconds <= budget.seconds:
        return None
    return f"naive left out: {case.granule} {case.unit} would take {seconds:.0f} s or more (--seconds allows more)"


def _difference(case: Case, ours: _Pass, naive: _Pass, items_naive: int) -> float:
    value = case.ours(items_naive) if case.is_whole and items_naive < case.items else ours.value
    return float(case.difference(value, naive.value))


def _run_untimed(case: Case, work: Callable[[int], Any], items: int) -> _Pass:
    device = case.product.device
    with PeakMemory(device) as peak:
        start = time.perf_counter()
        value, flops = counted(partial(work, items))
        synchronise(device)
        seconds = time.perf_counter() - start
    return _Pass(value, seconds, flops, peak.num_bytes, peak.source)


def _seconds(case: Case, work: Callable[[int], Any], items: int) -> float:
    synchronise(case.product.device)
    start = time.perf_counter()
    work(items)
    synchronise(case.product.device)
    return time.perf_counter() - start
