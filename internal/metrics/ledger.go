package metrics

import (
	"cmp"
	"maps"
	"slices"

	"sluice/pool"
)

// ledger bounds the label sets of pools. The first limit pools are exported under their own names, the busiest first if
// more come at once; a pool keeps its name while it exists. The others are folded: added up per tenant and mode, as
// database and role other. A folded pool stays so, and what it has counted stays in the sum when it is gone, so that no
// counter ever goes backwards but that of a named pool which came anew.
type ledger struct {
	limit  int
	named  map[pool.Key]struct{}
	folded map[pool.Key]pool.Traffic // as of the last scrape
	gone   map[pool.Key]pool.Traffic // what folded pools had counted that are gone or came anew, by foldedInto
}

func newLedger(limit int) *ledger {
	return &ledger{
		limit: limit, named: make(map[pool.Key]struct{}),
		folded: make(map[pool.Key]pool.Traffic), gone: make(map[pool.Key]pool.Traffic),
	}
}

// bound returns what is to be exported for the pools there are: each key once, in order.
func (l *ledger) bound(stats []pool.Stats) []pool.Stats {
	pools := make(map[pool.Key]pool.Stats, len(stats))
	for _, s := range stats {
		addTo(pools, cleanKey(s.Key), &s)
	}
	l.forget(pools)
	l.name(pools)
	exported := make(map[pool.Key]pool.Stats, len(pools))
	for key, s := range pools {
		if _, ok := l.named[key]; ok {
			exported[key] = s
			continue
		}
		if last, ok := l.folded[key]; ok && restarted(&last, &s.Traffic) {
			l.retire(key)
		}
		l.folded[key] = s.Traffic
		addTo(exported, foldedInto(key), &s)
	}
	for key, t := range l.gone {
		addTo(exported, key, &pool.Stats{Traffic: t})
	}
	return slices.SortedFunc(maps.Values(exported), func(a, b pool.Stats) int { return compareKeys(a.Key, b.Key) })
}

// forget drops what is known of pools that are gone.
func (l *ledger) forget(pools map[pool.Key]pool.Stats) {
	exists := func(key pool.Key) bool { _, ok := pools[key]; return ok }
	maps.DeleteFunc(l.named, func(key pool.Key, _ struct{}) bool { return !exists(key) })
	for key := range l.folded {
		if !exists(key) {
			l.retire(key)
		}
	}
}

// retire keeps the counters of a folded pool that is gone or came anew.
func (l *ledger) retire(key pool.Key) {
	last, into := l.folded[key], foldedInto(key)
	sum := l.gone[into]
	addCounters(&sum, &last)
	l.gone[into] = sum
	delete(l.folded, key)
}

// name gives new pools their names, as far as the limit goes.
func (l *ledger) name(pools map[pool.Key]pool.Stats) {
	var fresh []pool.Key
	for key := range pools {
		_, named := l.named[key]
		_, folded := l.folded[key]
		if !named && !folded && key != foldedInto(key) {
			fresh = append(fresh, key)
		}
	}
	slices.SortFunc(fresh, func(a, b pool.Key) int {
		x, y := pools[a].Traffic, pools[b].Traffic
		return cmp.Or(cmp.Compare(y.Transactions, x.Transactions), cmp.Compare(y.Logins, x.Logins), compareKeys(a, b))
	})
	for _, key := range fresh[:min(len(fresh), max(0, l.limit-len(l.named)))] {
		l.named[key] = struct{}{}
	}
}

// restarted reports whether now is of a pool that came anew since last.
func restarted(last, now *pool.Traffic) bool {
	return now.Logins < last.Logins || now.Transactions < last.Transactions || now.Queries < last.Queries ||
		now.BytesIn < last.BytesIn || now.BytesOut < last.BytesOut || now.Waits.Count() < last.Waits.Count()
}

func foldedInto(key pool.Key) pool.Key {
	return pool.Key{Tenant: key.Tenant, Database: other, Role: other, Mode: key.Mode}
}

func cleanKey(key pool.Key) pool.Key {
	return pool.Key{Tenant: clean(key.Tenant), Database: clean(key.Database), Role: clean(key.Role), Mode: clean(key.Mode)}
}

func compareKeys(a, b pool.Key) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Database, b.Database), cmp.Compare(a.Role, b.Role),
		cmp.Compare(a.Mode, b.Mode))
}
