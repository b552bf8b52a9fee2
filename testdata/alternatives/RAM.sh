#!/bin/sh
# Output that waits for its turn waits on disk: memory does not grow with it.
. "$(dirname "$0")/common.sh"
calls=20
size=$(scaled 10000000 1000000000) # bytes of each
line=$(letters c 30000)

cat >mycommand <<END
#!/bin/sh
yes $line | head -c $size
END
chmod +x mycommand

mkfifo out
wc -c <out >count &
counter=$!
seq "$calls" | exec "$gpool" map -j "$calls" -- ./mycommand >out &
tool=$!
most=$(peak "$tool")
wait "$tool" || fail "it ends with $?"
wait "$counter"
count=$(cat count)
[ "$count" -eq $((calls * size)) ] || fail "it printed $count of $((calls * size)) bytes"
memory_within "$most" "$((count / 1000000)) MB of output"
