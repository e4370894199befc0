package sessionstate

import (
	"strconv"
	"strings"
)

// PID is a number in a text that may be the pid of a process.
type PID struct {
	At, Len int // of its digits
	Value   uint32
}

// PIDs returns the numbers in sql that may be pids greater than floor: whole numbers, and literals that are nothing else, but for those
// in which something could be escaped. signals reports whether sql names a function that sends a signal to a process.
func PIDs(sql string, floor uint32) (pids []PID, signals bool) {
	c := newCutter(sql)
	for p, ok := c.next(); ok; p, ok = c.next() {
		at, digits := p.from, p.text
		switch {
		case isName(p.token):
			signals = signals || sendsSignal(strings.Trim(digits, `"`))
			continue
		case p.token == tokString && len(digits) > 2 && digits[0] == '\'':
			at, digits = at+1, digits[1:len(digits)-1]
			if beside(sql, p.from-1) || beside(sql, p.to()) {
				continue
			}
		case p.token != tokOther || beside(sql, p.from-1) || beside(sql, p.to()):
			continue
		}
		if n, ok := ParsePID(digits); ok && n > floor {
			pids = append(pids, PID{at, len(digits), n})
		}
	}
	return pids, signals
}

// sendsSignal reports whether a name is that of a function which sends a signal to a process.
func sendsSignal(name string) bool {
	return is(name, "pg_terminate_backend") || is(name, "pg_cancel_backend") || is(name, "pg_log_backend_memory_contexts")
}

// beside reports whether what stands at that place of sql, if anything does, may belong to a number or literal beside it.
func beside(sql string, at int) bool {
	if at < 0 || at >= len(sql) {
		return false
	}
	return inIdentifier(sql[at]) || sql[at] == '.' || sql[at] == '\''
}

// ParsePID reads a pid in digits, and nothing else.
func ParsePID[T string | []byte](digits T) (pid uint32, ok bool) {
	const longest = 10
	if len(digits) > longest {
		return 0, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 31)
	return uint32(n), err == nil
}
