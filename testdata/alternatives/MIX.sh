#!/bin/sh
# The output of two calls never mixes: thirty at once print large pieces on both streams in turns.
. "$(dirname "$0")/common.sh"
size=$(scaled 100000 3000000)
calls=30

cat >mycommand <<'END'
#!/bin/sh
piece() { head -c "$1" /dev/zero | tr '\0' "$2"; printf ' %s ' "$3"; }
for pair in ab cd ef; do
	piece "$1" "${pair%?}" "$2"
	piece "$1" "${pair#?}" "$2" >&2
done
echo
echo >&2
END
chmod +x mycommand

seq "$calls" | "$gpool" map -j "$calls" -- ./mycommand "$size" >got.out 2>got.err || fail "it ends with $?"
for i in $(seq "$calls"); do
	./mycommand "$size" "$i" 2>>want.err
done >want.out
expect stdout want.out got.out
expect stderr want.err got.err
