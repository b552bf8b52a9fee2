#!/bin/sh
# Lines of many words are bytes like others.
. "$(dirname "$0")/common.sh"
size=$(scaled 300000 10000000)
calls=30
words=$(seq 1000 | tr '\n' ' ')

cat >mycommand <<END
#!/bin/sh
yes '$words' | head -c $size
END
chmod +x mycommand

seq "$calls" | "$gpool" map -j "$calls" -- ./mycommand >got || fail "it ends with $?"
for i in $(seq "$calls"); do ./mycommand; done | cmp - got >&2 || fail "stdout is not what it should be"
