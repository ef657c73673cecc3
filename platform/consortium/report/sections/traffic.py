"""What each party sent."""

from __future__ import annotations

from consortium.report import figures, words
from consortium.report.content import Cells, Figure, Figures, Run, Section, Table

_FLOAT64_BYTES = 8


def section(run: Run) -> Section | None:
    """None before the first round."""
    traffic = {arm.arm: arm.traffic for arm in run.results.arms if arm.traffic}
    if not traffic:
        return None
    shapes = run.directory.manifest.layer_shapes.values()
    dense = sum(_FLOAT64_BYTES * key_width * (key_width + value_width) for value_width, key_width in shapes) or None
    remarks = ["Only sums over its edits, or factors of them, leave a party; never a text or a single key."]
    if any(arm.method == "global" for arm in run.results.arms):
        remarks.append("Global edit is the exception: the reference that brings all edits together.")
    if dense:
        remarks.append(
            f"As dense sums, the statistics of all edited layers take {words.size(dense)} for each party and round, "
            "however few its edits (dotted line); factors say the same in less when edits are few."
        )
    meaning = "From the least to the most; the dot is the median."
    figure = Figure("one party in one round", meaning, figures.traffic_ranges, (traffic, run.styles, dense))
    rows: list[Cells] = [
        [
            run.arm(arm),
            words.size(sent.median),
            f"{words.size(sent.smallest)} – {words.size(sent.largest)}",
            words.size(sent.total),
        ]
        for arm, sent in traffic.items()
    ]
    table = Table(("arm", "median", "least – most", "all together"), rows)
    return Section("What each party sent", [" ".join(remarks), Figures([figure], table)])
