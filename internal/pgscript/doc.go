// Package pgscript plays scripted clients of Postgres and a scripted Postgres for tests.
//
// Messages are written as lines, `Parse "s1" "SELECT $1"` (see Parse and Format), and scripts as lines that name the
// side that speaks: "C: Query BEGIN", "B: ReadyForQuery T". The Server knows the SQL of a few statements: enough to have
// transactions, settings, prepared statements, portals, COPY and queries that take time. Both sides read and write with
// pgproto3's Frontend and Backend, which are independent of the product's own framing, and all waiting suits synctest
// bubbles.
//
// A Script is a conversation with any server, a real one too: Play sends it, legal or not, cut into writes as one likes, and
// writes down to the byte what came.
package pgscript
