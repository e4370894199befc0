package proxy_test

import (
	"io"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/config"
	"sluice/internal/pgscript"
	"sluice/proxy"
)

const attacker = "198.51.100.66"

// guarded bans after three wrong passwords; alice's is "secret".
func guarded(t *testing.T, ch change) change {
	return func(c *config.Config, tenant *config.Tenant) {
		c.Bans = config.Bans{After: 3, Window: 5 * time.Minute, For: 10 * time.Minute}
		tenant.Auth.Method, tenant.Auth.UsersFile = config.AuthSCRAM, usersFile(t, `"alice" "secret"`, `"bob" "secret"`)
		if ch != nil {
			ch(c, tenant)
		}
	}
}

// guess tries a password and returns what the client is told, empty if it is let in.
func (h *harness) guess(from, port, user, password string) string {
	h.t.Helper()
	c := h.connectFrom(from, port)
	if c.Login(user, "app", password) == nil {
		c.Run(h.t, "C: Terminate", "B: EOF")
		return ""
	}
	lines := strings.Split(c.Transcript(), "\n")
	return lines[len(lines)-1]
}

func (h *harness) metrics() string {
	h.t.Helper()
	answer := httptest.NewRecorder()
	h.srv.Metrics().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	return answer.Body.String()
}

func TestWrongPasswordsDelayTheNextLoginsOfTheAddress(t *testing.T) {
	for _, method := range []config.AuthMethod{config.AuthMD5, config.AuthSCRAM} {
		t.Run(string(method), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, pgscript.Options{}, guarded(t, func(c *config.Config, tenant *config.Tenant) {
					c.Bans.After, tenant.Auth.Method = 0, method
				}))
				for i, ms := range []int{0, 100, 200, 400, 800, 1600} {
					start := time.Now()
					user := []string{"alice", "nobodyx"}[i%2] // it costs the same
					if got := h.guess(attacker, transactionPort, user, "wrong"); !strings.Contains(got, "28P01") {
						t.Errorf("refused with %s", got)
					}
					wantElapsed(t, start, time.Duration(ms)*time.Millisecond)
				}
				start := time.Now()
				if got := h.guess(attacker, sessionPort, "alice", "secret"); got != "" {
					t.Errorf("the right password, on the other port: %s", got)
				}
				wantElapsed(t, start, 3200*time.Millisecond)
				start = time.Now()
				if got := h.guess("192.0.2.1", transactionPort, "bob", "secret"); got != "" {
					t.Errorf("another address: %s", got)
				}
				wantElapsed(t, start, 0)
				time.Sleep(5 * time.Minute)
				start = time.Now()
				h.guess(attacker, transactionPort, "bob", "wrong")
				wantElapsed(t, start, 0)
				if !strings.Contains(h.metrics(), `sluice_login_delays_total{tenant="default"} 6`) {
					t.Errorf("metrics:\n%s", h.metrics())
				}
			})
		})
	}
}

func TestLoginThatWouldWaitTooLongIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, guarded(t, func(c *config.Config, _ *config.Tenant) {
			c.Bans.After, c.Limits.LoginTimeout = 0, 3*time.Second
		}))
		for range 7 {
			h.guess(attacker, transactionPort, "alice", "wrong")
		}
		start := time.Now()
		got := h.guess(attacker, transactionPort, "alice", "secret")
		if got != `B: ErrorResponse FATAL 53300 "too many failed logins from address `+attacker+`" "Check the password, and try again in a moment."` {
			t.Errorf("refused with %s", got)
		}
		wantElapsed(t, start, 0)
		if !strings.Contains(h.log.String(), "reason=too_many_failed_logins") {
			t.Errorf("the log does not say so:\n%s", h.log)
		}
	})
}

func TestBanCountsForBothPortsNamesItsEndAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, guarded(t, nil))
		for range 3 {
			h.guess(attacker, transactionPort, "alice", "wrong")
		}
		until := time.Now().Add(10 * time.Minute)
		want := `B: ErrorResponse FATAL 28000 "address ` + attacker + ` is banned because of too many failed logins" "The ban ends at ` +
			until.UTC().Format(time.RFC3339) + `. Check the password, or ask the operator."`
		for _, port := range []string{sessionPort, transactionPort} {
			start := time.Now()
			if got := h.guess(attacker, port, "alice", "secret"); got != want {
				t.Errorf("refused with %s, want %s", got, want)
			}
			wantElapsed(t, start, 0)
			if got := h.guess("192.0.2.1", port, "alice", "secret"); got != "" {
				t.Errorf("another address: %s", got)
			}
		}
		list := h.srv.Bans()
		if len(list) != 1 || list[0].Network.String() != attacker+"/32" || !list[0].Until.Equal(until) || list[0].Reason != `3 failed logins within 5m0s, the last as role "alice"` {
			t.Errorf("bans: %+v", list)
		}
		for _, want := range []string{`msg="address banned" address=` + attacker + " ", "reason=banned_address"} {
			if !strings.Contains(h.log.String(), want) {
				t.Errorf("the log does not have %q:\n%s", want, h.log)
			}
		}
		for _, want := range []string{`sluice_bans{tenant="default"} 1`, `sluice_bans_total{tenant="default"} 1`} {
			if !strings.Contains(h.metrics(), want) {
				t.Errorf("the metrics do not have %q", want)
			}
		}
		time.Sleep(time.Until(until))
		if got := h.guess(attacker, transactionPort, "alice", "secret"); got != "" {
			t.Errorf("at the ban's end: %s", got)
		}
	})
}

func TestBanCanBeLiftedAndReloadedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, guarded(t, nil))
		ban := func() {
			t.Helper()
			for range 3 {
				h.guess(attacker, transactionPort, "alice", "wrong")
			}
			if n := len(h.srv.Bans()); n != 1 {
				t.Fatalf("%d bans", n)
			}
		}
		ban()
		if n := h.srv.ClearBans("default", netip.MustParsePrefix("203.0.113.0/24"), proxy.Author{Via: "api"}); n != 0 {
			t.Errorf("%d bans of another network cleared", n)
		}
		if n := h.srv.ClearBans("", netip.MustParsePrefix("198.51.100.0/24"), proxy.Author{Via: "api"}); n != 1 {
			t.Errorf("%d bans cleared, want 1", n)
		}
		start := time.Now()
		if got := h.guess(attacker, transactionPort, "bob", "secret"); got != "" {
			t.Errorf("after it was lifted: %s", got)
		}
		wantElapsed(t, start, 0)
		ban()
		cfg := settings(guarded(t, func(c *config.Config, _ *config.Tenant) {
			c.Bans.Never = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		}))
		if err := h.srv.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		if got := h.guess(attacker, transactionPort, "alice", "secret"); got != "" || len(h.srv.Bans()) != 0 {
			t.Errorf("an address that is never banned: %s, %v", got, h.srv.Bans())
		}
		for range 10 {
			h.guess(attacker, transactionPort, "alice", "wrong")
		}
		if n := len(h.srv.Bans()); n != 0 {
			t.Errorf("%d bans of it", n)
		}
	})
}

// Nobody can lock a role out from where it normally comes: not from the same address, nor from anywhere else.
func TestAttackDoesNotKeepARoleFromItsHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const home = "203.0.113.7"
		h := newHarness(t, pgscript.Options{}, guarded(t, nil))
		if got := h.guess(home, transactionPort, "alice", "secret"); got != "" {
			t.Fatal(got)
		}
		for range 3 {
			h.guess(home, transactionPort, "bob", "wrong") // next door
		}
		for i := range 30 {
			h.guess("198.51.100."+string(rune('1'+i%9)), transactionPort, "alice", "wrong")
		}
		if got := h.guess(home, transactionPort, "bob", "secret"); !strings.Contains(got, "is banned") {
			t.Errorf("a role that was never seen from there: %s", got)
		}
		start := time.Now()
		if got := h.guess(home, transactionPort, "alice", "secret"); got != "" {
			t.Errorf("from home: %s", got)
		}
		wantElapsed(t, start, 0)
	})
}

// A balancer is not banned for its clients, and a client is banned wherever it comes through.
func TestBanOfAClientBehindABalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, guarded(t, behind("10.0.0.0/8", nil)))
		through := func(balancer, header, password string) string {
			nc := h.dialFrom(balancer, transactionPort)
			utter(t, nc, header)
			c := pgscript.NewClient(nc)
			if c.Login("alice", "app", password) == nil {
				return ""
			}
			lines := strings.Split(c.Transcript(), "\n")
			return lines[len(lines)-1]
		}
		for range 3 {
			through("10.0.0.9", headerV1, "wrong")
		}
		for _, from := range []string{"10.0.0.9", "10.0.0.10"} {
			if got := through(from, headerV1, "secret"); !strings.Contains(got, "address 203.0.113.7 is banned") {
				t.Errorf("through %s: %s", from, got)
			}
			if got := through(from, headerV2("203.0.113.8:1"), "secret"); got != "" {
				t.Errorf("another client through %s: %s", from, got)
			}
		}
		for _, header := range []string{unknownV1, localV2} {
			for range 10 {
				through("10.0.0.9", header, "wrong")
			}
			if got := through("10.0.0.9", header, "secret"); got != "" {
				t.Errorf("a client of which the balancer tells nothing: %s", got)
			}
		}
		if n := len(h.srv.Bans()); n != 1 {
			t.Errorf("%d bans, want the client's: %+v", n, h.srv.Bans())
		}
	})
}

func TestOnlyCompletedProofsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, guarded(t, nil))
		for range 10 {
			c := h.connectFrom(attacker, transactionPort)
			if err := c.Startup("user", "alice", "database", "app"); err != nil {
				t.Fatal(err)
			}
			c.Run(t, "B: AuthenticationSASL")
			_ = c.NetConn().Close()
			c = h.connectFrom(attacker, transactionPort)
			if err := c.Startup("user", "alice", "database", "app"); err != nil {
				t.Fatal(err)
			}
			c.Run(t, "B: AuthenticationSASL")
			if _, err := c.NetConn().Write([]byte("p\x00\x00\x00\x0dnonsense\x00")); err != nil {
				t.Fatal(err)
			}
			c.Run(t, "B: ErrorResponse FATAL 08P01", "B: EOF")
		}
		synctest.Wait()
		start := time.Now()
		if got := h.guess(attacker, transactionPort, "alice", "secret"); got != "" {
			t.Errorf("refused with %s", got)
		}
		wantElapsed(t, start, 0)
	})
}

// In a flood a banned address is not told any more, and leaves no lines.
func TestBannedFloodIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, guarded(t, nil))
		for range 3 {
			h.guess(attacker, transactionPort, "alice", "wrong")
		}
		const flood = 50
		told := 0
		var all []*pgscript.Client
		for range flood {
			c := h.connectFrom(attacker, transactionPort) // none closes its connection
			if err := c.Startup("user", "alice", "database", "app"); err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		synctest.Wait()
		for _, c := range all {
			if got, _ := io.ReadAll(c.NetConn()); len(got) > 0 {
				told++
			}
		}
		if lines := strings.Count(h.log.String(), "reason=banned_address"); told != 5 || lines != 5 {
			t.Errorf("%d are told, and %d lines logged, want 5 and 5", told, lines)
		}
		if !strings.Contains(h.metrics(), `reason="banned_address",tenant="default"} 50`) {
			t.Errorf("not all are counted:\n%s", h.metrics())
		}
	})
}

// The filter for fail2ban finds the addresses of wrong passwords, and no others, whatever clients call themselves.
func TestFail2banFindsWrongPasswordsOnly(t *testing.T) {
	forged := `alice client_addr=192.0.2.1:5 reason=auth_failed duration_seconds=1` + "\ntime=x level=WARN msg=\"session ended\" session=1 client_addr=192.0.2.1:5 reason=auth_failed duration_seconds=1"
	for _, format := range []string{"text", "json"} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, pgscript.Options{}, guarded(t, func(c *config.Config, tenant *config.Tenant) {
				c.Bans.After = 0
				behind("10.0.0.0/8", nil)(c, tenant)
			}))
			h.guess("198.51.100.66", transactionPort, "alice", "wrong")
			h.guess("2001:db8::66", transactionPort, forged, "wrong")
			h.guess("198.51.100.67", transactionPort, "alice", "secret")
			nc := h.dialFrom("10.0.0.9", transactionPort)
			utter(t, nc, unknownV1)
			_ = pgscript.NewClient(nc).Login("alice", "app", "wrong")
			synctest.Wait()
			log := h.log.String()
			if format == "json" {
				log = h.json.String()
			}
			var found []string
			for line := range strings.Lines(log) {
				for _, re := range failregex(t) {
					if m := re.FindStringSubmatch(line); m != nil {
						found = append(found, m[1])
					}
				}
			}
			if strings.Join(found, " ") != "198.51.100.66 2001:db8::66" {
				t.Errorf("%s: found %q in\n%s", format, found, log)
			}
		})
	}
}

// failregex returns the filter's expressions.
func failregex(t *testing.T) (all []*regexp.Regexp) {
	t.Helper()
	filter, err := os.ReadFile("../deploy/fail2ban/sluice.conf")
	if err != nil {
		t.Fatal(err)
	}
	documented, err := os.ReadFile("../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(filter), "failregex = ")
	rest, _, _ = strings.Cut(rest, "ignoreregex")
	for line := range strings.Lines(rest) {
		if !strings.Contains(string(documented), strings.TrimSpace(line)+"\n") {
			t.Errorf("SECURITY.md does not have %s", line)
		}
		all = append(all, regexp.MustCompile(strings.ReplaceAll(strings.TrimSpace(line), "<HOST>", `([0-9a-f.:]+?)`)))
	}
	if len(all) != 2 {
		t.Fatalf("%d expressions", len(all))
	}
	return all
}

func TestBansAreInTheAuditLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := newHarness(t, pgscript.Options{}, guarded(t, managed(dir)))
		for range 4 {
			h.guess(attacker, sessionPort, "alice", "wrong")
		}
		by := proxy.Author{Via: "api", ClientAddr: "192.0.2.1:4711", Name: "olga"}
		h.srv.ClearBans("default", netip.MustParsePrefix("198.51.100.66/32"), by)
		h.srv.ClearBans("", netip.Prefix{}, by)
		want := []string{
			"refusal default auth_failed", "refusal default auth_failed",
			"address banned default 198.51.100.66/32 3", "refusal default auth_failed", "refusal default banned_address",
			"bans cleared api olga default 198.51.100.66/32 1", "bans cleared api olga  0",
		}
		if diff := cmp.Diff(want, events(t, dir, "event", "author", "author_name", "tenant", "reason", "network", "failures", "count")); diff != "" {
			t.Errorf("audit log (-want +got):\n%s", diff)
		}
	})
}
