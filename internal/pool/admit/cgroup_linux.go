package admit

import (
	"path"
	"slices"
	"strings"
)

// level is one cgroup on the way from ours to the top. Limits hold at each of them.
type level struct {
	dir     string // without a leading slash
	unified bool   // of the second version
}

// levels lists our cgroup and those above it that the file system shows, for a controller like
// memory or pids, in whichever of the two versions it is there; in the one where it is not,
// the files are missing, and nothing is found.
func (k kernel) levels(controller string) (all []level) {
	mounts := k.read("proc/self/mountinfo")
	for line := range strings.Lines(k.read("proc/self/cgroup")) {
		_, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		unified := controllers == ""
		if !ok || !unified && !slices.Contains(strings.Split(controllers, ","), controller) {
			continue
		}
		for line := range strings.Lines(mounts) {
			if !strings.Contains(line, " - cgroup") {
				continue // the others may be hundreds, and gpool asks whenever it starts
			}
			if m, ok := parseMount(line); ok && m.holds(controller, unified) {
				all = append(all, m.levels(group, unified)...)
				break
			}
		}
	}
	return all
}

// mount is one line of mountinfo.
type mount struct {
	root, point, kind string
	options           []string
}

// parseMount reads: id, parent, device, root, point, options, optional words, "-", kind, source,
// options of the file system.
func parseMount(line string) (m mount, ok bool) {
	before, after, ok := strings.Cut(strings.TrimRight(line, "\n"), " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !ok || len(left) < 5 || len(right) < 3 {
		return m, false
	}
	return mount{unescaped(left[3]), unescaped(left[4]), right[0], strings.Split(right[2], ",")}, true
}

// unescaped undoes how mountinfo writes the bytes that would end a word.
func unescaped(word string) string {
	if !strings.Contains(word, `\`) {
		return word
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(word)
}

func (m mount) holds(controller string, unified bool) bool {
	if unified {
		return m.kind == "cgroup2"
	}
	return m.kind == "cgroup" && slices.Contains(m.options, controller)
}

// levels walks from the group up to the mount. In a container the mount may begin further down
// than the group's name does, or the name may lie outside of it: then the mount itself is all
// that can be seen.
func (m mount) levels(group string, unified bool) (all []level) {
	below, inside := strings.CutPrefix(path.Clean(group), strings.TrimSuffix(m.root, "/"))
	if !inside || below != "" && below[0] != '/' {
		below = ""
	}
	point := strings.Trim(m.point, "/")
	for dir := path.Clean("/" + below); len(all) < 64; dir = path.Dir(dir) {
		all = append(all, level{strings.TrimSuffix(point+dir, "/"), unified})
		if dir == "/" {
			break
		}
	}
	return all
}
