"""Units by what people type."""

from __future__ import annotations

from dbgvmm.bt.units import TranslationUnit
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.session import Session
from dbgvmm.debug.inside.sites import NoUnit, unit_at


def find_unit(session: Session, address: int) -> TranslationUnit:
    """The unit at a guest or TC address, as `debug.inside.sites.unit_at` finds it. Raises CommandError."""
    try:
        return unit_at(session.machine, address)
    except NoUnit as error:
        raise CommandError(str(error.args[0])) from error
