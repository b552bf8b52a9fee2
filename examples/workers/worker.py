# Tasks in Python for gpool, by the frames of docs/protocol.md. See README.md.
import msgpack, os, sys

TASKS = {  # name: (signature, function)
    "upper": ("(str) str", lambda text: text.upper()),
    "add": ("(number, number) number", lambda a, b: a + b),
    "inverse": ("(number) float", lambda x: 1 / x),
}
TEXT = {"unicode_errors": "surrogateescape"}  # items need not be UTF-8
calls, frames = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what a task starts does not read the frames
os.dup2(2, 1)  # what a task prints goes to stderr, not between the frames

def send(*message):
    data = msgpack.packb(message, **TEXT)
    frames.write(len(data).to_bytes(4, "big") + data)
    frames.flush()

def call(name, payload):  # an array is the arguments, anything else is the only one
    try:
        given = msgpack.unpackb(payload, strict_map_key=False, **TEXT) if payload else []
        return msgpack.packb(TASKS[name][1](*given if isinstance(given, list) else [given]), **TEXT)
    except Exception as e:
        return [1, f"{type(e).__name__}: {e}"]

send(1, 0, 1, "", os.getpid(), list(TASKS), [signature for signature, _ in TASKS.values()])  # hello
while head := calls.read(4):
    kind, id, *rest = msgpack.unpackb(calls.read(int.from_bytes(head, "big")))
    if kind == 2:  # init, perhaps with an initializer
        send(4, 0, [call(rest[1], b"") if rest[1] else b""])
    for at, payload in enumerate(rest[1] if kind == 3 else []):  # run
        send(4, id + at, [call(rest[0], payload)])
    if kind in (9, 10):  # bye; or a part of what is longer than a frame, which takes more lines
        sys.exit(kind == 10 and "an item is too long for this worker")
