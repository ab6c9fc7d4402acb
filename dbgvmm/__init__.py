"""dbgvmm: a debugging hypervisor for people who write operating systems."""

from dbgvmm.machine import Machine, MachineConfig

__version__ = "0.1.0"
__all__ = ["Machine", "MachineConfig", "__version__"]
