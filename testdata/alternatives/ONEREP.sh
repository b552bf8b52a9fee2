#!/bin/sh
# An item can stand in as many places as one likes.
. "$(dirname "$0")/common.sh"
echo 'bar bar.c foo bar.c abar.cb bar.c:bar.c' >want
echo bar.c | "$gpool" map -- echo {.} {} foo {} a{}b {}:{} >got || fail "as words: it ends with $?"
expect "what echo prints, given words," want got
echo bar.c | "$gpool" map -c 'echo {.} {} foo {} a{}b {}:{}' >got || fail "in a command line: it ends with $?"
expect "what echo prints, in a command line," want got
