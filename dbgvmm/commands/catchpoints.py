"""Catchpoints: stop at exceptions, triple faults, interrupts, port and MSR accesses, CR3 loads and changes of mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import evaluate
from dbgvmm.commands.parameters import Value
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import Vector
from dbgvmm.debug.catchpoints import Catch, Event

Access = Literal["any", "read", "write"]


@dataclass(frozen=True)
class CatchpointLine:
    """One catchpoint. `number` is None for a script's."""

    number: int | None
    catch: Catch
    enabled: bool = True
    owner: str = ""

    @property
    def what(self) -> str:
        """The event in words."""
        catch = self.catch
        accesses = "" if catch.reads and catch.writes else " read" if catch.reads else " write"
        if catch.number is None:
            return f"{catch.event.value}{accesses}"
        if catch.event is Event.EXCEPTION:
            return Vector.name_of(catch.number)
        return f"{catch.event.value} {catch.number:#x}{accesses}"

    def __str__(self) -> str:
        return f"catchpoint {self.number} ({self.what})"


def _add(session: Session, catch: Catch) -> CatchpointLine:
    return CatchpointLine(session.points.add(catch), catch)


def _vector(session: Session, text: str) -> int:
    for vector in range(32):
        if text.upper().lstrip("#") == Vector.name_of(vector).lstrip("#"):
            return vector
    value = evaluate(session, text)
    if not 0 <= value < 256:
        raise CommandError(f"{text!r} is no vector: give a number below 256, or a name such as #PF")
    return value


@command("catch exception")
def catch_exception(session: Session, vector: str | None = None) -> CatchpointLine:
    """Stop at an exception (all, or VECTOR: 14, #PF), in front of the instruction that raises it.

    It is not delivered yet: going on delivers it. Software interrupts (INT n, INT3, INTO) are none; a #DB trap stops in
    its handler.

    For example:

        catch exception
        catch exception #PF
    """
    return _add(session, Catch(Event.EXCEPTION, None if vector is None else _vector(session, vector)))


@command("catch interrupt")
def catch_interrupt(session: Session, vector: str | None = None) -> CatchpointLine:
    """Stop at an interrupt of a device (all, or VECTOR), in front of its handler.

    For example:

        catch interrupt
        catch interrupt 0x20
    """
    return _add(session, Catch(Event.INTERRUPT, None if vector is None else _vector(session, vector)))


@command("catch triple-fault")
def catch_triple_fault(session: Session) -> CatchpointLine:
    """Stop in front of an instruction whose exception cannot be delivered, nor #DF, and tell the faults.

    Without this the guest ends there (its state can be seen, but it cannot go on). With it, what is wrong can be mended
    (registers, the IDT, page tables) and the instruction tried again.

    For example:

        catch triple-fault
    """
    return _add(session, Catch(Event.TRIPLE_FAULT))


@command("catch cr3")
def catch_cr3(session: Session) -> CatchpointLine:
    """Stop behind each load of CR3.

    For example:

        catch cr3
    """
    return _add(session, Catch(Event.CR3))


@command("catch mode")
def catch_mode(session: Session) -> CatchpointLine:
    """Stop when the CPU has changed its mode: real, protected, compatibility, 64-bit.

    For example:

        catch mode
    """
    return _add(session, Catch(Event.MODE))


@command("catch port")
def catch_port(session: Session, port: Value | None = None, access: Access = "any") -> CatchpointLine:
    """Stop behind an access to PORT (any).

    For example:

        catch port 0x3f8 write
    """
    if port is not None and not 0 <= port < 0x10000:
        raise CommandError(f"{port:#x} is no port: give a number below 0x10000")
    return _add(session, Catch(Event.PORT, port, access != "write", access != "read"))


@command("catch msr")
def catch_msr(session: Session, msr: Value | None = None, access: Access = "any") -> CatchpointLine:
    """Stop behind RDMSR or WRMSR of MSR (any).

    For example:

        catch msr 0xc0000080
    """
    return _add(session, Catch(Event.MSR, msr, access != "write", access != "read"))
