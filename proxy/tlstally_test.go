package proxy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"sluice/netpolicy"
)

func observing(plainKey) netpolicy.Stage { return netpolicy.Observe }

func TestTallyOfPlainLoginsIsBounded(t *testing.T) {
	t.Parallel()
	tally := newTLSTally()
	network := netip.MustParsePrefix("192.0.2.1/32")
	logins := 0
	add := func(role, database, application string) {
		logins++
		tally.addPlain(plainKey{role, database, application, network}, time.Unix(int64(logins), 0))
	}
	for i := range 2 * maxTallied {
		add("app", "db", fmt.Sprint("application ", i)) // one role that calls itself many names
	}
	if got, want := len(tally.plain), maxTallied+1; got != want {
		t.Errorf("%d rows of one role, want %d", got, want)
	}
	add("app", "db", "application 0") // what is known is counted as itself
	for i := range 2 * maxFolded {
		add(fmt.Sprint("role ", i), "db", "psql")
	}
	add("app", "db", "another") // its row of the rest is there
	if got, want := len(tally.plain), maxTallied+maxFolded+1; got != want {
		t.Errorf("%d rows, want %d", got, want)
	}
	var r TenantTLS
	tally.list(&r, observing)
	var sum uint64
	for _, row := range r.Plain {
		sum += row.Count
	}
	if sum != uint64(logins) || r.PlainLogins != sum {
		t.Errorf("%d and %d logins are listed, want %d", sum, r.PlainLogins, logins)
	}
	for i, want := range []PlainLogins{
		{Role: "app", Database: "db", Application: folded, Network: folded, Count: maxTallied + 1},
		{Role: folded, Database: folded, Application: folded, Network: folded, Count: 2*maxFolded - (maxFolded - 1)},
		{Role: "app", Database: "db", Application: "application 0", Network: "192.0.2.1/32", Count: 2},
	} {
		got := r.Plain[i]
		if got.Role != want.Role || got.Database != want.Database || got.Application != want.Application || got.Network != want.Network || got.Count != want.Count {
			t.Errorf("row %d: %+v, want %+v", i, got, want)
		}
	}
}

func TestTallyOfTLSLoginsIsBounded(t *testing.T) {
	t.Parallel()
	tally := newTLSTally()
	for i := range 2 * maxTallied {
		tally.addTLS(tlsKey{fmt.Sprint("role ", i), "TLS 1.3", "X"}, time.Unix(1, 0))
		tally.addTLS(tlsKey{fmt.Sprint("role ", i), "TLS 1.2", "Y"}, time.Unix(1, 0))
	}
	if got, want := len(tally.tls), maxTallied+2; got != want {
		t.Errorf("%d rows, want %d", got, want)
	}
	var r TenantTLS
	tally.list(&r, observing)
	if r.TLS[0].Role != folded || r.TLS[0].Count != maxTallied+maxTallied/2 || r.TLSLogins != 4*maxTallied {
		t.Errorf("%d logins, most of %+v", r.TLSLogins, r.TLS[0])
	}
}
