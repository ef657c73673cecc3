"""Whether somebody taught a model something else: what a party can see of it before it sends an edit.

The party asks the model for its answer to the edit's own prompt, under the weights with which the round begins and
under the unedited ones. Up to the first token in which that answer differs from the new target, the model says what the
party wants; in that place it says something else. Somebody's edit is taken to be the reason where

* the model is sure of that token: it has more than half of the probability;
* the unedited model would say another one there. So the token had at most half of the probability before, and edits
  raised it;
* the residual is not short, so that the edit is not held anyway (:mod:`consortium.editing.overlap`).

An edit teaches its answer until it is nearly certain, while what spills over from edits of other
questions mostly is not. The signals are those of CollabEdit's challenges of overlap and conflict (arXiv 2410.09508,
section 4), the model's answer and the residual; the rule is ours. It needs two runs of each prompt and no gradient.
"""

from __future__ import annotations

from consortium.editing.backend import Answer
from consortium.editing.overlap import is_held
from consortium.scenario.schema import OverlapSpec

#: Above this probability of one token no other can be the likeliest.
SURE = 0.5


def is_contradicted(now: Answer, unedited: Answer, shift: float, overlap: OverlapSpec) -> bool:
    """Whether a model says something else that it was taught.

    Args:
        now: its answer to an edit's prompt by teacher forcing, with the chances of its tokens.
        unedited: that of the unedited model.
        shift: length of the edit's residual, relative to the hidden state's.
        overlap: says which residuals are short.
    """
    if not (now.is_finite and unedited.is_finite):
        return False  # what is no answer contradicts nothing
    if now.is_target or is_held(overlap, shift):
        return False
    pairs = zip(now.said, now.wanted, strict=True)
    place = next(place for place, (said, wanted) in enumerate(pairs) if said != wanted)
    return now.said[place] != unedited.said[place] and now.chances[place] > SURE
