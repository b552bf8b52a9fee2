package value

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"time"
)

func TestFromJSONRefuses(t *testing.T) {
	for text, wanted := range map[string]string{
		``:                          "byte 0: the end was found where a value",
		` `:                         "byte 1: the end",
		`1 2`:                       "byte 2: '2' follows the value",
		`[1,]`:                      "byte 3: ']' was found where a value",
		`[1 2]`:                     "byte 3: '2' was found where a comma or ']'",
		`[`:                         "byte 1: the end",
		`{"a" 1}`:                   "byte 5: '1' was found where a colon",
		`{a:1}`:                     "byte 1: 'a' was found where a key in double quotes",
		`{"a":1,}`:                  "byte 7: '}' was found where a key",
		`tru`:                       "byte 3: the end was found where true",
		`nul1`:                      "byte 3: '1' was found where null",
		`01`:                        "byte 1: '1' follows",
		`-`:                         "byte 1: the end was found where a digit",
		`1.`:                        "byte 2",
		`1e+`:                       "byte 3",
		`+1`:                        "byte 0",
		`NaN`:                       "byte 0",
		` 18446744073709551616`:     "byte 1: the whole number 18446744073709551616 does not fit 64 bits",
		`-9223372036854775809`:      "does not fit 64 bits",
		`1e400`:                     "byte 0: the number 1e400 does not fit a float64",
		"\"a\xff\"":                 "byte 2: byte 0xff is not UTF-8",
		"\"a\nb\"":                  "byte 2: the control byte 0x0a",
		"\"a\x00b\"":                "byte 2: the control byte 0x00",
		"1\x00":                     "byte 1",
		`"abc`:                      "byte 4: the end was found within a string",
		`"\x"`:                      "byte 2: 'x' was found where an escape",
		`"\u12g4"`:                  "byte 5: 'g' was found where",
		`"\ud800"`:                  "byte 1: half a surrogate pair",
		`"\ud800\u0041"`:            "byte 1: half a surrogate pair",
		`"\udc00"`:                  "half a surrogate pair",
		strings.Repeat("[", 61):     "byte 60: values nest deeper than 60 levels",
		strings.Repeat("[", 1e6):    "byte 60",
		`{"a":{"b":[1,2,"` + "\xc3": "byte 16: byte 0xc3 is not UTF-8",
	} {
		_, err := FromJSON([]byte(text))
		if err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%.40q: error %v, want one with %q", text, err, wanted)
		}
	}
}

func TestFromJSON(t *testing.T) {
	for text, want := range map[string]string{
		`null`:                    "c0",
		` true `:                  "c3",
		`false`:                   "c2",
		`0`:                       "00",
		`-0`:                      "cb8000000000000000",
		`1.0`:                     "cb3ff0000000000000",
		`1e0`:                     "cb3ff0000000000000",
		`-33`:                     "d0df",
		`18446744073709551615`:    "cfffffffffffffffff",
		`-9223372036854775808`:    "d38000000000000000",
		`"é\u00e9\ud83d\ude00\n"`: "a9c3a9c3a9f09f98800a",
		`"\"\\\/\b\f\r\t\u0000"`:  "a8225c2f080c0d0900",
		`[]`:                      "90",
		`{}`:                      "80",
		` [ 1 , "a" ] `:           "9201a161",
		`{"b":1,"a":{"x":[]}}`:    "82a16201a16181a17890",
	} {
		got, err := FromJSON([]byte(text))
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, %v, want %s", text, got, err, want)
		}
	}
}

