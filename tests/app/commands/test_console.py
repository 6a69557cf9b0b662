import io

import pytest

from app.commands.console import Console, table

FIGURES = dict.fromkeys(("auc", "auc_low", "auc_high", "privacy"))


def summary(device):
    north = {**FIGURES, "patients": 9, "test_patients": 2, "bytes_up": 0, "bytes_down": 0, "seconds": 1.0}
    return {"hospitals": {"north": {**north, "device": device}}, "pooled": FIGURES, "stopped": "rounds"}


@pytest.mark.parametrize("device", ["[/]", "[bold red]cuda[/bold red]", "\x1b[2Jcuda", "cuda\nnorth", ":skull:", None])
def test_what_a_hospital_says_of_its_device_is_text_and_steers_nothing(device):
    printed = io.StringIO()
    Console(printed).show(table(summary(device)))
    lines = printed.getvalue().rstrip("\n").split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    if device is not None and device.isprintable():
        assert device in lines[1]


def test_a_note_shows_what_would_move_the_cursor_and_keeps_its_lines():
    printed = io.StringIO()
    Console(printed).note("first [/] \x1b[1A\nsecond")
    assert printed.getvalue() == "first [/] \\x1b[1A\nsecond\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_as_well():
    Console(printed := Terminal()).show(table(summary("\x1b[2J[/]")))
    assert "\\x1b[2J[/]" in printed.getvalue()
    assert "\x1b[2J" not in printed.getvalue()
