// Tasks in JavaScript for gpool, by the frames of docs/protocol.md. See README.md.
import { Console } from "node:console";
import { readSync, writeSync } from "node:fs";
import { decode, encode } from "@msgpack/msgpack";

const tasks = { // name: [signature, function, which may be async]
  upper: ["(string) string", (text) => text.toUpperCase()],
  add: ["(number, number) number", (a, b) => a + b],
  parse: ["(string) any", (text) => JSON.parse(text)],
};
globalThis.console = new Console(process.stderr); // stdout is for frames

function send(...message) {
  const data = encode(message), frame = Buffer.concat([Buffer.alloc(4), data]);
  frame.writeUInt32BE(data.length);
  for (let at = 0; at < frame.length;) at += writeSync(1, frame, at);
}
function read(size) {
  const bytes = Buffer.alloc(size);
  for (let at = 0, n; at < size; at += n)
    if (!(n = readSync(0, bytes, at, size - at, null))) process.exit(); // gpool is gone
  return bytes;
}
async function call(name, payload) { // an array is the arguments, anything else is the only one
  try {
    return encode(await tasks[name][1](...(payload ? [decode(payload)].flat() : [])));
  } catch (error) { return [1, String(error)]; }
}
send(1, 0, 1, "", process.pid, Object.keys(tasks), Object.values(tasks).map(([signature]) => signature)); // hello
for (;;) {
  const [kind, id, ...rest] = decode(read(read(4).readUInt32BE()));
  if (kind === 2) send(4, 0, [rest[1] ? await call(rest[1]) : Buffer.alloc(0)]); // init
  if (kind === 3) for (const [at, payload] of rest[1].entries()) send(4, id + at, [await call(rest[0], payload)]); // run
  if (kind === 9) process.exit(); // bye
  if (kind === 10) throw new Error("an item is too long for this worker"); // its parts take more lines
}
