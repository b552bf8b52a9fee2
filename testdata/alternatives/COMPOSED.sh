#!/bin/sh
# Commands that are made of commands work without a shell of one's own around them.
. "$(dirname "$0")/common.sh"

# composed WANT LINE: the line prints that, when its item is bar.
composed() {
	printf "$1" >want
	echo bar | "$gpool" map -c "$2" >got || fail "$2: it ends with $?"
	expect "what is printed by $2" want got
}
composed 'foo\nbar\n' 'echo foo; echo {}'
composed 'foo bar\n' 'echo {} | sed "s/^/foo /"'
composed 'bar\n' 'false || echo {} && true'
composed 'bar\n' 'echo {} >file.{} && cat file.{}'
composed 'bar 0\nbar 1\n' 'for i in 0 1; do echo {} $i; done'
composed 'f bar\n' 'f() { echo f "$1"; }; (f {})'

# So do lines that are whole commands.
printf 'foo\nbar\n' >want
printf '%s\n' 'echo foo; exit 0' 'echo bar | cat' | "$gpool" map >got || fail "whole lines: it ends with $?"
expect "what whole lines print" want got
