# Tests that end in all the ways that there are, in a file that is done last.

setup_file() {
	export FROM_SETUP_FILE="for all tests of this file"
	echo "# a comment of setup_file" >&3
}

teardown_file() {
	echo "# a comment of teardown_file" >&3
}

@test "what setup_file exports is there" {
	[ "$FROM_SETUP_FILE" = "for all tests of this file" ]
}

@test "slower than all other files" {
	sleep 0.4
}

@test "fails with output on both streams" {
	echo "on stdout"
	echo "on stderr" >&2
	echo "on stdout again"
	false
}

@test "fails by exit code 3" {
	run sh -c 'exit 3'
	[ "$status" -eq 3 ]
	return 3
}

@test "is skipped without a reason" {
	skip
}

@test "is skipped # for a reason with a 'quote'" {
	skip "not today: it's \"late\""
}

@test "prints a comment of its own" {
	echo "# a comment, written by hand" >&3
}
