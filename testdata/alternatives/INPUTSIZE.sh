#!/bin/sh
# The length of an input line is limited by what the system takes for a command, and by nothing else.
. "$(dirname "$0")/common.sh"
size=$(scaled 10000000 100000000)

# What reaches the command is short; the line is not.
{ printf 'foo.'; letters x "$size"; echo; echo bar.x; } | "$gpool" map -- echo {.} >got || fail "it ends with $?"
printf 'foo\nbar\n' >want
expect "what echo prints of long lines" want got

# The longest word that the system takes is 131071 bytes on Linux, and more elsewhere.
letters x 131000 >want
"$gpool" map -- printf %s <want >got || fail "a word of 131000 bytes: it ends with $?"
expect "what printf prints of a long word" want got

# A longer one costs its own call and not the others, and the message says why.
[ "$(uname)" = Linux ] || exit 0
status=0
{ echo first; letters x 200000; echo; echo last; } | "$gpool" map -- echo >got 2>err || status=$?
[ "$status" -eq 1 ] || fail "a word that is too long: it ends with $status"
printf 'first\nlast\n' >want
expect "what echo prints beside a word that is too long" want got
grep -qi 'too long' err || fail "a word that is too long: stderr says $(head -c 1000 err)"
