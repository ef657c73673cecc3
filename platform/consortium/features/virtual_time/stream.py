"""Virtual time: the stream by which a run goes, and what its tables say of the virtual course."""

from __future__ import annotations

from collections.abc import Sequence

from consortium.data.num_facts import facts_at_each_deal
from consortium.data.stream import Stream
from consortium.editing.layer_schedule import plan_round
from consortium.features.virtual_time.devices import Devices
from consortium.features.virtual_time.message_sizes import MessageSizes
from consortium.features.virtual_time.participation import ParticipationStream
from consortium.features.virtual_time.timeline import Asks, Timeline, run_timeline
from consortium.models.description import describe
from consortium.scenario.schema import Scenario


def open_stream(scenario: Scenario, relations: Sequence[str]) -> Stream:
    """What parties put into each round of a scenario: what they ask for in it, unless virtual time says otherwise.

    Args:
        scenario: the scenario as resolved.
        relations: the relation of every fact of the fact set, in order.

    Raises:
        ScenarioError: there are too few facts, or the trace of devices cannot be read.
    """
    asked = scenario.seed, scenario.parties, scenario.stream, relations
    num_facts = facts_at_each_deal(scenario, len(relations))
    if not scenario.has_virtual_time:
        return Stream(*asked, scenario.unlearn, num_facts)
    devices = Devices(scenario.seed, scenario.virtual_time.devices, scenario.parties.count)
    sizes = message_sizes(scenario)

    def follow(asks: Asks) -> Timeline:
        return run_timeline(scenario.seed, scenario.virtual_time.schedule, devices, sizes, asks)

    return ParticipationStream(*asked, follow, num_facts)


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
