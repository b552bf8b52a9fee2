#!/bin/sh
# File names hold anything: they arrive as they are, in words and in shell command lines.
. "$(dirname "$0")/common.sh"
mkdir names
cd names
n='
'
made=0
for file in "Anna's 7\" *** single  (only \$\$\$).ogg" ' blanks at both ends ' '-n' '--version' '$(touch evil)' \
	'`touch evil`' 'back\slash\' '{}' '{#} {.} {1}' '~' '#no comment' 'a;touch evil' 'ümläut 你好' "$(printf 'not \351 UTF-8')" \
	"two${n}lines" "'" '"' '!x' '%s' ':::' 'a	TAB'; do
	# Some systems take no name that is not UTF-8.
	printf 'this is <%s>\n' "$file" >"./$file" && made=$((made + 1))
done
# Not by a pattern of the shell alone: the tool must be given all of them, in one order.
find . -type f -print0 | LC_ALL=C sort -z >../list
xargs -0 cat <../list >../want
[ "$(wc -l <../want)" -eq $((made + 1)) ] && [ "$made" -ge 20 ] || fail "the files are not what they should be"

"$gpool" map -0 -j 4 -- cat <../list >../got || fail "as words: it ends with $?"
expect "what cat prints, given words," ../want ../got
"$gpool" map -0 -j 4 -c 'cat {} && test -e "{}" && test -e '"'{}'" <../list >../got || fail "in command lines: it ends with $?"
expect "what cat prints, in command lines," ../want ../got
# Lines are names, too, but for the one that is two.
find . -type f ! -name "*$n*" | LC_ALL=C sort >../lines
tr '\n' '\0' <../lines | xargs -0 ls -d >../want
"$gpool" map -j 4 -- ls -d <../lines >../got || fail "by lines: it ends with $?"
LC_ALL=C sort ../want >../want.sorted
LC_ALL=C sort ../got >../got.sorted
expect "what ls prints" ../want.sorted ../got.sorted
[ ! -e evil ] || fail "a file name was run as a command"
