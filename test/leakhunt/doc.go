// Package leakhunt has random clients of three tenants set, lock, create, fail and vanish on few shared backends of a real
// Postgres, and compares after every transaction what each of them sees with what it would see on a connection of its own.
//
// Each client has a twin: a direct connection to a database with the same content, which receives the same statements. All
// answers must be equal, and so must be the whole state that a session can see (look.go). What is drawn at random comes
// from a seed, which is printed; the clients' statements (episodes.go, code.go) carry marks of their own, so that what has
// crossed from another is recognised. What was multiplexed is printed with each run (report.go): a run in which sessions
// are mostly pinned fails.
//
// Differences that are known, and kept out of it: a literal that Postgres folds when it parses, such as a timestamp's, keeps
// its meaning, but Postgres folds it anew whenever somebody makes a schema; an application_name that is set to nothing is
// that of the client's start, and one that is reset where the session is pinned to its end is nothing; temp_buffers
// cannot be set on a backend that has had temporary tables of anybody; the source of a setting is not kept where its
// value is the default; a custom setting once defined is empty instead of NULL after RESET; the schema pg_temp may be
// missing (3F000) where a session of Postgres that had temporary objects once says that there is no such function in it
// (42883); currval and lastval may say that there is no number (55000) the first time that a session asks for one of an
// earlier transaction.
package leakhunt
