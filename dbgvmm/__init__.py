"""dbgvmm: a debugging hypervisor for people who write operating systems."""

from dbgvmm.machine import Machine, MachineConfig
from dbgvmm.version import VERSION

__version__ = VERSION
__all__ = ["Machine", "MachineConfig", "__version__"]
