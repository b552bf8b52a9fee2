#!/bin/sh
# Killed without a chance to clean up, it leaves no file behind, and no process either.
. "$(dirname "$0")/common.sh"
mkdir tmp

# The first call holds the turn, so that the output of the others lies on disk.
cat >mycommand <<'END'
#!/bin/sh
echo $$ >"pid.$1"
[ "$1" = 1 ] || head -c 10000000 /dev/zero
: >"up.$1"
exec sleep 1000
END
chmod +x mycommand

all_up() { [ "$(ls up.* 2>/dev/null | wc -l)" -eq 4 ]; }
all_gone() { for pid in $pids; do ! kill -0 "$pid" 2>/dev/null || return 1; done; }
on_disk() { ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q "$work/tmp/"; }

seq 4 | TMPDIR=$work/tmp exec "$gpool" map -j 4 -- ./mycommand >out &
tool=$!
until_true 20 all_up || fail "4 commands were to be started"
pids=$(cat pid.*)
if [ -d /proc/self/fd ] && ! on_disk; then
	kill -9 "$tool" $pids
	fail "nothing lies on disk, so there is nothing to clean up"
fi
kill -9 "$tool"
wait "$tool" 2>/dev/null || :
until_true 3 all_gone || {
	kill -9 $pids 2>/dev/null || :
	fail "commands run on after their tool has died"
}
left=$(ls -A tmp)
[ -z "$left" ] || fail "it left files behind: $left"
