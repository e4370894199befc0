// Package sessionstate tells which statements may change a session, what a session holds, and how to carry it to
// another backend.
package sessionstate

import "math/bits"

// Signals is the set of things a text may do to the session that runs it, beyond its transaction. The zero value
// says that the text itself changes nothing; what triggers, views and functions behind it do is not in the text.
type Signals uint32

// The signals, in the order in which First prefers them.
const (
	// Set is SET or RESET of a setting, role or session authorization for the session.
	Set Signals = 1 << iota
	// SetConfig is set_config not visibly limited to the transaction, or an UPDATE of pg_settings, which calls it.
	SetConfig
	// Prepare is an SQL PREPARE (not PREPARE TRANSACTION).
	Prepare
	// Execute is EXECUTE of an SQL-prepared statement.
	Execute
	// Deallocate is DEALLOCATE.
	Deallocate
	// PreparedStatements is a mention of pg_prepared_statements: the text sees the names on its backend.
	PreparedStatements
	// Discard is DISCARD of anything.
	Discard
	// Listen is LISTEN.
	Listen
	// Unlisten is UNLISTEN.
	Unlisten
	// Hold is a cursor WITH HOLD.
	Hold
	// Temp is a temporary object, or a mention of the temporary schema.
	Temp
	// AdvisoryLock is an advisory lock of the session taken or given back.
	AdvisoryLock
	// Load is LOAD of a library.
	Load
	// Do is a DO block: its code may do anything.
	Do
	// Call is a CALL: the procedure may do anything.
	Call
	// Sequence is currval or lastval: the text reads what this backend's last nextval left, whoever made that call.
	Sequence
	// Setseed is setseed.
	Setseed
	// Dblink is any name of the dblink extension, whose connections belong to the session.
	Dblink
	// Replication is a replication origin of the session, or a replication slot, which may be temporary.
	Replication
	// Backup is the begin or end of a base backup, which belongs to the session.
	Backup
	// StateFunction is a function of a well-known extension that keeps state in the session.
	StateFunction
	// Dynamic is SQL made at run time: EXECUTE in a function's body, or a function that runs a text it is given.
	Dynamic
	// Ambiguous is a text of which it cannot be told where its literals or statements end, because that hangs on
	// settings, on the client's encoding, or on escapes that hide a name. The other signals are those of one reading.
	Ambiguous

	// Nextval is nextval or setval. What it leaves on the backend can be seen only by a text with Sequence, and an
	// INSERT into a serial column leaves the same without a word of it, so it does not bind the session.
	Nextval
	// Local is a change that ends with the transaction, but acts on how what follows in it is parsed and planned.
	Local
	// Commit is a statement that ends the transaction and may have committed when the backend is lost in it.
	Commit
	// DDL is a statement that changes definitions or privileges.
	DDL
	// Clock is a literal that says now, today, tomorrow or yesterday: Postgres may read the clock when it parses it.
	Clock
	// MaybeClock is a literal in which escapes or a continuation may hide such a word.
	MaybeClock
	// Notify is NOTIFY or pg_notify, or a name that looks the same.
	Notify
	// Process is a function that sends a signal to a process by its pid, or one or a view that tells of processes by theirs.
	Process
)

// sawSettings means something only beside an UPDATE; it never leaves the scanner.
const sawSettings Signals = 1 << 31

const passing = Nextval | Local | Commit | DDL | Clock | MaybeClock | Notify | Process

// reasonWords are the words of the signals by bit. They are public: labels of metrics, logs and documentation.
var reasonWords = [...]string{
	"set", "set_config", "prepare", "execute", "deallocate", "pg_prepared_statements", "discard", "listen", "unlisten",
	"hold_cursor", "temp", "advisory_lock", "load", "do", "call", "sequence", "setseed", "dblink", "replication",
	"backup", "state_function", "dynamic_sql", "ambiguous", "nextval", "local", "commit", "ddl", "clock", "maybe_clock", "notify",
	"process",
}

// Sticky reports whether the session must keep its backend after the transaction: something other than Nextval,
// Local, Commit, DDL, the clock's, Notify and Process is in s.
func (s Signals) Sticky() bool { return s&^passing != 0 }

// Within reports whether what binds the session in s is all in other.
func (s Signals) Within(other Signals) bool { return s&^passing&^other == 0 }

// MayCommit reports whether a text with these signals, run inside a transaction block, may end it with a commit.
func (s Signals) MayCommit() bool { return s&(Commit|Ambiguous) != 0 }

// Reasons returns the words of all signals in s, most telling first; nil if there are none. It allocates.
func (s Signals) Reasons() []string {
	var words []string
	for ; s != 0; s &= s - 1 {
		words = append(words, s.First())
	}
	return words
}

// First returns the word of the most telling signal in s, or "" if there is none. One that binds the session comes
// before any that does not.
func (s Signals) First() string {
	if s == 0 {
		return ""
	}
	return reasonWords[bits.TrailingZeros32(uint32(s))]
}
