"""The stream by which a run with virtual time goes, and how large its messages are."""

from __future__ import annotations

from collections.abc import Sequence

from consortium.editing.layer_schedule import plan_round
from consortium.features.virtual_time.devices import Devices
from consortium.features.virtual_time.message_sizes import MessageSizes
from consortium.features.virtual_time.participation import ParticipationStream
from consortium.features.virtual_time.timeline import Asks, Timeline, run_timeline
from consortium.models.description import describe
from consortium.scenario.schema import Scenario


def attended_stream(scenario: Scenario, relations: Sequence[str], num_facts: Sequence[int]) -> ParticipationStream:
    """What parties put into each round of a scenario with virtual time.

    Args:
        scenario: the scenario as resolved.
        relations: the relation of every fact of the fact set, in order.
        num_facts: how many of them there were at each deal.

    Raises:
        ScenarioError: there are too few facts, or the trace of devices cannot be read.
    """
    devices = Devices(scenario.seed, scenario.virtual_time.devices, scenario.parties.count)
    sizes = message_sizes(scenario)

    def follow(asks: Asks) -> Timeline:
        return run_timeline(scenario.seed, scenario.virtual_time.schedule, devices, sizes, asks)

    return ParticipationStream(scenario.seed, scenario.parties, scenario.stream, relations, follow, num_facts)


def message_sizes(scenario: Scenario) -> MessageSizes:
    """Bytes of a scenario's messages; the widths are those of the model's config, no weights are read.

    There is one virtual time for all arms: statistics are what ``merge.statistics`` says, and exchanges those of
    ``merge.exchange``. Messages of methods that send updates differ by what these weigh.
    """
    model = describe(scenario.model)
    return MessageSizes(
        key_width=model.key_width,
        value_width=model.value_width,
        num_layers=len(scenario.editor.edited_layers),
        num_exchanges=len(plan_round(scenario.editor, scenario.merge.exchange)),
        form="update" if scenario.editor.tunes_weights else scenario.merge.statistics,
    )
