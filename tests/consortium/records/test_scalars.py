"""TensorBoard reads what was written, however many rounds fall into one second."""

from consortium.records import scalars
from consortium.records.rows import MetricRow, RoundRows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROUNDS = range(1, 121)


def test_no_round_is_lost_when_many_fall_into_one_second(tmp_path, monkeypatch):
    """The writer's own file names end in a counter, and TensorBoard sorts names: 10 before 9, 100 before 99."""
    monkeypatch.setattr("time.time", lambda: 1_750_000_000.0)
    for number in ROUNDS:
        metric = MetricRow(number, "collabedit", "efficacy", number, float(number), None, 4, 4)
        scalars.write_scalars(tmp_path, RoundRows(metrics=[metric]), number)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "collabedit"), size_guidance={"scalars": 0})
    events.Reload()
    assert [(each.step, each.value) for each in events.Scalars("metrics/efficacy")] == [(n, n) for n in ROUNDS]
