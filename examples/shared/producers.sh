#!/bin/sh
# Two producers and two consumers over a queue: four processes that know nothing but its name.
# Prints the sum of all numbers that went through it.
#
#   sh examples/shared/producers.sh

set -eu
case ${1-} in
'')
	# All of it is one run of gpool, so it has a hub of its own, which ends with it. -j says how
	# many run at once: those who wait for each other must all have a worker. If one of them
	# fails, --halt ends the others, which might wait for it.
	printf '%s\n' 'produce 1 500' 'produce 501 1000' consume consume |
		gpool starmap -j4 --halt now,fail=1 --colsep ' ' -- sh "$0" |
		awk '{ sum += $1 } END { print "the sum is", sum }'
	;;
produce)
	# put waits while 10 numbers are in the queue. The last producer closes it: incr adds and
	# reads in one step, so exactly one is the last.
	seq "$2" "$3" | gpool queue put numbers --max 10
	if test "$(gpool dict incr ended producers)" = 2; then
		gpool queue close numbers
	fi
	;;
consume)
	# --all ends when the queue is closed and empty. Each number comes to one consumer only.
	gpool queue get numbers --max 10 --all | awk '{ sum += $1 } END { print sum + 0 }'
	;;
*)
	echo "producers.sh: what is \"$1\"? Without arguments it runs all" >&2
	exit 2
	;;
esac
