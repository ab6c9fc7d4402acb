"""Names for the bits of the architectural registers, and numbers for vectors and MSRs.

The values are plain ints: a test such as ``cpu.cr0 & CR0.WP`` costs one attribute load, which matters on
paths that run at every exit. ``CR0.describe(value)`` turns a value back into words for people.

Source: Intel SDM vol. 3A sections 2.3 (RFLAGS), 2.5 (control registers), 3.4.5 (descriptors), 4.7 (page fault
error code), 6.13 (selector error code), 17.2 (debug registers); vol. 4 chapter 2 (MSRs).
"""

from __future__ import annotations

MASK16 = 0xFFFF
MASK32 = 0xFFFF_FFFF
MASK64 = 0xFFFF_FFFF_FFFF_FFFF


def is_canonical(address: int) -> bool:
    """True if bits 63..47 of a 64-bit `address` are all equal (48-bit linear addresses, SDM vol. 1 3.3.7.1)."""
    return ((address + 0x8000_0000_0000) & MASK64) < 0x1_0000_0000_0000


class BitNames:
    """Base of the classes below: every upper-case int attribute is one bit or one contiguous field."""

    @classmethod
    def describe(cls, value: int) -> str:
        """Return the set bits by name, lowest first (fields as NAME=n, unnamed bits as one hex number)."""
        masks = sorted((mask, name) for name, mask in vars(cls).items() if name.isupper() and isinstance(mask, int))
        words: list[str] = []
        rest = value
        for mask, name in masks:
            if not value & mask:
                continue
            rest &= ~mask
            single_bit = mask & (mask - 1) == 0
            words.append(name if single_bit else f"{name}={(value & mask) >> ((mask & -mask).bit_length() - 1)}")
        if rest:
            words.append(hex(rest))
        return " ".join(words) if words else "0"


class CR0(BitNames):
    """Control register 0 (SDM vol. 3A 2.5)."""

    PE = 1 << 0
    MP = 1 << 1
    EM = 1 << 2
    TS = 1 << 3
    ET = 1 << 4
    NE = 1 << 5
    WP = 1 << 16
    AM = 1 << 18
    NW = 1 << 29
    CD = 1 << 30
    PG = 1 << 31


class CR3(BitNames):
    """Control register 3: the low bits and the bit that only MOV to CR3 looks at (SDM vol. 3A 4.10.4.1)."""

    PWT = 1 << 3
    PCD = 1 << 4
    NOFLUSH = 1 << 63


class CR4(BitNames):
    """Control register 4 (SDM vol. 3A 2.5)."""

    VME = 1 << 0
    PVI = 1 << 1
    TSD = 1 << 2
    DE = 1 << 3
    PSE = 1 << 4
    PAE = 1 << 5
    MCE = 1 << 6
    PGE = 1 << 7
    PCE = 1 << 8
    OSFXSR = 1 << 9
    OSXMMEXCPT = 1 << 10
    UMIP = 1 << 11
    LA57 = 1 << 12
    VMXE = 1 << 13
    SMXE = 1 << 14
    FSGSBASE = 1 << 16
    PCIDE = 1 << 17
    OSXSAVE = 1 << 18
    SMEP = 1 << 20
    SMAP = 1 << 21
    PKE = 1 << 22


class EFER(BitNames):
    """Extended feature enable register, MSR C0000080H (SDM vol. 3A 2.2.1)."""

    SCE = 1 << 0
    LME = 1 << 8
    LMA = 1 << 10
    NXE = 1 << 11


class ApicBase(BitNames):
    """MSR 1BH, beside the address (SDM vol. 3A 11.4.4)."""

    BSP = 1 << 8
    X2APIC = 1 << 10
    ENABLED = 1 << 11


class MiscEnable(BitNames):
    """MSR 1A0H (SDM vol. 4, table 2-2)."""

    FAST_STRINGS = 1 << 0
    PERFORMANCE_MONITORING = 1 << 7
    NO_BRANCH_TRACE = 1 << 11
    NO_PEBS = 1 << 12
    MONITOR = 1 << 18
    LIMIT_CPUID = 1 << 22
    NO_XD = 1 << 34


class MtrrPhysMask(BitNames):
    """MSRs 201H, 203H and so on, beside the mask (SDM vol. 3A 12.11.2.3)."""

    VALID = 1 << 11


class MtrrDefType(BitNames):
    """MSR 2FFH, above the default type (SDM vol. 3A 12.11.2.1)."""

    FIXED_ENABLED = 1 << 10
    ENABLED = 1 << 11


class RFLAGS(BitNames):
    """Flags register (SDM vol. 3A 2.3). FIXED reads as one always."""

    CF = 1 << 0
    FIXED = 1 << 1
    PF = 1 << 2
    AF = 1 << 4
    ZF = 1 << 6
    SF = 1 << 7
    TF = 1 << 8
    IF = 1 << 9
    DF = 1 << 10
    OF = 1 << 11
    IOPL = 3 << 12
    NT = 1 << 14
    RF = 1 << 16
    VM = 1 << 17
    AC = 1 << 18
    VIF = 1 << 19
    VIP = 1 << 20
    ID = 1 << 21


class PageFaultError(BitNames):
    """Error code of #PF (SDM vol. 3A 4.7)."""

    P = 1 << 0
    W = 1 << 1
    U = 1 << 2
    RSVD = 1 << 3
    I = 1 << 4  # noqa: E741 - the manual's name
    PK = 1 << 5


