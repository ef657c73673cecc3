"""What reaches a terminal: characters, and never commands to it."""

import io
import os
from contextlib import suppress

import pytest
from consortium.common.terminal import printable, reserved_stdout, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – text\nof two\tlines", "plain – text\nof two\tlines"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("over\rwritten\x08", "over\\rwritten\\x08"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202edcba", "abc\\u202edcba"),
        ("\u2066isolated\u2069", "\\u2066isolated\\u2069"),
        ("東京 عربي עברית é", "東京 عربي עברית é"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text, shown):
    assert printable(text) == shown
    stream = io.StringIO()
    say(text, stream)
    assert stream.getvalue() == shown + "\n"


def test_a_standard_output_that_takes_nothing_fails_where_it_is_written_to_and_not_again():
    kept, full = os.dup(1), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    failed = False
    try:
        with reserved_stdout() as own, suppress(OSError):
            print("{}", file=own, flush=True)
            failed = True
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(full)
    assert not failed
