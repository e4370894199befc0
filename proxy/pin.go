package proxy

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"time"

	"sluice/internal/relay"
	"sluice/internal/sessionstate"
)

const (
	// maxPinLogs bounds what a pool logs of different statements that pin.
	maxPinLogs = 100
	// maxPinnedShown bounds the pinned sessions of one pool that are shown by name.
	maxPinnedShown = 20
)

// pin is why a session keeps its backend past its transactions.
type pin struct {
	reason    string
	statement string    // fingerprint of the first that pinned it; empty: it is not known
	since     time.Time // with that reason
}

// Pinned is a session that keeps its backend past its transactions, for operators.
type Pinned struct {
	Session     uint64  `json:"session"`
	Role        string  `json:"role"`
	Application string  `json:"application_name"`
	ClientAddr  string  `json:"client_addr"`
	BackendPID  uint32  `json:"backend_pid"`
	Reason      string  `json:"reason"`
	Statement   string  `json:"statement,omitempty"` // the first that pinned it, without its literals
	Seconds     float64 `json:"seconds"`
}

// pinBy counts the session as pinned for a reason, and ends what it was pinned by before.
func (s *session) pinBy(reason string) {
	s.unpin()
	s.pin = &pin{reason: reason, statement: sessionstate.Fingerprint(s.m.PinnedBy()), since: s.lane.loop.Now()}
	count(&s.lane.traffic.Pins, reason)
	level := slog.LevelDebug
	if s.lane.firstPin(s.pin) {
		level = slog.LevelInfo
	}
	s.lane.srv.log.Log(s.lane.srv.ctx, level, "session pinned", append(s.attrs(),
		logPool, s.lane.key.String(), logPin, reason, logStatement, s.pin.statement, logSuggestion, pinRow(reason).suggestion)...)
}

// unpin ends the pin, if there is one.
func (s *session) unpin() {
	if s.pin == nil {
		return
	}
	t := &s.lane.traffic
	if t.PinnedTime == nil {
		t.PinnedTime = make(map[string]time.Duration)
	}
	t.PinnedTime[s.pin.reason] += s.lane.loop.Now().Sub(s.pin.since)
	s.pin = nil
}

// pinSeen is what tells pins apart in the log.
type pinSeen struct{ reason, statement string }

// firstPin reports whether the pool has not pinned for that reason and by that statement yet, as far as it remembers.
func (l *lane) firstPin(p *pin) bool {
	seen := pinSeen{p.reason, p.statement}
	if _, known := l.pinsSeen[seen]; known || len(l.pinsSeen) >= maxPinLogs {
		return false
	}
	if l.pinsSeen == nil {
		l.pinsSeen = make(map[pinSeen]struct{})
	}
	l.pinsSeen[seen] = struct{}{}
	return true
}

// pinned returns the sessions that are pinned. To be called on the loop.
func (l *lane) pinned() (all []*session) {
	for _, b := range l.pool.Held() {
		if s := b.Owner.(*backendConn).session; s != nil && s.pin != nil {
			all = append(all, s)
		}
	}
	return all
}

// pins returns who is pinned by reason, and how long pins have lasted till now. To be called on the loop.
func (l *lane) pins() (clients map[string]int, lasted map[string]time.Duration) {
	now := l.loop.Now()
	clients, lasted = make(map[string]int), make(map[string]time.Duration)
	for reason := range l.traffic.Pins {
		clients[reason] = 0
	}
	maps.Copy(lasted, l.traffic.PinnedTime)
	for _, s := range l.pinned() {
		clients[s.pin.reason]++
		lasted[s.pin.reason] += now.Sub(s.pin.since)
	}
	return clients, lasted
}

