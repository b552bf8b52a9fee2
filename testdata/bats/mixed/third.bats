# Failures that are not those of a test's own lines.

setup() {
	[ "$BATS_TEST_NUMBER" != 2 ]
}

teardown() {
	[ "$BATS_TEST_NUMBER" != 3 ]
}

@test "passes before the others fail" {
	true
}

@test "fails in setup" {
	true
}

@test "fails in teardown" {
	true
}

@test "fails in a function" {
	broken() { cat /there/is/no/such/file; }
	broken
}

@test "fails by a command that is not there" {
	no-such-command
}

@test "is ended by a signal" {
	run sh -c 'kill -TERM $$'
	[ "$status" -eq 143 ]
}

@test "reads an empty stdin" {
	run cat
	[ "$output" = "" ]
}

@test "prints many lines" {
	seq 500
	false
}
