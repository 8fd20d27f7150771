"""Attacks on the host: to read its secrets, write to it, or leave the sandbox. Only bubblewrap withstands them."""

_LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
_WRITE = """
def write(path):
    global won
    try:
        with open(path, 'w') as file: file.write('won')
        won = True
    except OSError: pass
"""

HOST = {
    "read a secret": "try:\n    won = bool(open(FOLDER + '/secret').read())\nexcept OSError: pass",
    "read the environment": "import os\nwon = MARKER in os.environ",
    "read the environment of others": """
import os
for pid in ('self', '1', PARENT, os.getppid()):
    try: won |= MARKER.encode() in open(f'/proc/{pid}/environ', 'rb').read()
    except OSError: pass
""",
    "read the users": "import os\nwon = os.path.exists('/etc/passwd') or os.path.exists('/etc/shadow')",
    "read a home": """
import os, sys
ours = ':'.join([os.__file__, sys.executable, *sys.path]) + '/'  # the way to the interpreter may lead through it
for home in ('/root', '/home', os.path.expanduser('~')):
    try: won |= any(f'/{name}/' not in ours for name in os.listdir(home))
    except OSError: pass
""",
    "look for the secret": """
import os
for folder, inside, files in os.walk('/'):
    won |= os.path.basename(folder) == os.path.basename(FOLDER)
    if folder == '/': inside.remove('usr')
""",
    "read the memory of others": """
import os
for pid in (PARENT, os.getppid()):
    try:
        start = int(open(f'/proc/{pid}/maps').read().split('-')[0], 16)
        with open(f'/proc/{pid}/mem', 'rb') as memory:
            memory.seek(start); won |= len(memory.read(64)) == 64
    except OSError: pass
""",
    "leave by a descriptor": """
import os
for fd in range(64):
    try:
        os.fchdir(fd); won |= os.path.exists('..' + FOLDER + '/secret')
    except OSError: pass
""",
    "leave by chroot": _LIBC
    + """
try:
    os.mkdir('/tmp/x'); os.chroot('/tmp/x')
    for _ in range(64): os.chdir('..')
    os.chroot('.'); won = os.path.exists(FOLDER + '/secret')
except OSError: pass
""",
    "become root": """
import os
for become in (os.setuid, os.seteuid, os.setgid):
    try: become(0); won = True
    except OSError: pass
""",
    "open a namespace": _LIBC
    + "won = any(libc.unshare(flag) == 0 for flag in (0x10000000, 0x20000, 0x10020000, 0x40000000))",
    "join a namespace": """
import os, ctypes
libc = ctypes.CDLL(None)
for pid in (1, PARENT):
    for kind in ('user', 'mnt', 'net'):
        try: won |= libc.setns(os.open(f'/proc/{pid}/ns/{kind}', os.O_RDONLY), 0) == 0
        except OSError: pass
""",
    "remount for writing": _LIBC
    + _WRITE
    + """
for folder in (b'/', b'/usr', b'/harness', os.path.dirname(os.__file__).encode()):
    won |= libc.mount(None, folder, None, 32 | 4096, None) == 0
    write(folder.decode() + '/canary')
""",
    "mount": _LIBC
    + "won = any(libc.mount(b'none', b'/tmp', kind, 0, None) == 0 for kind in (b'tmpfs', b'proc', b'sysfs'))",
    "unmount": _LIBC
    + """
won = libc.syscall(155 if os.uname().machine == 'x86_64' else 41, b'/tmp', b'/tmp') == 0  # pivot_root
won |= any(libc.umount2(path, 2) == 0 for path in (b'/usr', b'/tmp', b'/'))
""",
    "make a device": """
import os, stat
for major, minor in ((8, 0), (254, 0), (259, 0), (1, 1)):
    try:
        os.mknod(f'/tmp/disk{major}', 0o600 | stat.S_IFBLK, os.makedev(major, minor)); won = True
    except OSError: pass
""",
    "write to the host": _WRITE
    + """
for folder in (FOLDER, '/', '/usr', '/usr/lib', '/etc', '/var/tmp', '/dev/shm', '/home', '/harness/inside'):
    write(folder + '/canary')
""",
    "write to the interpreter": _WRITE
    + """
import os, sys
for folder in (os.path.dirname(os.__file__), os.path.dirname(sys.executable), *sys.path): write(folder + '/canary.pth')
""",
    "change what is there": """
import os, sys
for path in (os.__file__, sys.executable, '/usr/bin/env', '/harness/inside/values.py'):
    for change in (lambda: os.chmod(path, 0o755), lambda: os.utime(path), lambda: os.link(path, path + '_')):
        try: change(); won = True
        except OSError: pass
""",
    "connect to the host": """
import socket
for address in ('127.0.0.1', '::1', 'localhost'):
    try: won |= bool(socket.create_connection((address, PORT), timeout=1))
    except OSError: pass
""",
    "send a packet": """
import socket
for address in ('8.8.8.8', '255.255.255.255', '::1'):
    try: won |= socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (address, PORT)) > 0
    except OSError: pass
""",
    "sniff the network": """
import socket
for family in (socket.AF_PACKET, socket.AF_INET):
    try: won |= bool(socket.socket(family, socket.SOCK_RAW, 1))
    except OSError: pass
""",
    "see the host's network": "import socket\nwon = any(name != 'lo' for _, name in socket.if_nameindex())",
    "rename the host": _LIBC + "won = libc.sethostname(b'x', 1) == 0",
    "set the clock": """
import time
try:
    time.clock_settime(time.CLOCK_REALTIME, time.time()); won = True
except OSError: pass
""",
    "favour itself": "import os\ntry:\n    won = os.nice(-10) < 0\nexcept OSError: pass",
}