// shownPinned returns who is pinned, for operators. To be called on the loop.
func (l *lane) shownPinned() (shown []Pinned) {
	now := l.loop.Now()
	for _, s := range l.pinned() {
		shown = append(shown, Pinned{
			Session: s.id, Role: s.role, Application: s.application, ClientAddr: s.clientAddr(), BackendPID: s.bc.b.Conn.PID,
			Reason: s.pin.reason, Statement: s.pin.statement, Seconds: now.Sub(s.pin.since).Seconds(),
		})
	}
	return shown
}

// longestPinned returns those that have been pinned longest, of all.
func longestPinned(all []Pinned) []Pinned {
	slices.SortFunc(all, func(x, y Pinned) int {
		return cmp.Or(cmp.Compare(y.Seconds, x.Seconds), cmp.Compare(x.Session, y.Session))
	})
	return all[:min(len(all), maxPinnedShown)]
}

// pinReason is what people are told about a reason to pin.
type pinReason struct {
	reason     string // as in the metrics
	words      string
	suggestion string
}

// pinReasons is the table of them.
var pinReasons = [...]pinReason{
	{"temp", "a temporary object", "create it ON COMMIT DROP and use it in that transaction, or drop it when it is done with"},
	{"advisory_lock", "an advisory lock", "take it with pg_advisory_xact_lock, which ends with the transaction"},
	{"hold_cursor", "a WITH HOLD cursor", "read the cursor within its transaction, or close it when it is read"},
	{"listen", "LISTEN", "give the tenant a service login, which listens for all, or listen on the session port"},
	{"unlisten", "UNLISTEN", "give the tenant a service login, which listens for all, or listen on the session port"},
	{"set", "SET", "use SET LOCAL, or put it into the connection string; this value could not be asked for"},
	{"set_config", "set_config()", "make it local to the transaction (true as third argument), or give the setting's name as a literal"},
	{"prepare", "PREPARE", "prepare statements with the driver instead of SQL"},
	{"execute", "EXECUTE", "prepare statements with the driver instead of SQL"},
	{"deallocate", "DEALLOCATE", "leave prepared statements to the driver"},
	{"pg_prepared_statements", "pg_prepared_statements", "leave prepared statements to the driver"},
	{"discard", "DISCARD", "leave it out: the transaction port cleans up by itself"},
	{"load", "LOAD", "have the library in session_preload_libraries"},
	{"do", "DO", "make names of settings and statements literals, or run the block on the session port"},
	{"call", "CALL", "run the procedure on the session port"},
	{relay.PinSequence, "currval() or lastval()", "use INSERT … RETURNING, or ask in the transaction that inserts"},
	{"setseed", "setseed()", "call setseed on the session port, or make random numbers in the application"},
	{"dblink", "dblink", "use postgres_fdw, or the session port"},
	{"replication", "replication", "use the session port, or connect directly"},
	{"backup", "a base backup", "connect directly"},
	{"state_function", "a function that keeps state", "use the session port"},
	{"dynamic_sql", "SQL made at run time", "run it from the application, or on the session port"},
	{"ambiguous", "a text that can be read in two ways", "pass values as parameters instead of literals with backslashes"},
	{relay.PinParameter, "a setting that Postgres reported", "use SET LOCAL, or put it into the connection string"},
	{relay.PinLarge, "a very long statement", "pass values as parameters, or use COPY"},
	{relay.PinFunctionCall, "a function called by number", "call it in a statement"},
	{relay.PinClock, "a prepared literal like 'now'", "use now() or current_date"},
	{relay.PinOpaque, "code in the database", "see state_check; the log names the function"},
}

// pinRow returns the row of the table; of a reason that it does not have, the reason.
func pinRow(reason string) pinReason {
	for _, row := range pinReasons {
		if row.reason == reason {
			return row
		}
	}
	return pinReason{reason: reason, suggestion: "use the session port"}
}

// pinWords says what a session is pinned by, with the word that the metrics have for it.
func pinWords(reason string) string {
	if row := pinRow(reason); row.words != "" {
		return row.words + " [" + reason + "]"
	}
	return "[" + reason + "]"
}
