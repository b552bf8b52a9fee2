#!/bin/sh
# Twelve calls in six workers, of which two at most use the server at once: the server is a
# semaphore with two units. Prints how many there were at most.
#
#   sh examples/shared/ratelimit.sh

set -eu
if test "${1-}" = request; then
	# Here something would be fetched. What is counted shows that the limit is kept.
	at_once=$(gpool dict incr server now)
	sleep 0.05
	gpool dict incr server now -- -1 >/dev/null
	echo "$at_once"
	exit
fi

# A unit comes back when its command ends, however it ends. For as many a second, and not
# as many at once, a run needs no semaphore: gpool map --rate 5/s.
seq 12 | gpool map -j6 -- gpool sem server -n 2 -- sh "$0" request {} |
	awk '$1 > most { most = $1 } END { print NR, "requests, at most", most, "at once" }'
