// Package value turns the arguments and results of registered Go tasks into
// msgpack and back, and JSON into msgpack and back for the command line. The
// parent and the worker process both use it.
//
// The plain types are written and read here, with the type's layout worked out
// once ([shape]); the msgpack library is called only for types with encoding
// methods of their own, because it neither checks ranges nor bounds recursion, and
// because its any decodes to whatever width the wire happened to have.
//
// # What a Go value becomes
//
// The rules are the library's: numbers take as few bytes as they need, a string is
// a str, a []byte a bin, a struct a map by field name (an array with
// `msgpack:",as_array"`), an error its text, a time.Time the timestamp extension,
// which keeps the instant and loses the zone: it is read back as local time. The
// tags understood are name, -, omitempty, inline, noinline, alias and as_array.
// The methods EncodeMsgpack, MarshalMsgpack, MarshalBinary and MarshalText take
// precedence, in this order. Maps are written in the order of their keys, so equal
// values have equal encodings.
//
// A struct that embeds a type with such methods has them too, by promotion, and
// then only the embedded value is encoded: struct{ url.URL; N int } loses N. Go
// cannot tell promotion from intent; name the field instead. What was registered
// with msgpack.Register, without methods, is not known here.
//
// # What is refused
//
// Types with a chan, func, complex, uintptr or unsafe.Pointer in them; structs all
// of whose fields are unexported; two fields of one name; the tag option intern,
// whose encoding is private to the library; values that nest deeper than 60 levels
// (ipc.Precheck's limit), which covers every cycle. A type's own methods are
// trusted to end: a cycle that they follow overflows the stack, which ends the
// process. So is their use of the library's DecodeMap and the like, which take the
// contents of an extension for a map, unchecked, and allocate what that declares.
//
// # What is read
//
// The wire comes from a peer and is not trusted. nil is the zero value of every
// type, as null is in encoding/json. Numbers must fit: nothing is cut off or
// rounded, but for a float64 that becomes a float32. str and bin are
// interchangeable where a string or a []byte is expected. Unknown fields of a
// struct are skipped, missing ones are zero. Memory is bounded by the length of the
// wire times the size of the element type: a slice of large structs may be sent as
// a byte each.
package value
