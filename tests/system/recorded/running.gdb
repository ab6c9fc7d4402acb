# Stopping and going on, in all the ways.
target remote TARGET
tbreak kmain
hbreak kmain if magic == 1
thbreak run_crc_table
continue
stepi
nexti
stepi 20
x/i $pc
next
step
finish
continue
delete
watch checks
watch checks if checks == 5
continue
delete
watch -l checks
delete
rwatch expected[1]
continue
delete
awatch checks
continue
delete
break check_eq
condition $bpnum got == 1
delete
break check_eq
ignore $bpnum 1
commands
silent
print name
end
continue
finish
delete
break *check_eq if $rsi == 0xfeedface
break check_eq thread 1
break check_eq thread 1 if got != 0
continue
disable
enable once
delete
set can-use-hw-watchpoints 0
watch checks
stepi
delete
set can-use-hw-watchpoints 1
tbreak check_eq
continue
until
advance console_putc
step
finish
set scheduler-locking on
stepi
tbreak console_putc
continue
set scheduler-locking step
step
set scheduler-locking off
set schedule-multiple on
stepi
set schedule-multiple off
set breakpoint always-inserted on
break check_eq
set breakpoint always-inserted off
delete
set breakpoint condition-evaluation host
tbreak check_eq if got != 0
continue
set breakpoint condition-evaluation target
set breakpoint auto-hw off
tbreak check_eq if got != 0
continue
set exec-direction reverse
set exec-direction forward
reverse-step
reverse-stepi
reverse-next
reverse-continue
reverse-finish
record
record stop
record btrace
record btrace pt
checkpoint
restart 1
catch syscall
catch syscall 1
catch fork
catch vfork
catch exec
catch load
catch signal SIGINT
catch throw
tbreak console_putc
continue
handle SIGUSR1 nostop noprint pass
handle SIGINT nostop print pass
handle all nostop noprint pass
handle SIGTRAP stop print nopass
stepi
handle SIGINT stop print nopass
tbreak console_putc
signal 0
tbreak console_putc
signal SIGUSR1
tbreak console_putc
queue-signal SIGINT
continue
queue-signal SIGUSR2
stepi
tbreak console_putc
jump *$pc
tbreak console_putc
continue
set follow-fork-mode child
set detach-on-fork off
set follow-exec-mode new
info threads
info threads
set breakpoint always-inserted on
break leave
continue
delete
continue
