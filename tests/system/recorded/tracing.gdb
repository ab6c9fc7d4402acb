# Tracepoints, from definition to a look at what was collected.
target remote TARGET
tbreak kmain
continue
tvariable $calls = 3
info tvariables
trace check_eq
actions
collect $regs, $args, checks
collect $calls
end
passcount 3
trace console_flush if checks == 4
ftrace *check_eq
strace -m marker
info tracepoints
tstatus
tstart
tstatus
break verdict
continue
tstatus
tstop
tstatus
tfind
tdump
tfind start
tfind end
tfind pc verdict
tfind tracepoint 3
tfind line 20
tfind range 0x100000, 0x200000
tfind outside 0x100000, 0x200000
tfind none
tsave DIRECTORY/trace
tsave -r DIRECTORY/remote-trace
tsave -ctf DIRECTORY/ctf
set trace-user me
set trace-notes why
set trace-stop-notes because
set disconnected-tracing on
set disconnected-tracing off
set circular-trace-buffer on
set circular-trace-buffer off
set trace-buffer-size 100000
set trace-buffer-size unlimited
disable 3
enable 3
tstart
info static-tracepoint-markers
print $_sdata
delete tracepoints
delete tvariable
disconnect
