// Package admit decides when a call may begin, beside the room that workers have: a least
// time between two calls, a rate, the load and the free memory of the machine, and the tokens
// of a make that has started us. Parent only, but for Keeper, which is a process of its own.
//
// The decisions are pure: pace, loadLimit, memoryLimit, stretch, books and holder know no clock,
// file or process. Admission puts them together and owns what touches the world: one goroutine
// that samples the machine, and a keeper.
//
// # Why a keeper
//
// A make with -j lends out tokens, bytes in a pipe: who takes one may run one more job, and has to
// write that very byte back. If a client dies with tokens in its hand, its make is short of
// them for as long as it lives, and complains at its end. No handler runs after SIGKILL, so
// the tokens are never in our hand: a small process in a session of its own holds them, and
// writes them back as soon as the pipe from us ends, which the kernel sees to however we end.
package admit
