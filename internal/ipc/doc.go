// Package ipc is the language that the parent and its workers speak: frames,
// the messages in them, and the reading and writing of both. It knows nothing of
// pools, tasks or processes, and imports nothing else of this module.
//
// A frame is a 4-byte big-endian length and one msgpack array [kind, id, ...].
// docs/protocol.md specifies it byte by byte. Three rules keep a peer from doing
// harm: a length is compared with a limit before memory is taken for it, a whole
// frame is checked ([Precheck]) before the msgpack library sees a byte of it, and
// payloads are opaque bytes that nobody on the way decodes.
//
// A [Reader] and a [Writer] each belong to one goroutine at a time; the two sides
// of one connection are independent of each other.
package ipc
