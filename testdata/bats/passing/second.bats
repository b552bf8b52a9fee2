setup() {
	echo "$BATS_TEST_NUMBER" >"$BATS_TEST_TMPDIR/number"
}

@test "setup has run" {
	[ "$(cat "$BATS_TEST_TMPDIR/number")" = 1 ]
}

@test "once for each test" {
	[ "$(cat "$BATS_TEST_TMPDIR/number")" = 2 ]
}
