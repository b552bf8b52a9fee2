package main

import (
	"encoding/json"

	"gpool/internal/input"
	"gpool/internal/pool"
)

// work is what the calls of a run do. There are two kinds: commands (command.go), which
// the worker that gpool brings along runs, and tasks of a program of the user's
// (task.go). The rest of a run does not know which.
type work interface {
	// configure sets how workers are started, and what they must be.
	configure(*pool.Config) error
	// job is the task that the calls run, and what all of them share.
	job() (task string, common []byte)
	// payload appends what the call of a row is given.
	payload(dst []byte, row *input.Row) ([]byte, error)
	// text is what the call of a row would run, for --dry-run.
	text(row *input.Row, seq uint64) (string, error)
	// outcome reads how a call ended. It is valid until the next one is read.
	outcome(*pool.Result) outcome
	// args are the columns of a row as they are written in JSON; nil if as text.
	args(*input.Row) []json.RawMessage
	// explain words a failure of the pool.
	explain(error) error
}

// outcome is what a result means. Only one of command and value is set, if any.
type outcome struct {
	kind    pool.Kind
	err     error       // why the call has no result; nil if it has one
	note    string      // something else that its reader should know
	command *commandEnd // of commands
	value   []byte      // what a task has returned: one msgpack value
}

// commandEnd is how a command ended, as JSON has it: null if none has ended.
type commandEnd struct {
	Exit   *int `json:"exit"`
	Signal *int `json:"signal"`
}
