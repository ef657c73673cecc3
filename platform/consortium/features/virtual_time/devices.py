"""What each party computes on: speed, bandwidths, latency and availability, drawn once and changed by a trace.

Every quantity is drawn for all parties from one generator, party after party, so that a party added at the end
changes nobody else's.

Shapes: P parties, S some of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consortium.common.seeds import numpy_generator
from consortium.features.virtual_time.trace import QUANTITIES, Trace, read_trace
from consortium.scenario.virtual_time import DevicesSpec, DistributionSpec

DeviceNumbers = NDArray[np.float64]
DevicePlaces = NDArray[np.int64]

#: What holds where nothing is said: no time for computing or for bytes, no latency, always there.
_UNSAID = {"speed": np.inf, "upload": np.inf, "download": np.inf, "latency_s": 0.0, "availability": 1.0}


@dataclass(frozen=True)
class Workload:
    """What an answer of each of some parties takes, besides their devices.

    Attributes:
        num_edits_S: edits that are computed.
        upload_bytes_S: what is sent.
        download_bytes: what is received beforehand.
        num_messages: messages that come and go, for latency.
    """

    num_edits_S: NDArray[np.int64]
    upload_bytes_S: NDArray[np.int64]
    download_bytes: int
    num_messages: int


class Devices:
    """The devices of all parties of a run.

    Args:
        seed: the run's seed.
        spec: what the scenario says of them.
        num_parties: how many there are.

    Raises:
        ScenarioError: the trace cannot be read.
    """

    def __init__(self, seed: int, spec: DevicesSpec, num_parties: int) -> None:
        self._seed, self._jitter = seed, spec.jitter
        classes_P = _drawn_classes(seed, spec, num_parties)
        names = [*(each.name for each in spec.classes), None]
        self.class_of: list[str | None] = [names[place] for place in classes_P.tolist()]
        self._drawn = {name: _drawn(seed, spec, name, classes_P) for name in _UNSAID}
        self._trace: Trace | None = None if spec.trace is None else read_trace(Path(spec.trace))
        self._owner_P = None if self._trace is None else self._trace.owner_of(self.class_of)

    @property
    def untraced(self) -> list[int]:
        """Parties of which the trace says nothing; none without a trace."""
        return [] if self._owner_P is None else np.flatnonzero(self._owner_P < 0).tolist()

    @property
    def traced_classes(self) -> list[str]:
        """Classes that the trace speaks of."""
        owners = () if self._trace is None else self._trace.owners
        return [owner for owner in owners if isinstance(owner, str)]

    def available(self, round_number: int, time_s: float) -> NDArray[np.bool_]:
        """For each party whether it is there when a round begins at a time: as the trace says, or else drawn."""
        odds_P = self._drawn["availability"]
        drawn_P = numpy_generator(self._seed, "available", round_number).random(len(odds_P)) < odds_P
        traced_P = self._traced("available", time_s)
        return drawn_P if traced_P is None else np.where(np.isnan(traced_P), drawn_P, traced_P == 1.0)

    def next_arrival(self, time_s: float) -> float | None:
        """The next time after ``time_s`` at which the trace lets somebody come; None when it does not say."""
        return None if self._trace is None else self._trace.next_arrival(time_s)

    def seconds(self, round_number: int, parties_S: DevicePlaces, time_s: float, work: Workload) -> DeviceNumbers:
        """How long some parties' answers take in a round that begins at a time, by what holds then: seconds [S]."""
        speed_S, upload_S, download_S, latency_s_S = (self._at(name, time_s)[parties_S] for name in QUANTITIES)
        with np.errstate(divide="ignore", over="ignore"):  # a device may take for ever
            computing_s_S = work.num_edits_S / speed_S
        transfer_s_S = work.download_bytes / download_S + work.upload_bytes_S / upload_S
        seconds_S = np.asarray(work.num_messages * latency_s_S + computing_s_S + transfer_s_S)
        if not self._jitter:
            return seconds_S
        normal_P = numpy_generator(self._seed, "jitter", round_number).standard_normal(len(self.class_of))
        with np.errstate(over="ignore"):
            return np.asarray(seconds_S * np.exp(self._jitter * normal_P[parties_S]))

    def _at(self, quantity: str, time_s: float) -> DeviceNumbers:
        traced_P = self._traced(quantity, time_s)
        drawn_P = self._drawn[quantity]
        return drawn_P if traced_P is None else np.where(np.isnan(traced_P), drawn_P, traced_P)

    def _traced(self, quantity: str, time_s: float) -> DeviceNumbers | None:
        if self._trace is None or self._owner_P is None:
            return None
        return np.where(self._owner_P < 0, np.nan, self._trace.at(time_s, quantity)[self._owner_P])


def _drawn_classes(seed: int, spec: DevicesSpec, num_parties: int) -> DevicePlaces:
    """The place of each party's class among ``spec.classes``; their number for a party of none."""
    ends = np.cumsum([each.share for each in spec.classes])
    lots_P = numpy_generator(seed, "device-class").random(num_parties)
    if len(ends) and ends[-1] > 1 - 1e-9:  # shares such as three times a third leave nobody out
        ends[-1] = 1.0
    return np.searchsorted(ends, lots_P, side="right")


def _drawn(seed: int, spec: DevicesSpec, quantity: str, classes_P: DevicePlaces) -> DeviceNumbers:
    """A quantity of each party; all classes draw from the same lots, and each party takes its own class's."""
    own = [getattr(each, quantity) for each in spec.classes]
    common = getattr(spec, quantity)
    values_P = np.full(len(classes_P), _UNSAID[quantity])
    for place, distribution in enumerate([*(each or common for each in own), common]):
        if distribution is not None:
            values_P = np.where(classes_P == place, _values(seed, quantity, distribution, len(classes_P)), values_P)
    return values_P


def _values(seed: int, quantity: str, spec: DistributionSpec, num_parties: int) -> DeviceNumbers:
    if spec.lognormal is not None:
        normal_P = numpy_generator(seed, "device-normal", quantity).standard_normal(num_parties)
        return np.asarray(spec.lognormal.median * np.exp(spec.lognormal.sigma * normal_P))
    lots_P = numpy_generator(seed, "device", quantity).random(num_parties)
    if spec.uniform is not None:
        low, high = spec.uniform
        return np.asarray(low + (high - low) * lots_P)
    if spec.choice is not None:
        return np.array(spec.choice, np.float64)[(lots_P * len(spec.choice)).astype(np.int64)]
    assert spec.constant is not None, "a distribution is checked before it is drawn from"
    return np.full(num_parties, spec.constant, np.float64)
