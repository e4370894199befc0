package proxy_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/config"
	"sluice/internal/pgscript"
)

func TestAnUnconfirmedRestrictionGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := newHarness(t, pgscript.Options{}, managed(dir))
		allow(h, "127.0.0.0/8")
		tried := restriction("10.0.0.0/8")
		tried.ConfirmIn = 2 * time.Minute
		r, err := h.srv.Restrict(tried)
		if err != nil || !r.ConfirmBy.Equal(time.Now().Add(2*time.Minute)) {
			t.Fatalf("Restrict = %+v, %v", r, err)
		}
		time.Sleep(2*time.Minute - 1)
		synctest.Wait()
		counts(h, "10.0.0.0/8")
		time.Sleep(1)
		synctest.Wait()
		counts(h, "127.0.0.0/8")
		query(t, h.login(sessionPort, "alice"), "SELECT 'x'", "x")
		if r, _ := h.srv.Restrictions(""); !r.ConfirmBy.IsZero() || h.srv.StateChanged() {
			t.Errorf("Restrictions = %+v, state file changed: %t", r, h.srv.StateChanged())
		}
		want := []string{
			"policy changed api 192.0.2.1:4711 olga default network.allowed_cidrs [0.0.0.0/0 ::/0] [127.0.0.0/8]",
			"policy changed api 192.0.2.1:4711 olga default network.allowed_cidrs [127.0.0.0/8] [10.0.0.0/8] " + r.ConfirmBy.Format(time.RFC3339Nano),
			"policy rolled back clock default",
			"login session 127.0.0.1 alice trust",
		}
		got := events(t, dir, "event", "author", "listener", "client_addr", "author_name", "tenant", "setting", "before", "after", "confirm_by", "role", "auth_method")
		got[3] = "login session 127.0.0.1 alice trust" // its port is any
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("audit log (-want +got):\n%s", diff)
		}
	})
}

func TestAConfirmedRestrictionStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := newHarness(t, pgscript.Options{}, managed(dir))
		tried := restriction("127.0.0.0/8")
		tried.ConfirmIn = 2 * time.Minute
		if _, err := h.srv.Restrict(tried); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if r, err := h.srv.Confirm("default", operator); err != nil || !r.ConfirmBy.IsZero() {
			t.Fatalf("Confirm = %+v, %v", r, err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		counts(h, "127.0.0.0/8")
		if got := events(t, dir, "event", "author"); !slices.Equal(got, []string{"policy changed api", "policy confirmed api"}) {
			t.Errorf("audit log: %q", got)
		}
	})
}

func TestTheWayBackLeadsToWhatWasDecidedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, managed(t.TempDir()))
		for i, network := range []string{"10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"} {
			tried := restriction(network)
			tried.ConfirmIn = time.Duration(i+1) * time.Minute
			if _, err := h.srv.Restrict(tried); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.srv.Encrypt("", false, operator); err != nil { // which has its own way
			t.Fatal(err)
		}
		time.Sleep(3*time.Minute - 1)
		synctest.Wait()
		counts(h, "10.2.0.0/16")
		time.Sleep(1)
		synctest.Wait()
		counts(h, "0.0.0.0/0", "::/0")
	})
}

func TestAnUnconfirmedRestrictionGoesBackAfterARestart(t *testing.T) {
	for name, away := range map[string]time.Duration{"in time": time.Minute, "late": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				first := newHarness(t, pgscript.Options{}, managed(dir))
				tried := restriction("10.0.0.0/8")
				tried.ConfirmIn = 2 * time.Minute
				if _, err := first.srv.Restrict(tried); err != nil {
					t.Fatal(err)
				}
				_ = first.srv.Close()
				time.Sleep(away)
				h := newHarness(t, pgscript.Options{}, managed(dir))
				if name == "in time" {
					counts(h, "10.0.0.0/8")
					time.Sleep(time.Minute)
					synctest.Wait()
				}
				counts(h, "0.0.0.0/0", "::/0")
				query(t, h.login(sessionPort, "alice"), "SELECT 'x'", "x")
			})
		})
	}
}

func TestEntriesExpireForLiveSessions(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		until := time.Now().Add(90 * time.Minute) // longer than the clock goes without a look
		dir := t.TempDir()
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
			managed(dir)(c, tenant)
			c.NetworkSets = []config.NetworkSet{{Name: "guests", Entries: []config.Entry{
				{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Until: until}, {Prefix: netip.MustParsePrefix("10.0.0.0/8")},
			}}}
			tenant.Network.AllowedCIDRs = []config.Entry{{Set: "guests"}}
			tenant.Network.DeniedCIDRs = []config.Entry{{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Until: until.Add(time.Minute)}}
		})
		guest := h.login(port, "alice")
		synctest.Wait()
		refusal(t, h.connectFrom("10.1.0.1", port), "alice", "app", "x")
		time.Sleep(90*time.Minute - 1)
		query(t, guest, "SELECT 'x'", "x")
		start := time.Now()
		guest.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		wantElapsed(t, start, 1)
		synctest.Wait() // for the audit log: the session ends while the policy changes
		refusal(t, h.connect(port), "alice", "app", "x")
		counts(h, "10.0.0.0/8")
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := h.connectFrom("10.1.0.1", port).Login("alice", "app", "x"); err != nil {
			t.Errorf("behind the end of the denial: %v", err)
		}
		if got := events(t, dir, "event", "reason", "author"); !slices.Equal(got, []string{
			"login", "refusal denied_address", "policy entry expired clock", "refusal denied_address", "policy entry expired clock", "login",
		}) {
			t.Errorf("audit log: %q", got)
		}
	})
}
