package ipc

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
)

// BuildID names the code of this executable: two processes with the same id run
// the same build. It is the id that the Go linker leaves in the first pages of the
// file; where that cannot be read, the module's version stands in. It costs one
// read of 32 KiB, once.
var BuildID = sync.OnceValue(func() string {
	if id := linkerID(); id != "" {
		return id
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Path + "@" + info.Main.Version + " " + info.GoVersion
	}
	return "unknown"
})

func linkerID() string {
	// The very file that runs, also after an upgrade has replaced it on the disk.
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		path, err := os.Executable()
		if err != nil {
			return ""
		}
		if f, err = os.Open(path); err != nil {
			return ""
		}
	}
	defer f.Close()
	head := make([]byte, 32<<10)
	n, _ := io.ReadFull(f, head)
	head = head[:n]
	if id := elfNote(head); id != "" {
		return id
	}
	return quotedID(head)
}

// elfNote finds the note of type 4 that belongs to "Go": on ELF systems the id is
// its description. Sizes are little- or big-endian as the machine is.
func elfNote(head []byte) string {
	owner := []byte("Go\x00\x00")
	for at := 0; ; {
		i := bytes.Index(head[at:], owner)
		if i < 0 {
			return ""
		}
		at += i
		if at >= 12 {
			for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
				note := head[at-12:]
				size := order.Uint32(note[4:])
				if order.Uint32(note) == 4 && order.Uint32(note[8:]) == 4 && size > 0 && size <= 256 && int(size) <= len(note)-16 {
					return string(note[16 : 16+size])
				}
			}
		}
		at += len(owner)
	}
}

// quotedID finds the form of other systems: a quoted string at the start of the text.
func quotedID(head []byte) string {
	const mark = "\xff Go build ID: "
	i := bytes.Index(head, []byte(mark))
	if i < 0 {
		return ""
	}
	rest := head[i+len(mark):]
	if j := bytes.Index(rest, []byte("\n \xff")); j >= 0 {
		if id, err := strconv.Unquote(string(rest[:j])); err == nil {
			return id
		}
	}
	return ""
}
