"""Known facts as a hook: an edit whose residual is short is held by the arm's model already, and is not sent."""

from __future__ import annotations

from collections.abc import Sequence

from consortium.data.party_batch import PartyBatch
from consortium.editing.edited_layers import EditedLayers, Weights
from consortium.editing.known_facts import is_already_known
from consortium.features.hooks import PartyHook


class KnownFacts(PartyHook):
    """Parties of arms with ``skip_known: residual`` look at their residuals before they send anything."""

    name = "known_facts"

    def skips(
        self, arm: str, batch: PartyBatch, layers: EditedLayers, weights: Weights, shifts: Sequence[float]
    ) -> Sequence[bool]:
        """Edits whose residuals are under ``overlap.threshold``."""
        scenario = self.data.scenario
        return (
            [is_already_known(scenario.overlap, shift) for shift in shifts] if arm in scenario.arms_that_check else ()
        )


AT_PARTIES = KnownFacts
