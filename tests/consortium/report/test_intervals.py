"""95 % intervals of percentages."""

import pytest
from consortium.records.rows import MetricRow
from consortium.report.intervals import half_width, intervals, wilson


@pytest.mark.parametrize(
    ("share", "count", "expected"),
    [
        # Brown, Cai & DasGupta's formula by hand: z² = 3.8415; 0 of 10: 0 … 3.8415/13.8415.
        (0.0, 10, (0.0, 0.27754)),
        (1.0, 10, (0.72246, 1.0)),
        # 0 of 1: 3.8415/4.8415, four fifths of all that is possible.
        (0.0, 1, (0.0, 0.79345)),
        (0.5, 100, (0.40383, 0.59617)),
    ],
)
def test_an_interval_by_hand(share, count, expected):
    assert wilson(share, count) == pytest.approx(expected, abs=1e-5)


def test_it_covers_what_it_says():
    """Of 0, 1 … 40 right answers of 40, weighed by how often each comes when 80 % are right."""
    from math import comb

    covered = sum(
        comb(40, k) * 0.8**k * 0.2 ** (40 - k)
        for k in range(41)
        if wilson(k / 40, 40)[0] <= 0.8 <= wilson(k / 40, 40)[1]
    )
    assert 0.92 < covered < 0.98


def row(metric, success, num_edits, num_probes=None, unit=None, number=1):
    probes = num_edits if num_probes is None else num_probes
    return MetricRow(number, "ties", metric, number, success, None, num_edits, probes, unit)


def test_questions_of_one_edit_count_once():
    many = intervals({"paraphrase": row("paraphrase", 50.0, 20, 200)})
    few = intervals({"paraphrase": row("paraphrase", 50.0, 20, 20)})
    assert many == few


def test_what_has_no_edits_counts_its_questions_and_what_has_a_unit_has_no_interval():
    found = intervals(
        {
            "downstream_accuracy": row("downstream_accuracy", 50.0, 0, 100),
            "perplexity": row("perplexity", 8.0, 0, 100, "1"),
        }
    )
    assert found == {"downstream_accuracy": pytest.approx((40.383, 59.617), abs=1e-3)}


def test_a_signed_metric_may_go_below_zero():
    low, high = intervals({"conflict_magnitude": row("conflict_magnitude", 0.0, 10)})["conflict_magnitude"]
    assert low == pytest.approx(-high)
    assert low < -40


def test_the_score_lies_between_those_of_its_parts_ends():
    """Each part with a third of the 5 %; a score of 100 on 36 edits is one of at least 86."""
    measures = {name: row(name, 100.0, 36) for name in ("efficacy", "paraphrase", "neighborhood", "score")}
    found = intervals(measures)
    low, high = found["score"]
    assert (low, high) == (pytest.approx(100 * wilson(1.0, 36, 0.05 / 3)[0]), 100.0)
    assert low < found["efficacy"][0]
    assert half_width(100.0, (low, high)) == pytest.approx(100 - low)


def test_a_score_of_parts_of_other_rounds_has_none():
    measures = {name: row(name, 100.0, 36) for name in ("efficacy", "paraphrase", "score")}
    assert "score" not in intervals(measures | {"neighborhood": row("neighborhood", 100.0, 36, number=2)})


def test_one_question_says_next_to_nothing():
    (interval,) = intervals({"efficacy": row("efficacy", 0.0, 1)}).values()
    assert interval == pytest.approx((0.0, 79.3), abs=0.1)
