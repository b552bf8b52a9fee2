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

mkfifo want
for i in $(seq "$calls"); do ./mycommand; done >want &
seq "$calls" | "$gpool" map -j "$calls" -- ./mycommand >got || fail "it ends with $?"
expect "stdout" want got
