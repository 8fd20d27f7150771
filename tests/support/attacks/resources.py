"""Attacks on the machine: to take its processes, memory, disk or time."""

RESOURCES = {
    "fork bomb": "import os\nfor _ in range(7):\n    os.fork()\n    won = True",
    "fork once": "import os\ntry:\n    won = os.fork() >= 0\nexcept OSError: pass",
    "fork by spawning": "import os\ntry:\n    won = os.posix_spawn('/bin/sh', ['sh'], {}) > 0\nexcept OSError: pass",
    "a shell": """
import subprocess
try:
    won = subprocess.run(['/bin/sh', '-c', 'true']).returncode == 0
except OSError: pass
""",
    "a pool of processes": """
import multiprocessing as m
def f(x):
    with m.get_context('fork').Pool(4) as p: return p.apply(pow, (x, 2))
""",
    "thread bomb": """
import threading, time
threading.stack_size(32768)
try:
    for _ in range(100): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    won = True
except RuntimeError: pass
""",
    "leave a process behind": """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time; time.sleep(3600)
won = True
""",
    "memory at once": "try:\n    won = bool(bytearray(4 << 30))\nexcept MemoryError: pass",
    "memory bit by bit": """
kept = []
try:
    while len(kept) < 3000: kept.append(bytearray(1 << 20))
    won = True
except MemoryError: kept.clear()
""",
    "memory mapped": """
import mmap
try:
    won = bool([mmap.mmap(-1, 1 << 30) for _ in range(3)])
except (OSError, MemoryError): pass
""",
    "memory shared and let go": """
import ctypes
libc = ctypes.CDLL(None)
won = libc.shmget(0, 1 << 20, 0o1600) != -1 or libc.memfd_create(b'x', 0) != -1
""",
    "a string without end": "def f(x): return 'x' * (64 << 20)",
    "an iterator without end": "import itertools\ndef f(x): return itertools.count()",
    "a value without end": "a = []\na.append(a)\ndef f(x): return a",
    "a value of many colliding hashes": "def f(x): return {k * (2 ** 61 - 1) for k in range(6000)}",
    "disk": """
import os
paths, total = [f'/tmp/divmon-attack-{os.getpid()}-{i}' for i in range(20)], 0
try:
    for path in paths:
        with open(path, 'wb', 0) as file:
            for _ in range(64): total += file.write(bytes(1 << 20))
except OSError: pass
won = total > 64 << 20
for path in paths:
    try: os.unlink(path)
    except OSError: pass
""",
    "files in memory": """
import os
for folder in ('/', '/dev', '/dev/shm', '/run', '/harness', '/harness/inside'):
    try:
        with open(folder + '/canary', 'wb', 0) as file: won |= file.write(bytes(1 << 20)) == 1 << 20
        os.unlink(folder + '/canary')
    except OSError: pass
""",
    "descriptors": "import os\ntry:\n    won = bool([os.dup(0) for _ in range(5000)])\nexcept OSError: pass",
    "wait for input": "def f(x): return int(input())",
    "deep nesting": "exec('(' * 100000 + ')' * 100000)",
    "deep value": "def f(x):\n    a = []\n    for _ in range(10 ** 5): a = [a]\n    return a",
    "deep unary": "def f(x): return eval('-' * 10 ** 5 + '1')",
    "crash": "import ctypes\ndef f(x): return ctypes.string_at(0)",
    "crash in the interpreter": "def f(x): pass\nf.__code__ = f.__code__.replace(co_code=bytes(range(256)) * 2)",
    "alarms": """
import signal
def ring(*a): raise SystemExit(0)
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def f(x):
    while True: pass
""",
    "raise its own limits": """
import resource
for name in ('CPU', 'AS', 'FSIZE', 'NPROC'):
    try:
        resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (resource.RLIM_INFINITY,) * 2)
        won = True
    except (OSError, ValueError): pass
""",
    "kill the parent": """
import os, signal
for pid in (PARENT, os.getppid()):
    for number in (signal.SIGTERM, signal.SIGKILL) if pid != 1 else ():
        try: os.kill(pid, number)
        except OSError: pass
""",
    "kill its group": "import os, signal\ntry: os.killpg(0, signal.SIGKILL)\nexcept OSError: pass",
    "kill the parent by a file that gets ready": """
import fcntl, os, socket, struct
ours, theirs = socket.socketpair()
for own in (lambda: fcntl.fcntl(ours, 8, PARENT), lambda: fcntl.ioctl(ours, 0x8901, struct.pack('i', PARENT))):
    try:
        own(); won = True
        fcntl.fcntl(ours, 10, 9)  # F_SETSIG
        fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        theirs.send(b'x')
    except OSError: pass
""",
    "limit the parent": """
import resource
for name in ('NOFILE', 'FSIZE', 'NPROC'):
    try:
        number = getattr(resource, 'RLIMIT_' + name)
        won |= bool(resource.prlimit(PARENT, number, resource.prlimit(PARENT, number)))
    except OSError: pass
""",
    "outlive the parent": "import ctypes\nwon = ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0",
    "keys of the session": """
import ctypes, os
libc, buffer = ctypes.CDLL(None), ctypes.create_string_buffer(99)
add, ask, control = (248, 249, 250) if os.uname().machine == 'x86_64' else (217, 218, 219)
for ring in (-1, -2, -3, -4, -5):
    libc.syscall(add, b'user', b'divmon-left', b'won', 3, ring)
    found = libc.syscall(control, 10, ring, b'user', MARKER.encode(), 0)  # KEYCTL_SEARCH
    won |= found > 0 and libc.syscall(control, 11, found, buffer, 99) > 0  # KEYCTL_READ
    won |= libc.syscall(ask, b'user', MARKER.encode(), None, ring) > 0
    won |= libc.syscall(control, 0, ring, 0) > 0
won |= libc.syscall(control, 1, None) > 0  # KEYCTL_JOIN_SESSION_KEYRING
""",
    "pipes that hold more": """
import fcntl, os
try: won = fcntl.fcntl(os.pipe()[1], 1031, 1 << 20) > 0
except OSError: pass
""",
    "descriptors that are sent away": """
import socket
ours, theirs = socket.socketpair()
try: won = socket.send_fds(ours, [b'x'], [0]) > 0
except OSError: pass
""",
    "trace the parent": """
import ctypes
libc = ctypes.CDLL(None)
won = libc.ptrace(16, PARENT, 0, 0) == 0  # PTRACE_ATTACH
""",
}

