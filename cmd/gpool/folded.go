package main

import (
	"gpool/internal/pool"
	"gpool/internal/pool/report"
)

// folded prints for the log of a CI system. What calls print to stderr goes to stdout
// with the rest, or it would stand outside of its fold. Output comes when the end of its
// call is known (pool.Job.Hold).
type folded struct {
	ci    *report.CI
	begun uint64 // the call whose output is being printed, 0 if none is
}

func (f *folded) begin(rec *report.Record) error {
	if f.begun == rec.Seq {
		return nil
	}
	f.begun = rec.Seq
	return f.ci.Begin(rec)
}

func (f *folded) output(o *pool.Output, rec *report.Record) error {
	if err := f.begin(rec); err != nil {
		return err
	}
	_, err := f.ci.Write(o.Data)
	return err
}

func (f *folded) result(r *pool.Result, o *outcome, rec *report.Record) error {
	if err := f.begin(rec); err != nil {
		return err
	}
	f.begun = 0
	if err := writeText(f.ci, o); err != nil {
		return err
	}
	return f.ci.End()
}
