package main

import "slices"

// allowed is a test that may fail through some ports although it passes directly.
type allowed struct {
	suite, test string
	ways        []string
	why         string
}

// exceptions returns them all: tests that see that their backend has served others, which is what Sluice is for, and those of
// replication.
func exceptions() []allowed {
	both := []string{waySession, wayTransaction}
	const replication = "it opens a replication connection, which Sluice refuses with 0A000 and the hint to connect directly; those behind it find what it has left."
	return []allowed{
		{suitePostgresJS, "subscribe", both, replication},
		{suitePostgresJS, "subscribe with transform", both, replication},
		{suitePostgresJS, "subscribe reconnects and calls onsubscribe", both, replication},
		{suiteRegress, "stats", both, "a backend keeps what it has counted to itself for up to a minute, unless it is told to give it away or ends. " +
			"The test tells so the backend that it has now, and ends its own by connecting anew: " +
			"another backend may hold the counts, one that is reused does not end, and Postgres counts no further session."},
		{suiteRegress, "temp", both, "PREPARE TRANSACTION refuses a transaction that has made its backend's schema for temporary objects, " +
			"as the test's first one does by setting search_path to pg_temp. A backend in which somebody has had temporary objects has that schema."},
		{suiteRegress, "guc", both, "settings whose names begin with plpgsql can be made up until the backend has loaded that language, as the test does before and behind a LOAD. " +
			"In a backend that is reused somebody has loaded it."},
	}
}

// exception reports whether a test may fail.
func exception(suite, way, name string) bool {
	return slices.ContainsFunc(exceptions(), func(e allowed) bool {
		return e.suite == suite && e.test == name && slices.Contains(e.ways, way)
	})
}
