# What the scripts beside this one share; they source it. Each puts gpool to one of the tests that
# the manual parallel_alternatives names, under the name that it has there, and says on stderr
# what is wrong. Exit status: 0 all is well, 1 it is not, 77 it cannot be tested here.
#
#   GPOOL   what is tested (default: gpool of the PATH)
#   SCALE   small, or full: the sizes of the manual, which take minutes and 20 GB of disk
#   VERBOSE if it is not empty, numbers are told as well
#   MAXMEM  how much memory gpool may take, in MiB (default: 128)
set -eu
gpool=${GPOOL:-gpool}
name=$(basename "$0" .sh)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work"

fail() {
	printf '%s: %s\n' "$name" "$*" >&2
	exit 1
}

skip() {
	printf '%s: skipped: %s\n' "$name" "$*" >&2
	exit 77
}

# scaled SMALL FULL prints the one of the two that SCALE asks for.
scaled() {
	case ${SCALE:-small} in
	small) echo "$1" ;;
	full) echo "$2" ;;
	*) fail "SCALE is $SCALE, and can be small or full" ;;
	esac
}

# memory_within MIB WHAT fails if gpool has taken more memory than it may for this.
memory_within() {
	limit=${MAXMEM:-128}
	[ "$1" -le "$limit" ] || fail "it took $1 MiB of memory for $2, and $limit are allowed"
	[ -z "${VERBOSE-}" ] || echo "$name: $1 MiB of memory for $2" >&2
}

# letters CHARACTER COUNT prints one character so often.
letters() {
	head -c "$2" /dev/zero | tr '\0' "$1"
}

# expect WHAT WANT GOT compares two files byte by byte.
expect() {
	cmp "$2" "$3" >&2 || fail "$1 is not what it should be"
}

# peak PID waits for a process to end, and prints the most memory that it has had, in MiB. Only
# Linux can tell; elsewhere it prints 0. The kernel keeps the maximum, so only what a process
# takes in its last moment is missed.
peak() {
	kib=0
	while now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status" 2>/dev/null) && [ -n "$now" ]; do
		kib=$now
		sleep 0.02
	done
	echo $((kib / 1024))
}

# until_true SECONDS COMMAND... waits until a command succeeds, for so long at most.
until_true() {
	tries=$(($1 * 50))
	shift
	until "$@"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.02
	done
}
