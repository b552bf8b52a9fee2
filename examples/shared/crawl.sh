#!/bin/sh
# Visits all pages of a small site, none twice, with three crawlers. The frontier is a queue to
# which crawlers add what they find; the crawl has ended when as many pages are done as were
# put. Prints the pages.
#
#   sh examples/shared/crawl.sh

set -eu

# links prints where a page leads to.
links() {
	case $1 in
	/) echo /news /people ;;
	/news) echo / /news/2024 /news/2025 ;;
	/news/*) echo /news /people/ada ;;
	/people) echo /people/ada /people/grace / ;;
	esac
}

# put puts a page into the frontier if nobody has: set-default prints who was first.
put() {
	test "$(gpool dict set-default found "$1" "$2")" = "$2" || return 0
	gpool queue put frontier "$1"
}

case ${1-} in
'')
	# The first worker waits for the end, the others crawl. If one fails, --halt ends the others.
	gpool map -j4 --halt now,fail=1 --unordered -- sh "$0" ::: wait crawl crawl crawl | sort
	;;
wait)
	put / start
	gpool queue join frontier
	gpool queue close frontier
	;;
crawl)
	# done comes last: what follows from a page must be in the queue before, or join would
	# find everything done. A crawler that dies in between leaves its page undone, and join
	# waits: say gpool queue join --timeout, or use the library, where the page comes back.
	while page=$(gpool queue get frontier); do
		for link in $(links "$page"); do
			put "$link" "$page"
		done
		echo "$page"
		gpool queue done frontier
	done
	;;
*)
	echo "crawl.sh: what is \"$1\"? Without arguments it crawls" >&2
	exit 2
	;;
esac
