# A guest that runs for seconds, and is stopped from outside; then one packet size and one protocol setting after the other.
set remote noack-packet off
set remote supported-packets-packet auto
target remote TARGET
python import os, signal, threading; threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
continue
backtrace
info threads
set remote verbose-resume-packet off
stepi
tbreak run_fib
continue
finish
set remote verbose-resume-packet auto
set remote threads-packet off
info threads
thread find CPU
set remote threads-packet auto
info threads
set remote hardware-watchpoint-limit 1
watch checks
set remote hardware-watchpoint-limit unlimited
watch checks
python threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
continue
python threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
stepi 100000000
python threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
finish
kill
