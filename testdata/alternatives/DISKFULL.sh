#!/bin/sh
# When there is no room for output that waits for its turn, the run fails and says why; it is never
# incomplete in silence. Also when there is room again a moment later.
. "$(dirname "$0")/common.sh"

# A disk of 12 MB in a name space of its own, which is gone with this script; where that is not
# allowed, a limit of 4 MB for each file.
if [ -z "${DISKFULL_INSIDE-}" ]; then
	for flags in -m -rm; do
		if unshare "$flags" mount -t tmpfs none "$work" 2>/dev/null; then
			DISKFULL_INSIDE=1 unshare "$flags" sh "$here/$name.sh"
			exit
		fi
	done
	disk=
else
	mkdir disk
	mount -t tmpfs -o size=12m none disk
	disk=$work/disk
	trap 'umount "$disk"; rm -rf "$work"' EXIT
fi

# The first call holds the turn until all others have ended, or for so long that they cannot go
# on; they print more than there is memory and disk for.
cat >mycommand <<'END'
#!/bin/sh
if [ "$1" = 1 ]; then
	tries=100
	while [ "$(ls ended.* 2>/dev/null | wc -l)" -lt 4 ] && [ "$tries" -gt 0 ]; do
		tries=$((tries - 1))
		sleep 0.05
	done
	echo this is the beginning
	exit
fi
[ -z "$2" ] || head -c 100000000 /dev/zero >"$2/filled.$1" 2>/dev/null
head -c 10000000 /dev/zero | tr '\0' X
[ -z "$2" ] || rm "$2/filled.$1"
echo this part must not be missing
: >"ended.$1"
END
chmod +x mycommand
mkfifo out

# limited COMMAND... runs it with little room for temporary files.
limited() {
	if [ -n "$disk" ]; then
		TMPDIR=$disk "$@"
	else
		(
			ulimit -f 8192 # of 512 bytes, or of 1024 in some shells
			exec "$@"
		)
	fi
}

# check WHEN FILL: all that was printed comes out, or exit status and stderr say that it does not.
check() {
	rm -f ended.*
	cat out >got &
	reader=$!
	status=0
	seq 5 | limited "$gpool" map -j 5 -- ./mycommand {} "$2" >out 2>err || status=$?
	wait "$reader"
	if [ "$status" -ne 0 ]; then
		grep -qi 'space\|too large' err || fail "$1: it ends with $status, and stderr does not say why: $(head -c 1000 err)"
		[ -z "${VERBOSE-}" ] || head -n 2 err >&2
		return
	fi
	bytes=$(wc -c <got)
	missing=$((4 - $(tr -d X <got | grep -c 'must not be missing' || :)))
	[ "$missing" -eq 0 ] && [ "$bytes" -gt 40000000 ] ||
		fail "$1: it ends with 0, and printed $bytes bytes; $missing of 4 last lines are missing"
}
check "the disk stays full" ""
[ -z "$disk" ] || check "the disk is full for a while" "$disk"
