"""KnowEdit's WikiBio records: hallucinated biographies to be corrected (Zhang et al., arXiv 2401.01286; Hartvigsen et
al., arXiv 2211.11031).

::

    {"concept": "tim finchem", "text": "This is a Wikipedia passage about tim finchem. ",
     "labels": "Timothy W. Finchem (born April 19, 1947) is the current Commissioner of Golf's PGA Tour.",
     "locality": {"Relation_Specificity": [{"prompt": "tim finchem educated at", "ground_truth": ["University of …"]}]}}

The edit's target is a whole sentence, ``labels``: what the biography ``text`` should go on with. Biographies have
nothing to tell them apart, so all are of one relation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consortium.data.edit import Edit
from consortium.data.formats.knowedit import locality_probes
from consortium.data.formats.record import Record, SkippedProbeError, editable_template


def recognises(fields: Mapping[str, Any]) -> bool:
    """Whether a record with these fields is in WikiBio's shape."""
    return all(name in fields for name in ("concept", "text", "labels"))


def parse(record: Record) -> tuple[Edit | SkippedProbeError, ...]:
    """The edit of a record, and its questions that cannot be asked.

    Raises:
        FactsError: the record is malformed.
        SkippedRecordError: its text lacks the concept.
    """
    subject = record.text("concept")
    locality, unasked = locality_probes(record)
    edit = Edit(
        fact_id=f"wikibio-{record.number}",
        relation="biography",
        subject=subject,
        prompt=editable_template(record, "text", subject),
        target_new=record.text("labels"),
        locality=locality,
        join=record.spacing("text", "labels"),
    )
    return edit, *unasked
