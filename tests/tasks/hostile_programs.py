"""Programs that attack what runs them; each would give "SECRET" only if it had its way."""

HEAD = "import os, sys, time, ctypes, socket, signal, threading, itertools, builtins, gc, json\n"
TESTS = 'assert f(2) == "SECRET"\n'

# FILE, OUTSIDE and PORT are put in by the test.
BODIES = {
    "fork bomb": "def f(x):\n while True: os.fork()",
    "fork": "def f(x):\n if os.fork() == 0: os._exit(0)\n return 'SECRET'",
    "threads": "def f(x):\n while True: threading.Thread(target=time.sleep, args=(60,)).start()",
    "subprocess": "import subprocess\ndef f(x): return subprocess.check_output('echo SECRET')",
    "background process": (
        "def f(x):\n if os.fork() == 0:\n  os.setsid(); time.sleep(600)\n return 'SECRET'"
    ),
    "memory at once": "def f(x): return 'SECRET' if bytearray(10**11) else 0",
    "memory bit by bit": "def f(x):\n found = []\n while True: found.append(bytearray(10**6))",
    "endless loop": "def f(x):\n while True: pass",
    "endless loop at import": "while True: pass",
    "loop in C": "def f(x): return 7 ** 10 ** 9",
    "loop that ignores signals": (
        "for n in range(1, 32):\n try: signal.signal(n, signal.SIG_IGN)\n except OSError: pass\n"
        "def f(x):\n while True:\n  try:\n   while True: pass\n  except BaseException: pass"
    ),
    "sleep": "def f(x):\n time.sleep(3600)\n return 'SECRET'",
    "sleep and trickle": (
        "def f(x):\n while True:\n  time.sleep(0.15)\n  for n in range(3, 9):\n"
        "   try: os.write(n, b' ')\n   except OSError: pass"
    ),
    "stop itself": "def f(x):\n os.kill(os.getpid(), signal.SIGSTOP)\n return 'wrong'",
    "read from nothing": "def f(x):\n a, b = os.pipe()\n return os.read(a, 1)",
    "standard input": "def f(x): return input()",
    "read a file": "def f(x): return open('FILE').read()",
    "read through a link": ("def f(x):\n os.symlink('FILE', 'link')\n return open('link').read()"),
    "search for a file": (
        "def f(x):\n for folder, _, names in os.walk('/'):\n  for name in names:\n"
        "   if name == os.path.basename('FILE'):\n"
        "    return open(os.path.join(folder, name)).read()"
    ),
    "write outside": "def f(x):\n open('OUTSIDE', 'w').write('x')\n return 'SECRET'",
    "write to the library": ("def f(x):\n open(os.__file__, 'a').write(' ')\n return 'SECRET'"),
    "fill the disk": (
        "def f(x):\n for n in range(64):\n  open(f'file{n}', 'wb').write(bytes(2**20))\n"
        " return 'SECRET'"
    ),
    "many files": (
        "def f(x):\n for n in range(10**5): open(str(n), 'w').close()\n return 'SECRET'"
    ),
    "network": (
        "def f(x):\n s = socket.create_connection(('127.0.0.1', PORT), 2)\n"
        " return s.recv(6).decode()"
    ),
    "abstract socket": (
        "def f(x):\n s = socket.socket(socket.AF_UNIX)\n s.connect('\\0ttc-PORT')\n"
        " return s.recv(6).decode()"
    ),
    "kill the parent": "def f(x):\n os.kill(os.getppid(), 9)\n return 'wrong'",
    "kill all": "def f(x):\n os.kill(-1, 9)\n return 'SECRET'",
    "kill by number": (
        "def f(x):\n for n in range(2, 40000):\n  try: os.kill(n, 9)\n  except OSError: pass\n"
        "  else: return 'SECRET'"
    ),
    "flood standard output": "def f(x):\n while True: print('x' * 10**6)",
    "flood standard error": "def f(x):\n while True: os.write(2, b'x' * 10**6)",
    "_exit": "def f(x): os._exit(0)",
    "_exit at import": "os._exit(0)",
    "sys.exit": "def f(x): sys.exit(0)",
    "sys.exit at import": "sys.exit(0)",
    "exit handlers": "import atexit\natexit.register(print, 'SECRET')\ndef f(x): sys.exit(0)",
    "patched builtins": (
        "for name in ('AssertionError', 'str', 'isinstance', 'eval', 'type', 'len', 'all'):\n"
        " setattr(builtins, name, lambda *_: True)\ndef f(x): return 'wrong'"
    ),
    "patched modules": (
        "json.dumps = lambda *_: '[\"value\", true]'\n"
        "sys.modules['json'] = None\ndef f(x): return 'wrong'"
    ),
    "equal to all": (
        "class E:\n __eq__ = lambda *_: True\n __hash__ = None\n __bool__ = lambda *_: True\n"
        "def f(x): return E()"
    ),
    "text equal to all": (
        "class E(str):\n __eq__ = lambda *_: True\n __hash__ = None\ndef f(x): return E('wrong')"
    ),
    "list equal to all": (
        "class E(list):\n __eq__ = lambda *_: True\n __len__ = lambda *_: 6\ndef f(x): return E()"
    ),
    "look into frames": (
        "def f(x):\n frame = sys._getframe()\n while frame:\n"
        "  for each in [*frame.f_locals.values(), *frame.f_globals.values()]:\n"
        "   if 'SEC' + 'RET' in str(each) and 'assert' in str(each): return 'SEC' + 'RET'\n"
        "  frame = frame.f_back"
    ),
    "look into all objects": (
        "def f(x):\n for each in gc.get_objects():\n"
        "  if 'assert f(2) ' + '==' in str(each): return 'SEC' + 'RET'"
    ),
    "look into other processes": (
        "def f(x):\n for n in os.listdir('/proc'):\n"
        "  try: text = open(f'/proc/{n}/environ').read()\n"
        "  except OSError: continue\n  if 'PATH' in text and n != 'self': return 'SEC' + 'RET'"
    ),
    "read all open files": (
        "def f(x):\n for n in range(64):\n  try:\n   os.set_blocking(n, False)\n"
        "   if b'assert' in os.read(n, 10**6): return 'SEC' + 'RET'\n  except OSError: pass"
    ),
    "forge the verdict": (
        "def f(x):\n for n in range(64):\n  try: os.write(n, b'[\"passed\"]\\n')\n"
        "  except OSError: pass\n return 'wrong'"
    ),
    "forge the verdict and go": (
        "for n in range(64):\n try: os.write(n, b'[\"passed\"]\\n')\n"
        " except OSError: pass\nos._exit(0)"
    ),
    "forge the next replies": (
        "def f(x):\n for n in range(64):\n  try: os.write(n, b'[\"value\", true]\\n' * 99)\n"
        "  except OSError: pass\n return 'wrong'"
    ),
    "a reply without an end": (
        "def f(x):\n while True:\n  for n in range(3, 64):\n   try: os.write(n, b'[' * 65536)\n"
        "   except OSError: pass"
    ),
    "close all files": "def f(x):\n os.closerange(0, 1000)\n return 'SECRET'",
    "huge text": "def f(x): return 'SECRET' * 10**7",
    "huge list": "def f(x): return ['SECRET'] * 10**7",
    "huge number": "def f(x): return 1 << 10**8",
    "deep list": ("def f(x):\n found = []\n for _ in range(10**5): found = [found]\n return found"),
    "list in itself": "def f(x):\n found = []\n found.append(found)\n return found",
    "endless iterator": "def f(x): return itertools.count()",
    "recursion": "def f(x): return f(x)",
    "recursion without a limit": "sys.setrecursionlimit(10**9)\ndef f(x): return f([x])",
    "recursion in C": (
        "sys.setrecursionlimit(10**9)\nclass E:\n def __repr__(self): return repr([self])\n"
        "def f(x): return repr(E())"
    ),
    "crash": "def f(x): return ctypes.string_at(0)",
    "abort": "def f(x): os.abort()",
    "delete all": (
        "import shutil\ndef f(x):\n shutil.rmtree('.', True)\n shutil.rmtree('/', True)\n"
        " return open('FILE').read()"
    ),
    "rights of others": "def f(x):\n os.setuid(0)\n return 'SECRET'",
    "mount": (
        "def f(x):\n libc = ctypes.CDLL(None)\n os.mkdir('here')\n"
        " return 'wrong' if libc.mount(b'/', b'here', None, 4096, None) else 'SECRET'"
    ),
    "another network": (
        "def f(x):\n libc = ctypes.CDLL(None)\n"
        " return 'wrong' if libc.setns(os.open('/proc/1/ns/net', 0), 0) else 'SECRET'"
    ),
    "larger limits": (
        "import resource\ndef f(x):\n"
        " resource.setrlimit(resource.RLIMIT_NPROC, (99, 99))\n return 'SECRET'"
    ),
    "no death with the parent": (
        "def f(x):\n ctypes.CDLL(None).prctl(1, 0)\n os.closerange(0, 1000)\n time.sleep(600)"
    ),
    "a zero in the source": "def f(x): return '\0SECRET'",
    "no Unicode": "def f(x): return '\ud800'",
    "no such function": "def g(x): return 'SECRET'",
    "no Python": "def f(x) return 'SECRET'",
}


def programs(file: str, outside: str, port: int) -> dict[str, str]:
    """The programs by name, with what they are after."""
    found = {}
    for name, body in BODIES.items():
        body = body.replace("FILE", file).replace("OUTSIDE", outside).replace("PORT", str(port))
        found[name] = HEAD + body + "\n"
    return found
