package metrics

import (
	"strings"
	"time"

	"sluice/pool"
)

// addTo adds from to the pool of that key, which is new if there is none. Nothing in sums is shared with from.
func addTo(sums map[pool.Key]pool.Stats, key pool.Key, from *pool.Stats) {
	to := sums[key]
	to.Key = key
	to.Limits.Size += from.Limits.Size
	to.Limits.MaxPinned += from.Limits.MaxPinned
	to.Idle += from.Idle
	to.Active += from.Active
	to.Pinned += from.Pinned
	to.Login += from.Login
	to.Closing += from.Closing
	to.Waiting += from.Waiting
	to.OldestWait = max(to.OldestWait, from.OldestWait)
	to.Traffic.Clients += from.Traffic.Clients
	to.Traffic.TLSClients += from.Traffic.TLSClients
	to.Traffic.Working += from.Traffic.Working
	to.Traffic.InBlock += from.Traffic.InBlock
	to.Traffic.PinnedClients = addCounts(to.Traffic.PinnedClients, from.Traffic.PinnedClients, clean)
	to.Traffic.MaxClients = max(to.Traffic.MaxClients, from.Traffic.MaxClients) // of the role, not of the pool
	addCounters(&to.Traffic, &from.Traffic)
	sums[key] = to
}

// addCounters adds what only grows.
func addCounters(to, from *pool.Traffic) {
	to.Logins += from.Logins
	to.Transactions += from.Transactions
	to.Queries += from.Queries
	to.ClientParses += from.ClientParses
	to.BackendParses += from.BackendParses
	to.Binds += from.Binds
	to.Questions += from.Questions
	to.QuestionsFailed += from.QuestionsFailed
	to.LeaksPrevented += from.LeaksPrevented
	to.QuestionTime += from.QuestionTime
	to.Carried += from.Carried
	to.BytesIn += from.BytesIn
	to.BytesOut += from.BytesOut
	addHistogram(&to.Waits, &from.Waits)
	addHistogram(&to.TransactionTime, &from.TransactionTime)
	addHistogram(&to.QueryTime, &from.QueryTime)
	to.Errors = addCounts(to.Errors, from.Errors, errorClass)
	to.Pins = addCounts(to.Pins, from.Pins, clean)
	to.PinnedTime = addCounts(to.PinnedTime, from.PinnedTime, clean)
	to.Ended = addCounts(to.Ended, from.Ended, clean)
}

func addHistogram(to, from *pool.Histogram) {
	for i, n := range from.Counts {
		to.Counts[i] += n
	}
	to.Sum += from.Sum
}

// addCounts returns a map of its own with the sums.
func addCounts[N int | uint64 | time.Duration](a, b map[string]N, label func(string) string) map[string]N {
	sum := make(map[string]N, max(len(a), len(b)))
	for _, counts := range []map[string]N{a, b} {
		for name, n := range counts {
			sum[label(name)] += n
		}
	}
	return sum
}

// errorClasses are those of PostgreSQL: "PostgreSQL Error Codes". A function may raise any other, so those are no labels.
const errorClasses = " 00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 3B 3D 3F" +
	" 40 42 44 53 54 55 57 58 72 F0 HV P0 XX "

// errorClass is the label of a class.
func errorClass(class string) string {
	if len(class) == 2 && strings.Contains(errorClasses, " "+class+" ") {
		return class
	}
	return other
}
