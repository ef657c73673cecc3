import pickle
from itertools import pairwise

import pytest
from consortium.common.errors import FactsError
from consortium.data.edit import Edit, LocalityProbe, Neighbor, PortabilityProbe
from consortium.data.table import FactTable


def edit(number: int, relation: str, old: str | None, new: str, **more) -> Edit:
    return Edit(f"fact-{number}", relation, f"subject {number}", "{} is", new, old, **more)


COLORS = tuple(
    edit(n, "color", *pair) for n, pair in enumerate([("red", "blue"), ("green", "pink"), ("white", "grey")])
)


def test_facts_are_the_edits_in_order():
    table = FactTable((*COLORS, edit(3, "shape", "round", "square")))
    assert len(table) == 4
    assert table.relations() == ["color", "color", "color", "shape"]
    assert table.edit(2) is COLORS[2]


def test_a_variant_changes_the_target_only():
    before, after = FactTable(COLORS).edit(0), FactTable(COLORS).edit(0, variant=1)
    assert after.target_new in {"green", "pink", "white", "grey"}
    assert (after.fact_id, after.text, after.target_old) == (before.fact_id, before.text, before.target_old)


def test_variants_cycle_through_all_other_objects():
    """Of six colours the fact itself uses two, so four are left and variant 5 is variant 1 again."""
    targets = [FactTable(COLORS).edit(0, variant).target_new for variant in range(1, 9)]
    assert set(targets) == {"green", "pink", "white", "grey"}
    assert targets[:4] == targets[4:]
    assert all(one != next_one for one, next_one in pairwise(targets))


def test_facts_with_the_same_choices_start_at_different_objects():
    table = FactTable(tuple(edit(n, "color", "red", "blue") for n in range(30)) + COLORS)
    first = [table.edit(n, variant=1).target_new for n in range(30)]
    assert {first.count(color) for color in ("green", "pink", "white", "grey")} <= set(range(2, 16))


def test_objects_of_the_table_follow_where_a_relation_has_fewer_than_two():
    table = FactTable((edit(0, "shape", "round", "square"), edit(1, "shape", None, "oval"), *COLORS[:1]))
    assert {table.edit(0, variant).target_new for variant in (1, 2, 3)} == {"oval", "red", "blue"}


def test_a_limit_shortens_the_table_but_not_the_choice_of_objects():
    table = FactTable(COLORS, limit=1)
    assert (len(table), table.relations(), table.edits) == (1, ["color"], COLORS[:1])
    assert table.edit(0, variant=1) == FactTable(COLORS).edit(0, variant=1)
    assert len(FactTable(COLORS, limit=99)) == 3


@pytest.mark.parametrize(("fact", "variant"), [(1, 0), (-1, 0), (0, -1)])
def test_numbers_outside_the_table_are_refused(fact, variant):
    with pytest.raises(IndexError, match=rf"fact {fact}, variant {variant} of 1 fact"):
        FactTable(COLORS, limit=1).edit(fact, variant)


def test_a_neighbor_that_answers_with_the_variants_target_is_left_out():
    neighbors = tuple(Neighbor(f"{color} thing:", color) for color in ("green", "pink", "white", "grey", "red"))
    table = FactTable((edit(0, "color", "red", "blue", neighbors=neighbors), *COLORS[1:]))
    variant = table.edit(0, variant=1)
    assert [neighbor.target for neighbor in variant.neighbors] == [
        neighbor.target for neighbor in neighbors if neighbor.target != variant.target_new
    ]
    assert len(variant.neighbors) == 4


def test_a_table_without_enough_objects_is_refused():
    with pytest.raises(FactsError, match="0 other objects") as rejection:
        FactTable(COLORS[:1]).edit(0, variant=1)
    assert "set stream.conflict to 0" in rejection.value.remedy
    two_facts = FactTable((COLORS[0], edit(1, "color", None, "green")))
    assert two_facts.edit(0, variant=1).target_new == "green"
    with pytest.raises(FactsError, match="1 other objects"):
        two_facts.edit(0, variant=2)


def test_a_table_pickles():
    table = FactTable(COLORS)
    copy = pickle.loads(pickle.dumps(table))
    assert copy == table
    assert copy.edit(1, variant=2) == table.edit(1, variant=2)


def test_a_facts_own_rivals_come_first_then_other_objects():
    table = FactTable((edit(0, "color", "red", "blue", rivals=("pink", "black")), *COLORS))
    targets = [table.edit(0, variant).target_new for variant in range(1, 11)]
    assert targets[:2] == ["pink", "black"]
    assert set(targets[2:5]) == {"green", "white", "grey"}
    assert targets[:5] == targets[5:]
    alone = FactTable((edit(0, "color", "red", "blue", rivals=("pink",)),))
    assert alone.edit(0, variant=1).target_new == "pink"
    with pytest.raises(FactsError, match="1 other objects"):
        alone.edit(0, variant=2)


def test_a_variant_for_the_old_target_is_compared_with_the_new_one():
    table = FactTable((edit(0, "color", "red", "blue", rivals=("red",)),))
    variant = table.edit(0, variant=1)
    assert (variant.target_new, variant.target_old) == ("red", "blue")


def test_of_the_probes_those_that_hold_for_a_variant_stay():
    probes = {
        "portability": (
            PortabilityProbe("alias", "S. 0 is", ("blue", "azure")),
            PortabilityProbe("reasoning", "?", ("sky",)),
        ),
        "locality": (LocalityProbe("near", "subject 1 is", "green"),),
        "generation_prompts": ("Of subject 0",),
        "rivals": ("pink",),
    }
    own = edit(0, "color", "red", "blue", **probes)
    variant = FactTable((own,)).edit(0, variant=1)
    assert variant.portability == (PortabilityProbe("alias", "S. 0 is", ("pink",)),)
    assert (variant.locality, variant.generation_prompts) == (own.locality, own.generation_prompts)
