package proxy_test

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/pgscript"
	"sluice/proxy"
)

func TestAPlanNamesThoseWhomItWouldCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, nil) // the configuration rules: a plan is possible all the same
		began := time.Now()
		from := func(address, user string) *pgscript.Client {
			c := h.connectFrom(address, transactionPort)
			if err := c.Login(user, "app", "x"); err != nil {
				t.Fatal(err)
			}
			return c
		}
		_, _ = from("10.0.0.1", "alice"), from("192.0.2.1", "alice")
		_, _ = from("192.0.2.1", "alice"), from("192.0.2.2", "bob")
		gone, again := from("198.51.100.7", "carol"), from("2001:db8::1", "carol")
		time.Sleep(time.Hour)
		_ = gone.NetConn().Close()
		synctest.Wait()
		time.Sleep(time.Hour)
		_ = again.NetConn().Close()
		synctest.Wait()
		r := restriction("10.0.0.0/8", "192.0.2.2/32")
		r.Caller = netip.MustParseAddr("10.0.0.9")
		got, err := h.srv.Plan(r)
		if err != nil {
			t.Fatal(err)
		}
		want := proxy.Plan{
			Tenant: "default", Sessions: 2, Absent: 2, Since: began,
			Connected: []proxy.PlanClient{{Role: "alice", Database: "app", Mode: "transaction", Network: netip.MustParsePrefix("192.0.2.1/32"), Sessions: 2}},
			History: []proxy.PlanClient{
				{Role: "carol", Database: "app", Mode: "transaction", Network: netip.MustParsePrefix("2001:db8::/64"), LastSeen: began.Add(2 * time.Hour)},
				{Role: "carol", Database: "app", Mode: "transaction", Network: netip.MustParsePrefix("198.51.100.7/32"), LastSeen: began.Add(time.Hour)},
			},
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("plan (-want +got):\n%s", diff)
		}
		r.Caller = netip.MustParseAddr("172.16.0.1")
		if got, err := h.srv.Plan(r); err != nil || !got.SelfCut {
			t.Errorf("a plan that shuts out the caller: %+v, %v", got, err)
		}
		if _, err := h.srv.Plan(proxy.Restriction{}); !errors.Is(err, proxy.ErrInvalidChange) {
			t.Errorf("an empty plan: %v", err)
		}
		counts(h, "0.0.0.0/0", "::/0")
	})
}
