package input

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"gpool/internal/command"
)

// jsonReader makes each record a row by parsing it as a JSON array or object, or of its text alone. A broken record is a
// bad row, for the next one starts at the next newline whatever it held.
type jsonReader struct {
	records *records
	format  Format
}

func (j *jsonReader) read(max int, wait bool) ([]Row, error) {
	for {
		batch, number, err := j.records.next(max, wait)
		if err != nil || len(batch) == 0 {
			return nil, err
		}
		rows := make([]Row, 0, len(batch))
		for i, record := range batch {
			switch {
			case strings.Trim(record, jsonSpace) == "":
			case j.format.Rows == JSONText:
				rows = append(rows, j.records.row(batch[i:i+1:i+1], number+int64(i)))
			default:
				rows = append(rows, j.row(record, number+int64(i)))
			}
		}
		if len(rows) > 0 {
			return rows, nil
		}
	}
}

func (j *jsonReader) row(record string, number int64) Row {
	parsed, err := parseJSON(record)
	row := Row{Row: parsed, Line: number, File: j.records.file.name}
	if err != nil {
		row.Err = fmt.Errorf("%s of %s is not a JSON array or object: %w", place(j.format, number), row.File, err)
	}
	return row
}

const jsonSpace = " \t\r\n"

// parseJSON returns the columns of one array or object.
func parseJSON(text string) (command.Row, error) {
	if !utf8.ValidString(text) {
		return command.Row{}, errors.New("it holds bytes that are not UTF-8")
	}
	text = strings.Trim(text, jsonSpace)
	if !json.Valid([]byte(text)) {
		return command.Row{}, jsonError(text)
	}
	c := cutter{text: text, pos: 1}
	switch text[0] {
	case '[':
		return c.array()
	case '{':
		return c.object()
	}
	return command.Row{}, fmt.Errorf("it is the single value %.40s: put it in brackets", text)
}

// jsonError asks for the reason only after the fact, because checking is all that good lines need.
func jsonError(text string) error {
	var raw json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return err
	}
	return errors.New("it is not JSON")
}

// cutter walks over text that is known to be valid JSON, and so needs no checks of its own.
type cutter struct {
	text string
	pos  int // the next byte; before a value or a closing bracket
}

func (c *cutter) array() (command.Row, error) {
	row := command.Row{Columns: []string{}}
	for c.more(']') {
		value, err := textOf(c.value())
		if err != nil {
			return command.Row{}, err
		}
		row.Columns = append(row.Columns, value)
	}
	return row, nil
}

func (c *cutter) object() (command.Row, error) {
	row := command.Row{Columns: []string{}, Names: []string{}}
	for c.more('}') {
		name, err := textOf(c.value())
		if err != nil {
			return command.Row{}, err
		}
		c.skip(jsonSpace + ":")
		value, err := textOf(c.value())
		if err != nil {
			return command.Row{}, err
		}
		row.Names = append(row.Names, name)
		row.Columns = append(row.Columns, value)
	}
	return row, nil
}

// more moves to the next value and reports whether there is one before the closing bracket.
func (c *cutter) more(end byte) bool {
	c.skip(jsonSpace + ",")
	return c.text[c.pos] != end
}

func (c *cutter) skip(set string) {
	for strings.IndexByte(set, c.text[c.pos]) >= 0 {
		c.pos++
	}
}

// value returns the text of the value at pos and moves behind it.
func (c *cutter) value() string {
	start, depth := c.pos, 0
	for {
		switch c.text[c.pos] {
		case '"':
			c.pos += stringLength(c.text[c.pos:])
		case '[', '{':
			depth++
			c.pos++
		case ']', '}':
			depth--
			c.pos++
		default:
			c.pos++
		}
		if depth == 0 && (c.text[c.pos-1] == '"' || strings.IndexByte(",:]}"+jsonSpace, c.text[c.pos]) >= 0) {
			return c.text[start:c.pos]
		}
	}
}

// stringLength is the length of the JSON string that s starts with, quotes included.
func stringLength(s string) int {
	for i := 1; ; i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// textOf gives the column that a JSON value becomes: strings their text, numbers as they were written, null nothing,
// and arrays and objects their JSON without blanks.
func textOf(value string) (string, error) {
	switch value[0] {
	case '"':
		return unquote(value)
	case 'n':
		return "", nil
	case '[', '{':
		var compact bytes.Buffer
		err := json.Compact(&compact, []byte(value))
		return compact.String(), err
	}
	return value, nil
}

func unquote(value string) (string, error) {
	if strings.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], nil
	}
	var text string
	err := json.Unmarshal([]byte(value), &text)
	return text, err
}
