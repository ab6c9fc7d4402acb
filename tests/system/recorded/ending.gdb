# Letting go, coming back, restarting, ending.
set tcp auto-retry off
target remote TARGET
tbreak kmain
continue
disconnect
target remote TARGET
info threads
detach
target extended-remote TARGET
info threads
set cwd /
set environment A=b
set disable-randomization on
tbreak kmain
run
continue
set args a b
run
set args
set remote exec-file /another
run
set remote exec-file
starti
info threads
kill
attach 1
attach 2
tbreak run_fib
run
attach 1
info threads
set detach-on-fork off
kill
disconnect
