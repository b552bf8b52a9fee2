// Package input turns arguments, files and standard input into rows, the items that calls run on. Only the parent uses
// it. It reads no further ahead than one buffer, so that an endless input takes constant memory, and it hands out a line
// as soon as it has arrived.
//
// There are three ways in: Open for files and standard input, SplitArgs and Product for what follows ::: and its
// relatives on the command line, and FromRows for rows that are there already.
package input
