package ipc

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/frames/*.hex and the hex in docs/protocol.md anew")

const (
	goldenDir = "../../testdata/frames"
	protocol  = "../../docs/protocol.md"
)

// goldens are the annotated frames by name: the samples, and one message in parts.
func goldens(t *testing.T) map[string]string {
	files := map[string]string{}
	for _, s := range samples() {
		files[s.name] = annotate(t, s.frame(), s.elements)
	}
	// A limit of 70 bytes cuts a message of 77 in two.
	encode := func(e *Encoder) { e.Output(Output{ID: 1, Stream: Stdout, Data: bytes.Repeat([]byte("0123456\n"), 9)}) }
	var parts strings.Builder
	for _, f := range framesOf(t, Limits{Frame: 70, Message: 100}, 0, encode) {
		parts.WriteString(annotate(t, f, []string{"bytes left", "data"}))
	}
	files["part"] = parts.String()
	return files
}

func TestGoldenFrames(t *testing.T) {
	want := goldens(t)
	if *update {
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(goldenDir, name+".hex"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(goldenDir, "*.hex"))
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d golden files, %v; want %d (run this test with -update)", len(files), err, len(want))
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".hex")
		if text, err := os.ReadFile(path); err != nil || string(text) != want[name] {
			t.Errorf("%s: %v; it holds\n%s\nand the code writes\n%s", path, err, text, want[name])
		}
	}
	for _, s := range samples() {
		got, err := readAll(NewReader(bytes.NewReader(readHex(t, want[s.name])), Limits{}))
		wantMessages(t, got, err, s.want)
	}
}

// The document shows golden files: a block ```hex NAME is the file NAME.hex.
func TestTheProtocolShowsGoldenFrames(t *testing.T) {
	text, err := os.ReadFile(protocol)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```hex (\\S+)\n(.*?)```")
	want := goldens(t)
	if *update {
		text = block.ReplaceAllFunc(text, func(b []byte) []byte {
			name := string(block.FindSubmatch(b)[1])
			return []byte("```hex " + name + "\n" + want[name] + "```")
		})
		if err := os.WriteFile(protocol, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shown := map[string]bool{}
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		shown[m[1]] = true
		if m[2] != want[m[1]] {
			t.Errorf("the frame %q in %s is not the golden one (run this test with -update)", m[1], protocol)
		}
	}
	for _, s := range samples()[:7] {
		if !shown[s.name] {
			t.Errorf("the session in %s lacks the frame %q", protocol, s.name)
		}
	}
}

// readHex takes the bytes out of an annotated file.
func readHex(t *testing.T, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// annotate writes a frame as a golden file has it: a line for every value.
func annotate(t *testing.T, frame []byte, names []string) string {
	var b strings.Builder
	line := func(indent int, bytes []byte, note string) {
		fmt.Fprintf(&b, "%-32s # %s\n", strings.Repeat("  ", indent)+fmt.Sprintf("% x", bytes), note)
	}
	line(0, frame[:4], fmt.Sprintf("%d bytes follow", len(frame)-4))
	names = append([]string{"kind", "id"}, names...)
	body := frame[4:]
	var walk func(indent int, name string)
	walk = func(indent int, name string) {
		head, skip, children, err := header(body)
		if err != nil {
			t.Fatal(err)
		}
		value := body[:head+int(skip)]
		d := NewDecoder()
		d.Reset(value)
		note := ""
		switch c := value[0]; {
		case children > 0 || c == 0x90:
			note = fmt.Sprintf("an array of %d", children)
		case c >= 0xa0 && c <= 0xbf, c >= 0xd9 && c <= 0xdb:
			note = fmt.Sprintf("str %q", d.Bytes())
		case c >= 0xc4 && c <= 0xc6:
			note = fmt.Sprintf("bin, %d bytes", len(d.Bytes()))
		default:
			note = fmt.Sprint(d.Int())
		}
		if name == "kind" {
			note += " " + kindNames[Kind(value[0])]
		}
		if name != "" {
			note = name + ": " + note
		}
		// The content of strings follows their header, 8 bytes a line, with the text
		// where it is one and the values where it is msgpack of ours.
		rest := value[head:]
		if skip == 0 || value[0] >= 0xca && value[0] <= 0xd3 {
			line(indent, value, note)
			rest = nil
		} else {
			line(indent, value[:head], note)
		}
		outer := body[len(value):]
		if value[0] == 0xc4 && len(rest) > 1 && rest[0]&0xf0 == 0x90 && Precheck(rest) == nil {
			body = rest
			walk(indent+1, "")
			rest = nil
		}
		for ; len(rest) > 0; rest = rest[min(8, len(rest)):] {
			piece := rest[:min(8, len(rest))]
			line(indent+1, piece, fmt.Sprintf("%q", piece))
		}
		body = outer
		for i := range int(children) {
			child := ""
			if indent == 0 && i < len(names) {
				child = names[i]
			}
			walk(indent+1, child)
		}
	}
	walk(0, "")
	return b.String()
}

var kindNames = map[Kind]string{
	KindHello: "hello", KindInit: "init", KindRun: "run", KindResult: "result", KindOutput: "output",
	KindCancel: "cancel", KindCall: "call", KindReply: "reply", KindBye: "bye", KindPart: "part",
	KindCredit: "credit", KindRecall: "recall", KindReturned: "returned", KindSuspend: "suspend",
}
