#!/bin/sh
# The two streams of a call stay apart.
. "$(dirname "$0")/common.sh"

cat >mycommand <<'END'
#!/bin/sh
for i in 1 2; do
	echo "result $i"
	echo "message $i" >&2
done
END
chmod +x mycommand

echo | "$gpool" map -- ./mycommand >got.out 2>got.err || fail "it ends with $?"
printf 'result %s\n' 1 2 >want.out
printf 'message %s\n' 1 2 >want.err
expect stdout want.out got.out
expect stderr want.err got.err
