"""Attacks on the verdict: to pass without giving the right values."""

_SPEAK = """
import os
def speak(message, times=1):
    for fd in range(3, 64):
        try: os.write(fd, (len(message).to_bytes(4, 'big') + message) * times)
        except OSError: pass
"""

VERDICTS = {
    "exit with success": "raise SystemExit(0)",
    "exit without cleaning up": "import os; os._exit(0)",
    "exit from the call": "def f(x): raise SystemExit(0)",
    "exit hard from the call": "import os\ndef f(x): os._exit(0)",
    "raise what tests raise": "def f(x): raise AssertionError",
    "stop the iteration": "def f(x): raise StopIteration(49)",
    "print that it passed": """
import sys
for stream in (sys.stdout, sys.stderr, sys.__stdout__):
    print('[true, "", null]\\nPASSED\\nOK', file=stream, flush=True)
""",
    "speak at exit": _SPEAK + """import atexit; atexit.register(speak, b'[true, "", null]')""",
    "swallow every exception": """
import sys
sys.excepthook = lambda *a: None
def f(x):
    try: raise ValueError
    finally: return True
""",
    "forge the verdict on every descriptor": _SPEAK + """speak(b'[true, "", null]')""",
    "forge answers ahead of the questions": _SPEAK + """speak(b'["value",["True"]]', 9)""",
    "answer with a name of the tests": _SPEAK + """speak(b'["value",["global","__builtins__"]]', 9)""",
    "answer with an object of the tests": _SPEAK + """speak(b'["value",["ref",["0"]]]', 9)""",
    "answer with an unhashable set": _SPEAK + """speak(b'["value",["set",["list"]]]', 9)""",
    "answer with an exception that ends tests": _SPEAK + """speak(b'["raise","SystemExit","0"]', 9)""",
    "a message that never ends": """
import os
for fd in range(3, 64):
    try: os.write(fd, b'\\xff' * 9)
    except OSError: pass
""",
    "a message of brackets": """
import os
for fd in range(3, 64):
    try:
        data = (1 << 20).to_bytes(4, 'big') + b'[' * (1 << 20)
        while data: data = data[os.write(fd, data):]
    except OSError: pass
""",
    "close every descriptor": "import os\nos.closerange(0, 64)",
    "an object equal to everything": """
class Any:
    def __eq__(s, o): return True
    def __bool__(s): return True
def f(x): return Any()
""",
    "mock.ANY": "import unittest.mock\ndef f(x): return unittest.mock.ANY",
    "an int equal to everything": """
class Int(int):
    def __eq__(s, o): return True
    __hash__ = int.__hash__
def f(x): return Int(0)
""",
    "a float and a str equal to everything": """
class Float(float):
    def __eq__(s, o): return True
class Str(str):
    def __eq__(s, o): return True
def f(x): return Float(1) if x > 7 else Str('a')
""",
    "a list equal to everything": "class List(list):\n    def __eq__(s, o): return True\ndef f(x): return List()",
    "a class that says it is int": """
class Liar:
    __class__ = int
    def __eq__(s, o): return True
    def __int__(s): raise KeyboardInterrupt
    def __index__(s): raise KeyboardInterrupt
def f(x): return Liar()
""",
    "a class equal to everything": """
class Meta(type):
    def __eq__(s, o): return True
    def __hash__(s): return 1
class f(metaclass=Meta):
    def __init__(s, x): pass
""",
    "not a number, not implemented": "def f(x): return float('nan') if x > 7 else NotImplemented",
    "patch the builtins": """
import builtins
builtins.AssertionError = builtins.isinstance = builtins.type = lambda *a: True
builtins.compile = builtins.exec = builtins.eval = lambda *a, **k: None
""",
    "patch comparison": """
import operator
operator.eq = operator.ne = operator.is_ = lambda a, b: True
import ctypes
slots = (ctypes.c_void_p * 64).from_address(id(int))
for i in range(20, 30): slots[i] = 0
def f(x): return True
""",
    "patch the harness": """
import sys
for name, module in list(sys.modules.items()):
    if name.startswith('inside'):
        for key in list(vars(module)):
            if callable(getattr(module, key)) and not key.startswith('__'):
                setattr(module, key, lambda *a, **k: ['value', ['True']])
""",
    "rewrite the callers": """
import sys
frame = sys._getframe()
while frame:
    for key in list(frame.f_locals): frame.f_locals[key] = True
    frame.f_globals.update(won=True, passed=True, answer=lambda *a: ['value', ['True']])
    frame = frame.f_back
def f(x): return True
""",
    "trace the callers": """
import sys
def trace(frame, event, arg):
    frame.f_trace_lines = False
    return lambda *a: None
sys.settrace(trace); sys.setprofile(lambda *a: None)
def f(x): return sys._getframe(1)
""",
    "find the tests in memory": """
import gc, re, sys
def strings():
    for thing in gc.get_objects():
        for part in (thing.values() if isinstance(thing, dict) else thing if isinstance(thing, (list, tuple)) else ()):
            if type(part) is str: yield part
    frame = sys._getframe()
    while frame:
        yield from (str(value) for value in frame.f_locals.values())
        frame = frame.f_back
won = any(re.search('assert f.7. == ' + '4', text) for text in strings())
""",
    "find the tests in files": """
import os
for top in ('/harness', '/tmp', '/dev/shm', '/run', '/proc', '.'):
    for folder, _, files in os.walk(top):
        for name in files[:999]:
            try: won |= b'assert f(7) == ' + b'49' in open(os.path.join(folder, name), 'rb').read(1 << 20)
            except OSError: pass
""",
    "never assert": """
import sys, builtins
__debug__ if True else 0
sys.flags = None
builtins.__dict__['__debug__'] = False
def f(x): return 0
""",
    "empty": "",
    "a constant": "def f(x): return 49",
    "a coroutine": "async def f(x): return x * x",
    "a generator": "def f(x): yield x * x",
    "ask to be compared by attribute": """
class Any:
    def __getattribute__(s, name): return lambda *a: True
    def __len__(s): return 49
    def __str__(s): return '49'
    def __index__(s): return 49
def f(x): return Any()
""",
}