ENDLESS = {
    "files without end": """
import os
for i in range(10 ** 9): os.close(os.open(f'{i}'.rjust(200, 'x'), os.O_CREAT))
""",
    "pages far apart": """
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
for i in range(10 ** 9):
    at = (1 << 40) + (i << 30) - 4096  # the last page of one table and the first of the next
    if libc.mmap(at, 8192, 3, 0x22 | 0x100000, -1, 0) == at:
        ctypes.memset(at, 1, 8192)
""",
    "a number without end": "def f(x): return 7 ** 7 ** 7 ** 7",
    "loop at the start": "while True: pass",
    "loop in the call": "def f(x):\n    while True: pass",
    "loop in a regular expression": "import re\ndef f(x): return re.match('(a|a)*b', 'a' * 60)",
    "loop in the answer": "class A(list):\n    def __iter__(s):\n        while True: pass\ndef f(x): return A()",
    "close the channel and go on": "import os\nos.closerange(0, 64)\nwhile True: pass",
    "sleep": "import time\ndef f(x): time.sleep(3600)",
    "stop itself": "import signal\ndef f(x): signal.pause()",
    "output without end": "import sys\nwhile True: sys.stdout.write('x' * 65536); sys.stderr.write('y' * 65536)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x): return f(x)",
    "ignore the limit on time": """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
}
"""They run into a limit on time, each about a second, and so come last where time is short."""