class SelectorError(BitNames):
    """Error code of #TS, #NP, #SS and #GP that names a selector or a vector (SDM vol. 3A 6.13)."""

    EXT = 1 << 0
    IDT = 1 << 1
    TI = 1 << 2
    INDEX = 0xFFF8


class SegmentAttributes(BitNames):
    """Bits 40..55 of a descriptor, with the limit's bits 48..51 (here 8..11) held at 0 (SDM vol. 3A 3.4.5).

    This is also the layout of VMX access rights. The type bits have two names, for data and for code.
    """

    ACCESSED = 1 << 0
    WRITABLE = 1 << 1
    EXPAND_DOWN = 1 << 2
    CODE = 1 << 3
    S = 1 << 4
    DPL = 3 << 5
    P = 1 << 7
    AVL = 1 << 12
    L = 1 << 13
    DB = 1 << 14
    G = 1 << 15

    # The same bits as code segments call them: lower case keeps them out of describe().
    readable = 1 << 1
    conforming = 1 << 2
    type_mask = 0xF
    dpl_shift = 5


class SystemType:
    """Type field of a descriptor with S=0 (SDM vol. 3A table 3-2)."""

    TSS16_AVAILABLE = 1
    LDT = 2
    TSS16_BUSY = 3
    CALL_GATE16 = 4
    TASK_GATE = 5
    INTERRUPT_GATE16 = 6
    TRAP_GATE16 = 7
    TSS_AVAILABLE = 9
    TSS_BUSY = 11
    CALL_GATE = 12
    INTERRUPT_GATE = 14
    TRAP_GATE = 15


class DR6(BitNames):
    """Debug status register (SDM vol. 3B 17.2.3)."""

    B0 = 1 << 0
    B1 = 1 << 1
    B2 = 1 << 2
    B3 = 1 << 3
    BD = 1 << 13
    BS = 1 << 14
    BT = 1 << 15

    fixed_ones = 0xFFFF_0FF0
    writable = 0xE00F


class DR7(BitNames):
    """Debug control register (SDM vol. 3B 17.2.4). L/G enable, RW/LEN qualify breakpoints 0..3."""

    L0 = 1 << 0
    G0 = 1 << 1
    L1 = 1 << 2
    G1 = 1 << 3
    L2 = 1 << 4
    G2 = 1 << 5
    L3 = 1 << 6
    G3 = 1 << 7
    LE = 1 << 8
    GE = 1 << 9
    GD = 1 << 13
    RW0 = 3 << 16
    LEN0 = 3 << 18
    RW1 = 3 << 20
    LEN1 = 3 << 22
    RW2 = 3 << 24
    LEN2 = 3 << 26
    RW3 = 3 << 28
    LEN3 = 3 << 30

    fixed_ones = 1 << 10
    writable = 0xFFFF_23FF


class Vector:
    """Vectors of the processor's own exceptions (SDM vol. 3A table 6-1)."""

    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    TS = 10
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    MC = 18
    XM = 19
    VE = 20
    CP = 21

    @classmethod
    def name_of(cls, vector: int) -> str:
        """Return "#GP" for 13 and so on; "NMI" for 2; "vector 80h" for one without a name."""
        for name, value in vars(cls).items():
            if name.isupper() and value == vector:
                return name if name == "NMI" else f"#{name}"
        return f"vector {vector:02x}h"


class GPR:
    """Indices of the general registers in the order of their encodings (SDM vol. 2A table 3-1)."""

    RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
    R8, R9, R10, R11, R12, R13, R14, R15 = range(8, 16)


class SReg:
    """Indices of the segment registers in the order of their encodings."""

    ES, CS, SS, DS, FS, GS = range(6)
    names = ("es", "cs", "ss", "ds", "fs", "gs")


class MSR:
    """Numbers of the model-specific registers that this CPU has (SDM vol. 4)."""

    TSC = 0x10
    APIC_BASE = 0x1B
    FEATURE_CONTROL = 0x3A
    TSC_ADJUST = 0x3B
    SPEC_CTRL = 0x48
    PRED_CMD = 0x49
    BIOS_SIGN_ID = 0x8B
    PLATFORM_INFO = 0xCE
    MTRRCAP = 0xFE
    ARCH_CAPABILITIES = 0x10A
    MISC_FEATURES_ENABLES = 0x140
    SYSENTER_CS = 0x174
    SYSENTER_ESP = 0x175
    SYSENTER_EIP = 0x176
    MCG_CAP = 0x179
    MCG_STATUS = 0x17A
    MISC_ENABLE = 0x1A0
    DEBUGCTL = 0x1D9
    MTRR_PHYSBASE0 = 0x200
    MTRR_FIX64K_00000 = 0x250
    MTRR_FIX16K_80000 = 0x258
    MTRR_FIX16K_A0000 = 0x259
    MTRR_FIX4K_C0000 = 0x268
    MTRR_FIX4K_F8000 = 0x26F
    PAT = 0x277
    MTRR_DEF_TYPE = 0x2FF
    EFER = 0xC000_0080
    STAR = 0xC000_0081
    LSTAR = 0xC000_0082
    CSTAR = 0xC000_0083
    SFMASK = 0xC000_0084
    FS_BASE = 0xC000_0100
    GS_BASE = 0xC000_0101
    KERNEL_GS_BASE = 0xC000_0102
    TSC_AUX = 0xC000_0103

    @classmethod
    def name_of(cls, index: int) -> str:
        """Return the MSR's name ("LSTAR"), or its number in hex if this CPU does not have it."""
        for name, value in vars(cls).items():
            if name.isupper() and value == index:
                return name
        return f"{index:x}h"
