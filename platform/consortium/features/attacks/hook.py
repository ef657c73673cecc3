"""Attacks as a hook: what attackers send in place of their messages."""

from __future__ import annotations

from dataclasses import replace

from consortium.data.attackers import attacks_of
from consortium.features.attacks.attack_messages import misbehave
from consortium.features.hooks import Messages, PartyHook
from consortium.merging.method import Contribution


class Attacks(PartyHook):
    """Parties that misbehave on purpose, in rounds in which they take part."""

    name = "attacks"

    def on_messages(self, messages: Messages) -> Messages:
        """Attackers' messages are spoilt; nobody's is who is excluded, and nothing that is removed."""
        if messages.is_removal:
            return messages
        excluded, round_number = messages.batch.excluded, messages.basis.round
        sent = [
            (party, message)
            for party, own in messages.sent
            for message in ([own] if party in excluded else self._made_of(own, round_number, party))
        ]
        return replace(messages, sent=sent)

    def _made_of(self, message: Contribution, round_number: int, party: int) -> list[Contribution]:
        """What a party sends for its message: the message, unless it attacks and takes part."""
        takes_part = self.data.stream.num_requests(round_number, range(party, party + 1))
        attacks = attacks_of(self.data.scenario, round_number, party) if takes_part else []
        return misbehave(attacks, message) if attacks else [message]


AT_PARTIES = Attacks
