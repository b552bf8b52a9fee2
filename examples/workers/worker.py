# Tasks in Python for gpool, by the frames of docs/protocol.md. See README.md.
import functools, msgpack, os, struct, sys

TASKS = {  # name: (signature, function)
    "upper": ("(str) str", lambda text: text.upper()),
    "add": ("(number, number) number", lambda a, b: a + b),
    "inverse": ("(number) float", lambda x: 1 / x),
}
pack = functools.partial(msgpack.packb, unicode_errors="surrogateescape")  # items need not be UTF-8
frames = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what a task prints goes to stderr, not between the frames

def send(*message):
    frames.write(struct.pack(">I", len(data := pack(message))) + data)
    frames.flush()

def call(name, payload):  # an array is the arguments, anything else is the only one
    try:
        given = msgpack.unpackb(payload, strict_map_key=False, unicode_errors="surrogateescape") if payload else []
        return pack(TASKS[name][1](*given if isinstance(given, list) else [given]))
    except Exception as e:
        return [1, f"{type(e).__name__}: {e}"]

send(1, 0, 1, "", os.getpid(), list(TASKS), [signature for signature, _ in TASKS.values()])  # hello
while head := sys.stdin.buffer.read(4):
    kind, id, *rest = msgpack.unpackb(sys.stdin.buffer.read(*struct.unpack(">I", head)))
    for at, payload in enumerate(rest[1] if kind == 3 else []):  # run
        send(4, id + at, [call(rest[0], payload)])
    if kind == 2:  # init, perhaps with an initializer
        send(4, 0, [call(rest[1], b"") if rest[1] else b""])
    if kind == 9:  # bye
        break
