package main

import (
	"slices"

	"sluice/internal/config"
)

// allowed is a test that may fail through some ports although it passes directly.
type allowed struct {
	suite, test string
	ways        []string
	checks      []string // the values of state_check with which it may; nil: all
	why         string
}

// exceptions returns them all: tests that see that their backend has served others, which is what Sluice is for, and those of
// replication.
func exceptions() []allowed {
	both, transaction := []string{waySession, wayTransaction}, []string{wayTransaction}
	trusting := []string{config.StateCheckLearn, config.StateCheckHint}
	const (
		replication = "it opens a replication connection, which Sluice refuses with 0A000 and the hint to connect directly; those behind it find what it has left."
		number      = "a number of a backend that others have used since is asked for with currval. The session is told 55000 once or twice, and then keeps its backend behind what draws numbers."
	)
	return []allowed{
		{suitePostgresJS, "subscribe", both, nil, replication},
		{suitePostgresJS, "subscribe with transform", both, nil, replication},
		{suitePostgresJS, "subscribe reconnects and calls onsubscribe", both, nil, replication},
		{suiteRegress, "stats", both, nil, "a backend keeps what it has counted to itself for up to a minute, unless it is told to give it away or ends. " +
			"The test tells so the backend that it has now, and ends its own by connecting anew: " +
			"another backend may hold the counts, one that is reused does not end, and Postgres counts no further session."},
		{suiteRegress, "temp", both, nil, "PREPARE TRANSACTION refuses a transaction that has made its backend's schema for temporary objects, " +
			"as the test's first one does by setting search_path to pg_temp. A backend in which somebody has had temporary objects has that schema."},
		{suiteRegress, "guc", both, nil, "settings whose names begin with plpgsql can be made up until the backend has loaded that language, as the test does before and behind a LOAD. " +
			"In a backend that is reused somebody has loaded it."},
		{suiteRegress, "constraints", transaction, trusting, number},
		{suiteRegress, "sequence", transaction, trusting, number},
		{suiteRegress, "triggers", transaction, trusting, "functions in C of refint and regress.so keep plans and a switch in variables of the process, of which nobody can be asked."},
	}
}

// exception reports whether a test may fail in that run.
func exception(suite string, r *result, name string) bool {
	return slices.ContainsFunc(exceptions(), func(e allowed) bool {
		return e.suite == suite && e.test == name && slices.Contains(e.ways, r.way) &&
			(e.checks == nil || slices.Contains(e.checks, r.stateCheck))
	})
}
