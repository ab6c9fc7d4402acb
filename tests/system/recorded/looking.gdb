# A look at everything there is, before the first instruction and in front of kmain.
target remote TARGET
info threads
info inferiors
info target
info all-registers
info registers system
info registers float
info registers vector
info float
info vector
info sharedlibrary
info auxv
info proc
info proc mappings
info os
info os processes
info mem
info program
info static-tracepoint-markers
info tracepoints
info tvariables
info record
info frame
info dcache
info selectors
info terminal
info auto-load
thread
thread 1
thread name cpu
thread find cpu
thread apply all print $pc
taas bt
monitor help
monitor info time
monitor frob
tstatus
print $_siginfo
print $_siginfo.si_signo
print $_tlb
print $_exitcode
print $_thread
print errno
tbreak kmain
continue
backtrace full
info locals
info args
info frame
up
down
info symbol kmain
info line kmain
info source
info scope kmain
info address kmain
list kmain
ptype $gdtr
print $gdtr
print/x $idtr
print/x $xmm0
print $st0
print $cr0
print/x $k_gs_base
print crc_table
print sizeof(crc_table)
print *expected@3
print magic
output magic
x/4i $pc
x/8xb $sp
x/2gx $sp
x/s mix_parts[0].name
x/2000xb 0x106000
x/xb 0x7f0000000000
disassemble kmain
disassemble /rs kmain,+16
find 0x106000, +0x4000, 'f', 'i', 'b'
find /b 0x106000, +0x2000, 0xf4
find /w 0x106000, +0x100000, 0x12345678, 0x12345678
compare-sections
compare-sections -r
compare-sections .text
dump binary memory DIRECTORY/memory 0x106000 0x107000
append binary memory DIRECTORY/memory 0x100000 0x100100
dump binary value DIRECTORY/value crc_table
generate-core-file DIRECTORY/core
remote get /dbgvmm/statistics.json DIRECTORY/statistics
remote put DIRECTORY/statistics /dbgvmm/statistics.json
remote delete /dbgvmm/statistics.json
maintenance packet qC
maintenance packet vMustReplyEmpty
maintenance packet qqemu.sstepbits
maintenance packet Qqemu.sstep=1
maintenance flush register-cache
maintenance flush dcache
maintenance print raw-registers
maintenance print remote-registers
maintenance info sections
maintenance check libthread-db
python print(gdb.selected_inferior().read_memory(0x106000, 16).tobytes().hex())
python print(gdb.selected_inferior().search_memory(0x106000, 0x4000, b"fib"))
python print(gdb.selected_inferior().connection.send_packet("qC"))
python print(gdb.selected_inferior().thread_from_handle(b"12345678"))
python print([t.name for t in gdb.selected_inferior().threads()])
tui enable
info sharedlibrary
sharedlibrary
nosharedlibrary
set sysroot /
set sysroot target:
add-symbol-file target:/dbgvmm/serial.log 0
memory-tag check $pc
mem 0x100000 0x101000 ro
info mem
delete mem
delete
detach
