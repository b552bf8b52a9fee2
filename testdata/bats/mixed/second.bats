# Names and output that need quoting somewhere on their way.

setup() {
	printf 'setup of %s\n' "$BATS_TEST_DESCRIPTION"
}

teardown() {
	printf 'teardown of %s\n' "$BATS_TEST_DESCRIPTION"
}

@test "it's a name with \"quotes\"" {
	true
}

@test 'a \$dollar and a \`backquote\`' {
	true
}

@test "two  blanks, and a * that is no pattern" {
	true
}

@test "grüße, 你好, 🙂" {
	true
}

@test "braces {} {1} {#} {%} {/.} stay as they are" {
	true
}

@test "fails, and shows what setup and teardown say" {
	printf '%s\n' 'it'\''s {} "$HOME" \n' 'grüße  *' "	a TAB" >&2
	[ 1 -eq 2 ]
}

@test "fails at the end of a line that is long" {
	head -c 20000 /dev/zero | tr '\0' x
	echo
	false
}
