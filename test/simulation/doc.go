// Package simulation runs a whole Sluice between random clients and a model of Postgres, and holds what both see against
// what must always be true.
//
// Everything lives in a bubble of testing/synctest on a network in memory. All randomness comes from one seed, which is
// printed: each client, each backend and the operator draw from a stream of their own, and every pause ends at an odd
// nanosecond, so that few things happen at the same instant. A seed therefore plays the same story as far as the
// scheduler allows: what does happen at one instant, on several goroutines, may come in another order, and the keys and
// nonces that Sluice draws itself differ.
//
// The model Postgres (cluster.go, backend.go) answers each statement with the stamp that the statement carries, keeps a
// ledger of what was inserted and committed, and has faults. Clients (client.go, work.go) know exactly which answers
// they are owed (answers.go). The invariants stand with what they are about: caps in census.go, the line in line.go,
// ends of sessions in ends.go, what was committed in ledger.go, who may be cancelled and who uses a backend in
// ownership.go.
package simulation
