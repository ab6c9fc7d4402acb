"""Delivery of exceptions and interrupts to the guest, with what happens when the delivery itself faults.

Source: Intel SDM vol. 3A chapter 6, in particular 6.13 (error codes), 6.15 interrupt 8 (double and triple faults),
and vol. 3B 17.3.1.1 (RF in the pushed flags).
"""

from __future__ import annotations

from .bits import CR0, DR7, EFER, RFLAGS, Vector
from .faults import GuestFault, TripleFault, makes_double_fault
from .gates_legacy import deliver_protected, deliver_real
from .gates_long import deliver_long
from .memory import LinearMemory
from .state import VCpu

# A module's constant is read several times faster than a class's.
_PE, _LMA, _RF, _GD, _DB = CR0.PE, EFER.LMA, RFLAGS.RF, DR7.GD, Vector.DB
# Exceptions that are not of the fault class: their frame does not get RF set.
_NOT_FAULTS = frozenset((Vector.DB, Vector.NMI, Vector.BP, Vector.OF, Vector.DF, Vector.MC))


def deliver(
    cpu: VCpu,
    mem: LinearMemory,
    vector: int,
    error_code: int | None = None,
    *,
    software: bool = False,
    ext: bool = False,
    cr2: int | None = None,
    return_rip: int | None = None,
) -> int:
    """Deliver `vector` (0..255) and return the vector whose handler was entered.

    The two differ if the delivery faulted: that fault, or #DF, is then delivered in its place, from the state that
    `cpu` has on entry. Raises TripleFault, with the registers as on entry, if #DF cannot be delivered either.

    error_code: pushed if given (never in real mode). software: INT n, INT3 or INTO: the gate's DPL is checked.
    ext: an external interrupt or NMI: it is benign for #DF and leaves RF alone. cr2: stored in CR2 first.
    return_rip: the RIP to save, if it is not cpu.rip: INT n saves the next instruction's, yet must find cpu.rip at
    its own start should a fault take its place.
    """
    first = vector
    saved_rip = cpu.rip if return_rip is None else return_rip
    if cr2 is not None:
        cpu.cr2 = cr2
    try:
        _deliver_once(cpu, mem, vector, error_code, software, ext, saved_rip)
        return vector
    except GuestFault as fault:
        chain = [GuestFault(first, error_code, cr2, software), fault]
        nested = fault
    benign = software or ext
    while True:
        if nested.cr2 is not None:
            cpu.cr2 = nested.cr2
        if vector == Vector.DF and not benign:
            raise TripleFault(chain)
        if not benign and makes_double_fault(vector, nested.vector):
            vector, error_code = Vector.DF, 0
        else:
            vector, error_code = nested.vector, nested.error_code
        benign = False
        try:
            _deliver_once(cpu, mem, vector, error_code, False, False, cpu.rip)
            return vector
        except GuestFault as fault:
            if vector == Vector.DF:
                chain.append(GuestFault(Vector.DF, 0))
            chain.append(fault)
            nested = fault


def deliver_fault(cpu: VCpu, mem: LinearMemory, fault: GuestFault) -> int:
    """Deliver a GuestFault that an instruction raised. Returns and raises as deliver() does."""
    return deliver(cpu, mem, fault.vector, fault.error_code, software=fault.is_software, cr2=fault.cr2)


def _deliver_once(
    cpu: VCpu, mem: LinearMemory, vector: int, error_code: int | None, software: bool, ext: bool, saved_rip: int
) -> None:
    """Enter the handler of `vector`, or raise GuestFault with the registers unchanged."""
    if cpu.cr0 & _PE:
        rflags = cpu.rflags
        if not software and not ext and vector not in _NOT_FAULTS:
            rflags |= _RF
        # EXT says that the event is not the program's own INT n, INT3 or INTO.
        ext_bit = 0 if software else 1
        if cpu.efer & _LMA:
            deliver_long(cpu, mem, vector, error_code, software, ext_bit, saved_rip, rflags)
        else:
            deliver_protected(cpu, mem, vector, error_code, software, ext_bit, saved_rip, rflags)
    else:
        deliver_real(cpu, mem, vector, saved_rip)
    cpu.interrupt_shadow = False
    cpu.halted = False
    if vector == _DB and not software and cpu.dr[7] & _GD:
        cpu.dr[7] &= ~_GD
        cpu.on_debug_registers_changed(cpu)
    cpu.on_segments_changed(cpu)
