@test "stderr of a test that passes is not shown" {
	echo "not to be seen" >&2
}

@test "a name with {} and 'quotes' passes" {
	true
}

@test "grüße passes" {
	[ "$BATS_TEST_DESCRIPTION" = "grüße passes" ]
}
