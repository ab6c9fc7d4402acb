"""What a debugger needs of a machine: stop reasons, breakpoints, symbols, the target for the gdb stub."""
