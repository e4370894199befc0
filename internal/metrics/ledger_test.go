package metrics

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/pool"
)

// counting is a pool of mode session that has seen n logins and transactions.
func counting(role string, n uint64) pool.Stats {
	return pool.Stats{
		Key: key(role, "session"), Idle: 1,
		Traffic: pool.Traffic{Logins: n, Transactions: n, Errors: map[string]uint64{"23": n}},
	}
}

// exported returns the transactions by role.
func exported(l *ledger, stats ...pool.Stats) map[string]uint64 {
	found := make(map[string]uint64)
	for _, s := range l.bound(stats) {
		found[s.Key.Role] = s.Traffic.Transactions
	}
	return found
}

func TestPoolsBeyondTheLimitAreAddedUp(t *testing.T) {
	t.Parallel()
	l := newLedger(2)
	steps := []struct {
		about string
		pools []pool.Stats
		want  map[string]uint64
	}{
		{"the busiest get names", []pool.Stats{counting("a", 1), counting("b", 2), counting("c", 3), counting("d", 1)},
			map[string]uint64{"c": 3, "b": 2, "other": 2}},
		{"names stay, however busy others become", []pool.Stats{counting("a", 100), counting("b", 2), counting("c", 3), counting("d", 1)},
			map[string]uint64{"c": 3, "b": 2, "other": 101}},
		{"what a folded pool counted stays when it is gone", []pool.Stats{counting("b", 2), counting("c", 3), counting("d", 1)},
			map[string]uint64{"c": 3, "b": 2, "other": 101}},
		{"and when it comes anew", []pool.Stats{counting("a", 5), counting("b", 2), counting("c", 3), counting("d", 2)},
			map[string]uint64{"c": 3, "b": 2, "other": 107}},
		{"or came anew between two scrapes", []pool.Stats{counting("a", 1), counting("b", 2), counting("c", 3), counting("d", 2)},
			map[string]uint64{"c": 3, "b": 2, "other": 108}},
		{"a name that became free goes to a new pool, not to a folded one", []pool.Stats{counting("a", 1), counting("c", 3), counting("d", 2), counting("e", 0)},
			map[string]uint64{"c": 3, "e": 0, "other": 108}},
		{"a named pool that comes back without a free name is folded", []pool.Stats{counting("a", 1), counting("b", 4), counting("c", 3), counting("d", 2), counting("e", 0)},
			map[string]uint64{"c": 3, "e": 0, "other": 112}},
		{"the sum outlives all", nil, map[string]uint64{"other": 112}},
	}
	for _, step := range steps {
		if diff := cmp.Diff(step.want, exported(l, step.pools...)); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", step.about, diff)
		}
	}
}

func TestFoldedPoolsShowWhatTheyHoldNow(t *testing.T) {
	t.Parallel()
	l := newLedger(0)
	waiting := counting("a", 1)
	waiting.Waiting, waiting.Limits.Size, waiting.Traffic.Clients = 3, 10, 7
	got := l.bound([]pool.Stats{waiting, counting("b", 2)})
	if len(got) != 1 || got[0].Idle != 2 || got[0].Waiting != 3 || got[0].Limits.Size != 10 || got[0].Traffic.Clients != 7 {
		t.Errorf("got %+v", got)
	}
	got = l.bound(nil)
	if len(got) != 1 || got[0].Idle != 0 || got[0].Traffic.Clients != 0 || got[0].Traffic.Errors["23"] != 3 {
		t.Errorf("without pools: got %+v", got)
	}
}

func TestRolesAndDatabasesCalledOther(t *testing.T) {
	t.Parallel()
	l := newLedger(10)
	same := counting("other", 4)
	same.Key.Database = "other"
	got := l.bound([]pool.Stats{counting("other", 1), same, counting("a", 2)})
	var keys []pool.Key
	for _, s := range got {
		keys = append(keys, s.Key)
	}
	want := []pool.Key{key("a", "session"), key("other", "session"), same.Key}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l = newLedger(1)
	got = l.bound([]pool.Stats{counting("a", 2), counting("b", 3), same})
	if len(got) != 2 || got[1].Key != same.Key || got[1].Traffic.Transactions != 2+4 {
		t.Errorf("with others that are folded: got %+v", got)
	}
}

func TestFoldedCountersNeverGoBackwards(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	l := newLedger(3)
	counters := make(map[string]uint64)
	last := make(map[string]uint64)
	for scrape := range 2000 {
		for i := range 8 {
			role := fmt.Sprint("r", i)
			switch _, exists := counters[role]; {
			case !exists && random.IntN(4) == 0:
				counters[role] = random.Uint64N(3)
			case exists && random.IntN(10) == 0:
				delete(counters, role)
			case exists:
				counters[role] += random.Uint64N(5)
			}
		}
		var stats []pool.Stats
		for role, n := range counters {
			stats = append(stats, counting(role, n))
		}
		got := exported(l, stats...)
		if len(got) > 4 || got["other"] < last["other"] {
			t.Fatalf("seed %d, scrape %d: got %v after %v", seed, scrape, got, last)
		}
		for role, n := range got {
			if before, ok := last[role]; ok && n < before && role != "other" {
				t.Fatalf("seed %d, scrape %d: %s went from %d to %d while it existed", seed, scrape, role, before, n)
			}
		}
		last = got
	}
}

func TestExportedCountersAreCopies(t *testing.T) {
	t.Parallel()
	l := newLedger(0)
	s := counting("a", 1)
	first := l.bound([]pool.Stats{s})
	first[0].Traffic.Errors["23"] = 99
	s.Traffic.Errors["23"] = 77
	got := l.bound(slices.Clone([]pool.Stats{}))
	if got[0].Traffic.Errors["23"] != 1 {
		t.Errorf("got %v", got[0].Traffic.Errors)
	}
}
