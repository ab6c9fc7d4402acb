# Registers, memory, calls, files; printing without a stop.
target remote TARGET
tbreak check_eq
continue
set var checks = checks + 0
set var $rax = $rax
set var $eflags = $eflags
set var $xmm0.uint128 = 5
set var $st0 = 1.5
set var $mxcsr = $mxcsr
set var $cr8 = $cr8
set var $gs_base = $gs_base
set var $efer = $efer
set var crc_table[3] = crc_table[3]
set remote binary-download-packet off
set var crc_table[3] = crc_table[3]
dump binary memory DIRECTORY/memory 0x128000 0x128400
restore DIRECTORY/memory binary 0x128000
set remote binary-download-packet auto
restore DIRECTORY/memory binary 0x128000
set remote set-register-packet off
set var $rax = $rax
set remote set-register-packet auto
set remote fetch-register-packet off
maintenance flush register-cache
info registers rax cr0
set remote fetch-register-packet auto
set remote memory-read-packet-size 1024
x/2000xb 0x106000
print run_fib()
print descending(1, 2)
call print("called by gdb\n")
call console_flush()
print $_strlen("abc")
print getpid()
compile code 1
return
dprintf check_eq,"%s %lx\n",name,got
set dprintf-style agent
dprintf check_eq,"%s %lx\n",name,got
break verdict
continue
set dprintf-style call
dprintf check_failed,"%s\n",name
set dprintf-style gdb
info breakpoints
set stack-cache off
set code-cache off
x/s mix_parts[1].name
set exec-wrapper env
set environment A=b
unset environment A
set cwd /
set args a b
set startup-with-shell off
set disable-randomization off
set remote exec-file x
set observer on
set observer off
set may-write-memory off
set may-write-memory on
set trust-readonly-sections on
x/xb 0x106000
set processor i386:x86-64
set agent on
set agent off
info probes
add-inferior
inferior 2
inferior 1
remove-inferiors 2
load
symbol-file
file
kill
