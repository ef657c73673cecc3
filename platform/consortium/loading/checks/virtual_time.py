"""Rules for ``devices`` and ``schedule``: distributions that make sense, a trace that fits, options that can matter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from consortium.common.counting import count
from consortium.common.errors import ScenarioError, shown
from consortium.loading.builtin_scenarios import find_file
from consortium.loading.field_errors import FieldError
from consortium.loading.resolve import no_file
from consortium.loading.yaml_text import KeyPath
from consortium.scenario.schema import Scenario
from consortium.scenario.virtual_time import DeviceClassSpec, DevicesSpec, DistributionSpec, ScheduleSpec

_TIMES = ("speed", "upload", "download", "latency_s")
_QUANTITIES = (*_TIMES, "availability")
_ROUNDING = 1e-9


def virtual_time_errors(scenario: Scenario, base_dir: Path) -> Iterator[FieldError]:
    """Every mistake of ``devices`` and ``schedule``, and of what does not go with them."""
    distributions = list(_distributions(scenario.virtual_time.devices))
    classes = list(_classes(scenario.virtual_time.devices))
    yield from [*distributions, *classes]
    yield from _selection(scenario)
    yield from _somebody_can_be_late(scenario)
    yield from _somebody_can_be_absent(scenario)
    yield from _nothing_is_removed(scenario)
    if not distributions and not classes:
        yield from _trace(scenario, base_dir)


def _distributions(devices: DevicesSpec) -> Iterator[FieldError]:
    owners: list[tuple[KeyPath, DevicesSpec | DeviceClassSpec]] = [
        (
            (
                "virtual_time",
                "devices",
            ),
            devices,
        )
    ]
    owners += [(("virtual_time", "devices", "classes", place), each) for place, each in enumerate(devices.classes)]
    for path, owner in owners:
        for quantity in _QUANTITIES:
            distribution = getattr(owner, quantity)
            if distribution is not None:
                yield from _distribution((*path, quantity), quantity, distribution)


def _distribution(path: KeyPath, quantity: str, spec: DistributionSpec) -> Iterator[FieldError]:
    named = {kind: getattr(spec, kind) for kind in type(spec).model_fields if getattr(spec, kind) is not None}
    if len(named) != 1:
        found = f"found {' and '.join(named) or 'an empty mapping'}"
        yield FieldError(path, found, "a number, or exactly one of uniform, lognormal and choice")
        return
    if spec.uniform is not None and spec.uniform[0] > spec.uniform[1]:
        low, high = spec.uniform
        found = f"found [{low:g}, {high:g}]"
        yield FieldError((*path, "uniform"), found, "the least, then the most", f"write [{high:g}, {low:g}]")
    values = (spec.constant,) if spec.constant is not None else spec.uniform or spec.choice or ()
    if quantity == "availability" and spec.lognormal is not None:
        yield FieldError(path, "found a lognormal distribution", "probabilities: a number, uniform or choice")
    elif quantity == "availability" and not all(0 <= value <= 1 for value in values):
        yield FieldError(path, f"found {shown(list(values))}", "probabilities from 0 to 1")
    elif quantity == "latency_s" and any(value < 0 for value in values):
        yield FieldError(path, f"found {shown(list(values))}", "seconds, 0 or more")
    elif quantity not in ("availability", "latency_s") and any(value <= 0 for value in values):
        yield FieldError(path, f"found {shown(list(values))}", "numbers above 0, or null for no time at all")


def _classes(devices: DevicesSpec) -> Iterator[FieldError]:
    path = ("virtual_time", "devices", "classes")
    names = [each.name for each in devices.classes]
    if len(set(names)) < len(names):
        yield FieldError(path, f"found the names {', '.join(names)}", "each name once")
    total = sum(each.share for each in devices.classes)
    if total > 1 + _ROUNDING:
        yield FieldError(path, f"shares that add up to {total:g}", "at most 1; the rest of the parties are of no class")


def _selection(scenario: Scenario) -> Iterator[FieldError]:
    schedule = scenario.virtual_time.schedule
    if schedule.select * schedule.over_select > 1 + _ROUNDING:
        found = f"found {schedule.over_select:g} with select: {schedule.select:g}, more than there are parties"
        yield FieldError(
            ("virtual_time", "schedule", "over_select"), found, f"at most {1 / schedule.select:g} (1 / select)"
        )


def _takes_time(devices: DevicesSpec) -> bool:
    owners: list[DevicesSpec | DeviceClassSpec] = [devices, *devices.classes]
    return devices.trace is not None or any(getattr(owner, each) is not None for owner in owners for each in _TIMES)


def _somebody_can_be_late(scenario: Scenario) -> Iterator[FieldError]:
    schedule = scenario.virtual_time.schedule
    plain = ScheduleSpec()
    keys = ("over_select", "quorum", "deadline_s")
    closing = [key for key in keys if getattr(schedule, key) != getattr(plain, key)]
    if closing and not _takes_time(scenario.virtual_time.devices):
        found = f"found {getattr(schedule, closing[0]):g}, and answers take no time"
        allowed = "devices with a speed, upload, download or latency_s, or a trace"
        yield FieldError(("virtual_time", "schedule", closing[0]), found, allowed)
    if scenario.virtual_time.devices.jitter and not _takes_time(scenario.virtual_time.devices):
        found = f"found {scenario.virtual_time.devices.jitter:g}, and answers take no time that could vary"
        yield FieldError(
            ("virtual_time", "devices", "jitter"), found, "0, or a speed, upload, download or latency_s beside it"
        )
    if schedule.late == "drop" and not closing:
        found = "found 'drop', and nobody is ever late: a round waits for all answers"
        yield FieldError(
            ("virtual_time", "schedule", "late"),
            found,
            "a deadline_s, a quorum below 1 or over_select above 1 beside it",
        )


def _somebody_can_be_absent(scenario: Scenario) -> Iterator[FieldError]:
    schedule, devices = scenario.virtual_time.schedule, scenario.virtual_time.devices
    leaves_out = schedule.select * schedule.over_select < 1 - _ROUNDING
    owners: list[DevicesSpec | DeviceClassSpec] = [devices, *devices.classes]
    comes_and_goes = devices.trace is not None or any(owner.availability is not None for owner in owners)
    if schedule.absent == "drop" and not (leaves_out or comes_and_goes):
        found = "found 'drop', and everybody is asked in every round"
        yield FieldError(
            ("virtual_time", "schedule", "absent"),
            found,
            "select below 1, or an availability or a trace of virtual_time.devices",
        )


def _nothing_is_removed(scenario: Scenario) -> Iterator[FieldError]:
    for key in ("parties", "edits"):
        if scenario.has_virtual_time and getattr(scenario.unlearn, key):
            found = "edits are removed in a run with virtual time, in which they may not have been merged yet"
            yield FieldError(("unlearn", key), found, "one of the two", "leave out virtual_time")


def _trace(scenario: Scenario, base_dir: Path) -> Iterator[FieldError]:
    path, trace = ("virtual_time", "devices", "trace"), scenario.virtual_time.devices.trace
    if trace is None:
        return
    file = find_file(trace, base_dir)
    if file is None:
        found = no_file(trace, base_dir)
        yield FieldError(path, found, "the path of a CSV or JSON lines file, or null")
        return
    from consortium.features.virtual_time.devices import Devices  # only where a scenario asks for it

    try:
        devices = Devices(
            scenario.seed, scenario.virtual_time.devices.model_copy(update={"trace": str(file)}), scenario.parties.count
        )
    except ScenarioError as error:
        yield FieldError(path, error.found, error.expected)
        return
    unknown = [
        name
        for name in devices.traced_classes
        if name not in {each.name for each in scenario.virtual_time.devices.classes}
    ]
    if unknown:
        yield FieldError(path, f"{file} has rows of the class {unknown[0]!r}", "classes that devices.classes names")
    if devices.untraced:
        missing = devices.untraced
        others = f" and {count(len(missing) - 1, 'other')}" if len(missing) > 1 else ""
        found = f"{file} has no row for party {missing[0]}{others}, nor for its class of device"
        yield FieldError(
            path, found, f"rows for all {count(scenario.parties.count, 'party')} (parties.count), or their classes"
        )
