// Package joblog writes and reads the log of finished calls, and decides what a resumed run need not
// run again. Parent only.
//
// A log has the nine columns of GNU parallel, byte for byte, so that scripts which read such logs read
// these, and each of the two programs can resume what the other began.
//
// # What is done
//
// Rows that gpool wrote count by content: a command that was done k times is done for the first k calls
// that have it. So lines of the input may be moved, added and removed between runs. Of equal calls, one that
// failed under its own Seq is run again, and not another one.
//
// Rows of other programs count by position, as these programs mean them: the call with the same Seq is
// done. If it is another command now, the caller is told, so that it can warn; words are compared, not
// their quoting.
//
// # Who wrote a row
//
// Nine columns leave no room for a name, and what is kept beside the file is lost in archives and caches.
// So gpool marks its rows in the one place where a digit is noise: the last digit of Starttime is a check
// digit of the others and of Seq. The price is a time that is up to 5 ms off. One in ten rows of another
// program passes by chance, so a row is gpool's only if at least 6 pass one after the other, or
// all of the file do.
//
// That errs, seldom, and then in one of these ways. A row of another program that stands beside gpool's, or is
// alone in its file, passes one time in ten: it counts by content, so its call is run again if its command
// was quoted otherwise. Fewer than 6 rows that gpool added to the log of another program count by position:
// when its input has changed as well, the caller is told that a command differs.
//
// # Bad days
//
// A row is one write to the end of the file. What a full disk leaves of it is cut off again. A last line
// without its newline was torn by a crash: it counts for nothing, and is cut off before more is written. Lines
// in the middle that are no rows count for nothing, and are counted.
//
// Other programs write behind a torn row, and glue their own to it. As a row of gpool's that has a wrong
// command, and both calls are run again. As one of theirs it may have the Seq of another call, which is
// then not run: their own resume errs there as well.
package joblog
