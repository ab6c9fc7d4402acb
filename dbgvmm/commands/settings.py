"""How things are shown at the prompt: `set pagination`, `set color`, `show settings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dbgvmm.commands.columns import columns
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command

Switch = Literal["on", "off"]


@dataclass(frozen=True)
class SettingsReport:
    """The settings and their values."""

    pagination: bool
    colour: bool

    def __str__(self) -> str:
        return columns((("pagination", _word(self.pagination)), ("color", _word(self.colour))))


@dataclass(frozen=True)
class SettingChanged:
    """A setting and its new value."""

    name: str
    on: bool

    def __str__(self) -> str:
        return f"{self.name} is {_word(self.on)}"


def _word(on: bool) -> str:
    return "on" if on else "off"


@command("set pagination", aliases=("set pager",))
def set_pagination(session: Session, switch: Switch) -> SettingChanged:
    """Show long output a screen at a time, or all at once. In a pipe it is all at once anyway.

    For example:

        set pagination off
    """
    session.settings.pagination = switch == "on"
    return SettingChanged("pagination", session.settings.pagination)


@command("set color", aliases=("set colour", "set style"))
def set_color(session: Session, switch: Switch) -> SettingChanged:
    """Show colours, or none. In a pipe, and with NO_COLOR in the environment, there are none anyway.

    For example:

        set color off
    """
    session.settings.colour = switch == "on"
    return SettingChanged("color", session.settings.colour)


@command("show settings", aliases=("show",))
def show_settings(session: Session) -> SettingsReport:
    """Show what `set pagination` and `set color` have chosen.

    For example:

        show settings
    """
    return SettingsReport(session.settings.pagination, session.settings.colour)
