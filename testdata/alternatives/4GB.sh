#!/bin/sh
# A line may have more bytes than 32 bits can count, and comes out as it was.
. "$(dirname "$0")/common.sh"
size=$(scaled 50000000 5000000000)
available=$(sed -n 's/^MemAvailable:[^0-9]*\([0-9]*\).*/\1/p' /proc/meminfo 2>/dev/null || :)
[ "${available:-1000000}" -ge 500000 ] || skip "only $((available / 1024)) MiB of memory are available"

mkfifo out
{ letters a "$size"; echo; } | cmp - out >&2 &
compared=$!
echo 1 | exec "$gpool" map -c ": {}; head -c $size /dev/zero | tr '\\0' a; echo" >out &
tool=$!
most=$(peak "$tool")
wait "$tool" || fail "it ends with $?"
wait "$compared" || fail "the line is not what it should be"
memory_within "$most" "a line of $((size / 1000000)) MB"
