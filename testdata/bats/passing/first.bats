@test "true is true" {
	true
}

@test "what a command prints is in output" {
	run printf '%s\n' one two
	[ "$status" -eq 0 ]
	[ "${lines[1]}" = two ]
}

@test "a skipped test passes" {
	skip "for the count"
	false
}
