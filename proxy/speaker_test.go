package proxy

import (
	"testing"

	"sluice/pool"
)

func TestTenantForgetsWhoSpeaksInDatabasesThatNobodyUses(t *testing.T) {
	t.Parallel()
	tenant := newTenant("t")
	enter := func(database, role string) *lane {
		l := &lane{tenant: tenant, key: pool.Key{Database: database, Role: role}, code: database}
		l.speaking = tenant.speaking(database)
		tenant.pools[l.key] = &parts{lanes: []*lane{l}}
		return l
	}
	first, second, heard := enter("made up", "alice"), enter("made up", "bob"), enter("heard", "alice")
	tenant.hubs["heard"] = &hub{}
	for _, step := range []struct {
		leaves *lane
		left   int
	}{{first, 2}, {second, 1}, {heard, 1}} {
		if !tenant.forget(step.leaves, pool.Traffic{}) || len(tenant.speakers) != step.left {
			t.Errorf("without %v there are %d, want %d", step.leaves.key, len(tenant.speakers), step.left)
		}
	}
	if tenant.speaking("heard") != heard.speaking {
		t.Error("the hub tells of its channel where nobody looks")
	}
}
