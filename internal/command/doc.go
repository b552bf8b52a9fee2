// Package command knows what one call of the built-in task exec runs: the template with its placeholders, and the
// quoting of what is put into them. It is pure: no I/O, no environment, no clock. The parent uses it to check a template
// before anything starts and for --dry-run; the worker uses it to render the words that it executes.
//
// Strings hold arbitrary bytes here: an item need not be UTF-8, and leaves as it came.
package command