func TestFromJSONLong(t *testing.T) {
	for _, n := range []int{15, 16, 65535, 65536} {
		list := "[" + strings.TrimSuffix(strings.Repeat("[7],", n), ",") + "]"
		pairs := "{" + strings.TrimSuffix(strings.Repeat(`"k":[7],`, n), ",") + "}"
		for _, text := range []string{list, pairs} {
			b, err := FromJSON([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if back, err := AppendJSON(nil, b); err != nil || string(back) != text {
				t.Errorf("%d: %.60s, %v", n, back, err)
			}
		}
	}
}

func TestAppendJSON(t *testing.T) {
	for _, refused := range []string{"0102", "c1", "91", hex.EncodeToString(nested(61))} {
		b, _ := hex.DecodeString(refused)
		if out, err := AppendJSON([]byte("kept"), b); err == nil || string(out) != "kept" {
			t.Errorf("%s: %s, %v", refused, out, err)
		}
		if out, err := AppendText([]byte("kept"), b); err == nil || string(out) != "kept" {
			t.Errorf("%s: %s, %v", refused, out, err)
		}
	}
	for _, c := range []struct{ wire, json, text string }{
		{"", "null", ""},
		{"c0", "null", ""},
		{"c3", "true", "true"},
		{"df" + "00000000", "{}", "{}"},
		{"ff", "-1", "-1"},
		{"cfffffffffffffffff", "18446744073709551615", "18446744073709551615"},
		{"cb3ff0000000000000", "1.0", "1.0"},
		{"cb8000000000000000", "-0.0", "-0.0"},
		{"cb4415af1d78b58c40", "1e+20", ""},
		{"ca3dcccccd", "0.1", "0.1"},
		{"cb7ff8000000000001", `"NaN"`, "NaN"},
		{"cb7ff0000000000000", `"Infinity"`, "Infinity"},
		{"cafF800000", `"-Infinity"`, "-Infinity"},
		{"a53c263e22" + "0a", `"<&>\"\n"`, "<&>\"\n"},
		{"a3c3a9ff", `"é` + "\uFFFD" + `"`, "é\xff"},
		{"a101", `"\u0001"`, "\x01"},
		{"c403000102", `"AAEC"`, "\x00\x01\x02"},
		{"c400", `""`, ""},
		{"9201a161", `[1,"a"]`, `[1,"a"]`},
		{"8201c0c3c0", `{"1":null,"true":null}`, `{"1":null,"true":null}`},
		{"8191a161c0", `{"[\"a\"]":null}`, `{"[\"a\"]":null}`},
		{"81c40100c0", `{"AA==":null}`, `{"AA==":null}`},
		{"81cb7ff8000000000001c0", `{"NaN":null}`, `{"NaN":null}`},
		{"d6ff00000001", `"1970-01-01T00:00:01Z"`, "1970-01-01T00:00:01Z"},
		{"d7ff0000001400000001", `"1970-01-01T00:00:01.000000005Z"`, "1970-01-01T00:00:01.000000005Z"},
		{"d40500", `{"ext":5,"data":"AA=="}`, `{"ext":5,"data":"AA=="}`},
		{"d4ff00", `{"ext":-1,"data":"AA=="}`, `{"ext":-1,"data":"AA=="}`},
	} {
		b, err := hex.DecodeString(c.wire)
		if err != nil {
			t.Fatal(err)
		}
		if c.json == "1e+20" {
			c.json, c.text = "100000000000000000000.0", "100000000000000000000.0"
		}
		if out, err := AppendJSON([]byte("x"), b); err != nil || string(out) != "x"+c.json {
			t.Errorf("%s: JSON %s, %v, want %s", c.wire, out, err, c.json)
		}
		if out, err := AppendText([]byte("x"), b); err != nil || string(out) != "x"+c.text {
			t.Errorf("%s: text %q, %v, want %q", c.wire, out, err, c.text)
		}
	}
}

func TestFloatsSurviveJSON(t *testing.T) {
	for _, f := range []float64{0, 1, 0.1, 1e21, 1e20, 1e-6, 1e-7, 123456789.125, math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 53, -5} {
		wire, _ := Append(nil, &f)
		text, err := AppendJSON(nil, wire)
		if err != nil {
			t.Fatal(err)
		}
		back, err := FromJSON(text)
		if err != nil || string(back) != string(wire) {
			t.Errorf("%v became %s, %x, %v", f, text, back, err)
		}
	}
}

func TestOddTimes(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(math.MaxInt64, 0), time.Unix(math.MinInt64, 0)} {
		wire, _ := Append(nil, &at)
		if out, err := AppendJSON(nil, wire); err != nil || len(out) < 2 {
			t.Errorf("%s, %v", out, err)
		}
	}
}
