"""What passes between a pool and the coordinator, without Ray."""

from consortium_ray.messages import Call


def test_calls_are_named_in_words():
    assert str(Call(("collect", "ties", 1, 5, 3), "collect", (), 3)) == "collect of party batch 3"
    assert str(Call(("describe",), "describe")) == "describe"
