package e2e

import (
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

func data(text string) *pgproto3.CopyData { return &pgproto3.CopyData{Data: []byte(text)} }

var failMsg = &pgproto3.CopyFail{Message: "no"}

// copyInCases are COPYs from the client.
func copyInCases() []copyCase {
	long := strings.Repeat("x", 10<<20) // 10 MiB, more than any buffer holds
	return []copyCase{
		{name: "in: done", rows: 2, act: func(c *copier) { c.in(); c.send(data("1\n2\n"), copyDoneMsg); c.until('Z') }},
		{name: "in: nothing", act: func(c *copier) { c.in(); c.send(copyDoneMsg); c.until('Z') }},
		{name: "in: rows of 10 MB", table: ", v text", rows: 2, act: func(c *copier) {
			c.in()
			c.send(data("1\t"+long+"\n"), data("2\t"), data(long), data("\n"), copyDoneMsg)
			c.until('Z')
		}},
		{name: "in: CopyFail", act: func(c *copier) { c.in(); c.send(copyDataMsg, failMsg); c.until('Z') }},
		{name: "in: CopyFail, extended", act: func(c *copier) {
			c.extended("COPY TABLE FROM STDIN")
			c.send(copyDataMsg, failMsg, syncMsg)
			c.until('Z')
		}},
		{name: "in: CopyFail in a block", act: func(c *copier) {
			c.query("BEGIN; INSERT INTO TABLE VALUES (0)")
			c.until('Z')
			c.in()
			c.send(copyDataMsg, failMsg)
			c.until('Z')
			c.query("COMMIT")
			c.until('Z')
		}},
		{name: "in: vanishes before data", act: func(c *copier) { c.in(); c.vanish() }},
		{name: "in: vanishes between rows", act: func(c *copier) { c.in(); c.send(data("1\n2\n")); c.vanish() }},
		{name: "in: vanishes inside of a row", act: func(c *copier) { c.in(); c.send(data("1\n2")); c.vanish() }},
		{name: "in: vanishes inside of a message", act: func(c *copier) { c.in(); c.write("d\x00\x00\x00\x641\n2"); c.vanish() }},
		{name: "in: vanishes inside of a header", act: func(c *copier) { c.in(); c.write("d\x00\x00"); c.vanish() }},
		{name: "in: resets inside of a message", act: func(c *copier) { c.in(); c.write("d\x00\x00\x00\x641\n2"); c.reset() }},
		{name: "in: resets behind much", table: ", v text", act: func(c *copier) { c.in(); c.send(data("1\t" + long + "\n")); c.reset() }},
		{name: "in: vanishes, extended", act: func(c *copier) {
			c.extended("COPY TABLE FROM STDIN")
			c.send(flushMsg)
			c.until('G')
			c.send(copyDataMsg)
			c.vanish()
		}},
		{name: "in: vanishes in a block", act: func(c *copier) {
			c.query("BEGIN; INSERT INTO TABLE VALUES (0)")
			c.until('Z')
			c.in()
			c.send(copyDataMsg)
			c.vanish()
		}},
		{name: "in: vanishes before it is asked for data", act: func(c *copier) { c.query("COPY TABLE FROM STDIN"); c.send(copyDataMsg); c.vanish() }},
		{name: "in: Terminate", act: func(c *copier) { c.in(); c.send(copyDataMsg, &pgproto3.Terminate{}); c.vanish() }},
		{name: "in: Terminate, extended", act: func(c *copier) {
			c.extended("COPY TABLE FROM STDIN")
			c.send(copyDataMsg, &pgproto3.Terminate{})
			c.vanish()
		}},
		{name: "in: Sync in the middle", rows: 2, act: func(c *copier) { c.in(); c.send(copyDataMsg, syncMsg, copyDataMsg, copyDoneMsg); c.until('Z') }},
		{name: "in: Flush in the middle", rows: 2, act: func(c *copier) { c.in(); c.send(copyDataMsg, flushMsg, copyDataMsg, copyDoneMsg); c.until('Z') }},
		{name: "in: Query in the middle", act: func(c *copier) { c.in(); c.send(copyDataMsg); c.query("SELECT 1"); c.until('Z') }},
		{name: "in: Parse in the middle", act: func(c *copier) {
			c.in()
			c.send(copyDataMsg, parseMsg("", "SELECT 1"))
			c.until('Z')
			c.send(syncMsg)
			c.until('Z')
		}},
		{name: "in: Parse in the middle, extended", act: func(c *copier) {
			c.extended("COPY TABLE FROM STDIN")
			c.send(copyDataMsg, parseMsg("", "SELECT 1"), bindMsg(""), syncMsg)
			c.until('Z')
		}},
		{name: "in: data of the wrong kind, then more", act: func(c *copier) {
			c.in()
			c.send(data("nonsense\n"), copyDataMsg, data(strings.Repeat("1\n", 1<<20)), copyDoneMsg)
			c.until('Z')
			c.query("SELECT 'alive'")
			c.until('Z')
		}},
		{name: "in: data of the wrong kind, extended", act: func(c *copier) {
			c.extended("COPY TABLE FROM STDIN")
			c.send(data("nonsense\n"), copyDataMsg, copyDoneMsg, syncMsg)
			c.until('Z')
		}},
		{name: "in: data of the wrong kind, then vanishes", act: func(c *copier) {
			c.in()
			c.send(data("nonsense\n"))
			c.until('Z')
			c.send(copyDataMsg)
			c.vanish()
		}},
		{name: "in: a constraint fails while more comes", table: " CHECK (x < 3)", act: func(c *copier) {
			c.in()
			c.send(data("1\n2\n3\n"), data(strings.Repeat("1\n", 1<<20)), copyDoneMsg)
			c.until('Z')
		}},
		{name: "in: a constraint fails at the end", table: " UNIQUE DEFERRABLE INITIALLY DEFERRED", act: func(c *copier) {
			c.in()
			c.send(data("1\n1\n"), copyDoneMsg)
			c.until('Z')
		}},
		{name: "in: CopyData behind CopyDone", rows: 1, act: func(c *copier) {
			c.in()
			c.send(copyDataMsg, copyDoneMsg, copyDataMsg, copyDoneMsg, failMsg)
			c.query("SELECT 'alive'")
			c.until('Z', 'Z')
		}},
		{name: "in: binary with a broken header", act: func(c *copier) {
			c.query("COPY TABLE FROM STDIN (FORMAT binary)")
			c.until('G')
			c.send(data("PGCOPY\n\xff\r\r\x00\x00\x00\x00\x00\x00\x00\x00\x00"), copyDoneMsg)
			c.until('Z')
		}},
		{name: "in: binary without its end", act: func(c *copier) {
			c.query("COPY TABLE FROM STDIN (FORMAT binary)")
			c.until('G')
			c.send(data("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00"), copyDoneMsg)
			c.until('Z')
		}},
		{name: "in: statement_timeout", act: func(c *copier) {
			c.query("BEGIN; SET LOCAL statement_timeout = '1s'")
			c.until('Z')
			c.in()
			c.feed()
			c.until('Z')
			c.query("ROLLBACK")
			c.until('Z')
		}},
		{name: "in: cancelled", act: func(c *copier) { c.in(); c.cancel(); c.feed(); c.until('Z') }},
		{name: "in: cancelled, extended", act: func(c *copier) {
			c.extended("COPY TABLE FROM STDIN")
			c.send(flushMsg)
			c.until('G')
			c.cancel()
			c.feed()
			c.send(syncMsg)
			c.until('Z')
		}},
		{name: "in: backend killed", act: func(c *copier) { c.in(); c.send(copyDataMsg); c.kill(); c.until('E', 0) }},
		{name: "in: in a pipeline", rows: 1, act: func(c *copier) {
			c.send(parseMsg("", "SELECT 'before'"), bindMsg(""), executeMsg)
			c.extended("COPY TABLE FROM STDIN")
			c.send(copyDataMsg, copyDoneMsg, parseMsg("", "SELECT 'behind'"), bindMsg(""), executeMsg, syncMsg)
			c.until('Z')
		}},
		{name: "in: Sync in front of the data", rows: 1, act: func(c *copier) {
			c.extended("COPY TABLE FROM STDIN")
			c.send(syncMsg)
			c.until('G')
			c.send(copyDataMsg, copyDoneMsg, syncMsg)
			c.until('Z')
		}},
		{name: "in: among several statements", rows: 3, act: func(c *copier) {
			c.query("INSERT INTO TABLE VALUES (0); COPY TABLE FROM STDIN; SELECT 'behind'; COPY TABLE FROM STDIN")
			c.until('G')
			c.send(copyDataMsg, copyDoneMsg)
			c.until('G')
			c.send(copyDataMsg, copyDoneMsg)
			c.until('Z')
		}},
		{name: "in: second of two fails", act: func(c *copier) {
			c.query("COPY TABLE FROM STDIN; COPY TABLE FROM STDIN; SELECT 'never'")
			c.until('G')
			c.send(copyDataMsg, copyDoneMsg)
			c.until('G')
			c.send(failMsg)
			c.until('Z')
		}},
		{name: "in: vanishes in the second of two", act: func(c *copier) {
			c.query("COPY TABLE FROM STDIN; COPY TABLE FROM STDIN")
			c.until('G')
			c.send(copyDataMsg, copyDoneMsg)
			c.until('G')
			c.vanish()
		}},
		{name: "in: no such table", act: func(c *copier) {
			c.query("COPY TABLE_nowhere FROM STDIN")
			c.send(copyDataMsg, copyDoneMsg)
			c.query("SELECT 'alive'")
			c.until('Z', 'Z')
		}},
		{name: "in: failed block", act: func(c *copier) {
			c.query("BEGIN; SELECT 1/0")
			c.until('Z')
			c.query("COPY TABLE FROM STDIN")
			c.send(copyDataMsg, copyDoneMsg)
			c.until('Z')
			c.query("ROLLBACK")
			c.until('Z')
		}},
		{name: "in: messages of a COPY that there is not", act: func(c *copier) {
			c.send(copyDoneMsg, copyDataMsg, failMsg)
			c.query("SELECT 'alive'")
			c.until('Z')
		}},
		{name: "in: messages of a COPY that there is not, in a block", act: func(c *copier) {
			c.query("BEGIN")
			c.until('Z')
			c.send(copyDoneMsg, copyDataMsg, failMsg)
			c.query("COMMIT")
			c.until('Z')
		}},
		{name: "in: vanishes behind CopyDone in a block", act: func(c *copier) {
			c.query("BEGIN")
			c.until('Z')
			c.in()
			c.send(copyDataMsg, copyDoneMsg)
			c.until('Z')
			c.vanish()
		}},
	}
}

// endless is a COPY that takes longer than anybody waits. Its rows come as they are made.
const endless = "COPY (SELECT repeat('x', 1000), 'TABLE', generate_series(1, 1000000000)) TO STDOUT"

// copyOutCases are COPYs to the client.
func copyOutCases() []copyCase {
	return []copyCase{
		{name: "out: done", act: func(c *copier) { c.query("COPY (SELECT generate_series(1, 3)) TO STDOUT"); c.until('Z') }},
		{name: "out: extended, with a row limit", act: func(c *copier) {
			c.send(parseMsg("", "COPY (SELECT generate_series(1, 3)) TO STDOUT"), bindMsg(""), &pgproto3.Execute{MaxRows: 1}, syncMsg)
			c.until('Z')
		}},
		{name: "out: does not read, then vanishes", act: func(c *copier) { c.query(endless); c.running(); c.vanish() }},
		{name: "out: does not read, then resets", act: func(c *copier) { c.query(endless); c.running(); c.reset() }},
		{name: "out: vanishes while it reads", act: func(c *copier) {
			c.query(endless)
			c.until('H', 'd')
			for range 1000 {
				c.receive()
			}
			c.vanish()
		}},
		{name: "out: vanishes in a block", act: func(c *copier) {
			c.query("BEGIN; INSERT INTO TABLE VALUES (0)")
			c.until('Z')
			c.query(endless)
			c.until('H', 'd')
			c.vanish()
		}},
		{name: "out: Terminate, and does not read", act: func(c *copier) { c.query(endless); c.send(&pgproto3.Terminate{}); c.running(); c.vanish() }},
		{name: "out: cancelled", act: func(c *copier) { c.query(endless); c.until('H', 'd'); c.cancel(); c.until('Z') }},
		{name: "out: cancelled, extended", act: func(c *copier) {
			c.extended(endless)
			c.send(flushMsg)
			c.until('H', 'd')
			c.cancel()
			c.until('E')
			c.send(syncMsg)
			c.until('Z')
		}},
		{name: "out: statement_timeout", races: "d", act: func(c *copier) {
			c.query("BEGIN; SET LOCAL statement_timeout = '1s'")
			c.until('Z')
			c.query(endless)
			c.until('Z')
			c.query("ROLLBACK")
			c.until('Z')
		}},
		{name: "out: backend killed", races: "E(57P01)", act: func(c *copier) { c.query(endless); c.until('H', 'd'); c.kill(); c.until('E', 0) }},
		{name: "out: an error in the middle", act: func(c *copier) {
			c.query("COPY (SELECT 1/(50000 - g) FROM generate_series(1, 100000) g) TO STDOUT")
			c.until('Z')
			c.query("SELECT 'alive'")
			c.until('Z')
		}},
		{name: "out: an error in the middle, extended", act: func(c *copier) {
			c.extended("COPY (SELECT 1/(50000 - g) FROM generate_series(1, 100000) g) TO STDOUT")
			c.send(parseMsg("", "SELECT 'skipped'"), syncMsg)
			c.until('Z')
		}},
		{name: "out: CopyData, CopyDone, CopyFail from the client", act: func(c *copier) {
			c.query("COPY (SELECT generate_series(1, 100000)) TO STDOUT")
			c.send(copyDataMsg, copyDoneMsg, failMsg)
			c.until('Z')
			c.query("SELECT 'alive'")
			c.until('Z')
		}},
		{name: "out: Query in the middle", act: func(c *copier) {
			c.query("COPY (SELECT generate_series(1, 100000)) TO STDOUT")
			c.query("SELECT 'behind'")
			c.until('Z', 'Z')
		}},
		{name: "out: Sync behind it", act: func(c *copier) {
			c.query("COPY (SELECT generate_series(1, 1000)) TO STDOUT")
			c.send(syncMsg)
			c.until('Z', 'Z')
		}},
		{name: "out: two in one query", act: func(c *copier) {
			c.query("COPY (SELECT 1) TO STDOUT; COPY (SELECT 2) TO STDOUT; SELECT 'behind'")
			c.until('Z')
		}},
		{name: "out: the second of two fails", act: func(c *copier) {
			c.query("COPY (SELECT 1) TO STDOUT; COPY (SELECT 1/0) TO STDOUT; SELECT 'never'")
			c.until('Z')
		}},
		{name: "out: then in", rows: 1, act: func(c *copier) {
			c.query("COPY (SELECT 1) TO STDOUT; COPY TABLE FROM STDIN; COPY TABLE TO STDOUT")
			c.until('G')
			c.send(copyDataMsg, copyDoneMsg)
			c.until('Z')
		}},
		{name: "out: failed block", act: func(c *copier) {
			c.query("BEGIN; SELECT 1/0")
			c.until('Z')
			c.query("COPY (SELECT 1) TO STDOUT")
			c.until('Z')
			c.query("ROLLBACK")
			c.until('Z')
		}},
		{name: "out: read late", act: func(c *copier) {
			c.query("COPY (SELECT repeat('x', 1000), 'TABLE' FROM generate_series(1, 20000)) TO STDOUT")
			c.running() // until everything between here and there is full
			c.until('Z')
		}},
	}
}
