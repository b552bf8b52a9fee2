package session

import (
	"bytes"
	"os"
	"strconv"
	"sync"
)

// Memory returns the resident bytes of the worker leader and of everything it has started, 0 if
// that is not known. Pages that processes share count for each of them. Children are found by
// the kernel's own lists where it keeps them, at the cost of a few files for each process of the
// tree; these do not have what has lost its parent. Else the whole table of processes is searched
// for the session, 1 to 3 microseconds for each process of the machine (see BenchmarkMemory). So
// it is for looking now and then. Any goroutine may ask, also for a worker that is gone.
func Memory(leader int) int64 {
	if leader <= 0 {
		return 0
	}
	s := stats{pageSize: int64(os.Getpagesize())}
	if childLists() {
		return s.ofTree(leader)
	}
	return s.ofSession(leader)
}

// childLists reports whether /proc has lists of children: it is an option of the kernel.
var childLists = sync.OnceValue(func() bool {
	_, err := os.Stat("/proc/thread-self/children")
	return err == nil
})

// stats reads /proc with one buffer.
type stats struct {
	pageSize int64
	buf      [4096]byte
}

// most bounds how many processes are looked at: a fork bomb is not to be ours as well.
const most = 1 << 14

func (s *stats) ofTree(leader int) (total int64) {
	queue, seen := []int{leader}, map[int]bool{leader: true}
	for i := 0; i < len(queue) && len(queue) < most; i++ {
		_, resident, ok := s.read(queue[i])
		if !ok {
			continue
		}
		total += resident
		for _, child := range s.children(queue[i]) {
			if !seen[child] { // a pid may have been given away while we looked
				seen[child] = true
				queue = append(queue, child)
			}
		}
	}
	return total
}

// children lists those that any thread of a process has started.
func (s *stats) children(pid int) (all []int) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	tasks, _ := os.ReadDir(dir)
	for _, task := range tasks {
		list, _ := os.ReadFile(dir + "/" + task.Name() + "/children")
		for word := range bytes.FieldsSeq(list) {
			if child, err := strconv.Atoi(string(word)); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

func (s *stats) ofSession(leader int) (total int64) {
	for _, pid := range processes() {
		if session, resident, ok := s.read(pid); ok && session == leader {
			total += resident
		}
	}
	return total
}

// read returns the session and the resident bytes of a process. Its name may hold anything, so
// fields are counted behind the last bracket: state, parent, group, session, and so on.
func (s *stats) read(pid int) (session int, resident int64, ok bool) {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	defer file.Close()
	n, _ := file.Read(s.buf[:])
	return parseStat(s.buf[:n], s.pageSize)
}

func parseStat(line []byte, pageSize int64) (session int, resident int64, ok bool) {
	const atSession, atResident = 3, 21
	fields := bytes.Fields(line[bytes.LastIndexByte(line, ')')+1:])
	if len(fields) <= atResident {
		return 0, 0, false
	}
	session, err := strconv.Atoi(string(fields[atSession]))
	if err != nil {
		return 0, 0, false
	}
	pages, err := strconv.ParseInt(string(fields[atResident]), 10, 64)
	if err != nil || pages < 0 || pages > 1<<50/pageSize {
		return 0, 0, false
	}
	return session, pages * pageSize, true
}
