package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// journalLines is how many of the last lines a journal keeps.
const journalLines = 100_000

// journal remembers what has happened, for who has to understand a failure.
type journal struct {
	mu    sync.Mutex // guards below
	lines []string
	next  int
}

func newJournal() *journal { return &journal{lines: make([]string, journalLines)} }

func (j *journal) add(at time.Duration, who, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines[j.next%journalLines] = fmt.Sprintf("%14s %-8s %s", at, who, fmt.Sprintf(format, args...))
	j.next++
}

// String returns the lines in their order.
func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next <= journalLines {
		return strings.Join(j.lines[:j.next], "\n")
	}
	at := j.next % journalLines
	return strings.Join(slices.Concat(j.lines[at:], j.lines[:at]), "\n")
}

// tally counts what has happened by name. The zero value is ready to use.
type tally struct {
	mu     sync.Mutex // guards below
	counts map[string]int
}

func (t *tally) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[string]int)
	}
	t.counts[name]++
}

// String lists the counts, the most frequent first.
func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	for name := range t.counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(t.counts[b], t.counts[a]), cmp.Compare(a, b))
	})
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "\n%8d %s", t.counts[name], name)
	}
	return b.String()
}
