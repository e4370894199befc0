package relay

import (
	"math"
	"strconv"
	"strings"
	"unicode"
)

const (
	// calmText takes the session's statement_timeout off a question: from the next message on, up to the Sync, there is none.
	// It returns what it was.
	calmText = "SELECT 't', 'statement_timeout', pg_catalog.current_setting('statement_timeout'), pg_catalog.set_config('statement_timeout', '0', true)"
	// maxFailures is how often in a row a question is asked. A timeout of a millisecond may strike what takes it off too, where
	// Postgres has to wait for a processor.
	maxFailures = 5
)

// failed takes note that Postgres has not answered the question a. It is asked again, at once if nothing is outstanding; the
// backend stays till then. Where it has failed too often that is behind the next transaction, unless the session cannot hold
// anything there: then it goes on without the backend, which is of no use any more.
func (m *Machine) failed(a *answer) {
	d := m.doubt
	m.p.Counters.QuestionsFailed++
	d.failures++
	m.Pin(PinOpaque)
	d.more, m.ask = true, true
	if d.failures < maxFailures {
		return
	}
	d.failures = 0
	if !a.announced && m.p.Behind.check == Learn && m.pin == PinOpaque && !m.forever {
		m.backend.tainted = true
		m.ask, m.behind = false, false
		m.unpin()
	}
}

// askAgain asks what has failed to be answered, if nothing is under way. It reports whether it does.
func (m *Machine) askAgain(toBackend *Out) bool {
	if !m.ask || m.doubt.failures == 0 || m.unread || m.raw || m.InBlock() || m.pass > 0 {
		return false
	}
	m.question(toBackend)
	return true
}

// appendCalm injects what leads a question after one has failed, in its transaction.
func (m *Machine) appendCalm(b []byte) []byte {
	m.backend.Unnamed = nil
	return m.appendOwnRun(m.appendOwnParse(b, "", calmText, noTypes, question), "", question)
}

// milliseconds returns a timeout as pg_settings has it, from what SHOW says of it.
func milliseconds(shown string) (string, bool) {
	i := strings.IndexFunc(shown, func(r rune) bool { return !unicode.IsDigit(r) })
	if i < 0 {
		i = len(shown)
	}
	n, err := strconv.ParseInt(shown[:i], 10, 32)
	units := map[string]int64{"": 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
	unit, known := units[shown[i:]]
	n *= unit
	return strconv.FormatInt(n, 10), err == nil && known && n <= math.MaxInt32 // what Postgres takes
}
