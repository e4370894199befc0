package proxy_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/config"
	"sluice/internal/pgscript"
	"sluice/proxy"
)

// remembering is guarded, with a state_dir.
func remembering(t *testing.T, dir string) change {
	return guarded(t, func(c *config.Config, _ *config.Tenant) { c.StateDir = dir })
}

// content returns what stands in a file, empty if it is not there.
func content(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}

func TestBansSurviveARestartUpToTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		h := newHarness(t, pgscript.Options{}, remembering(t, dir))
		for range 3 {
			h.guess(attacker, transactionPort, "alice", "wrong")
		}
		before := h.srv.Bans()
		if len(before) != 1 {
			t.Fatalf("bans: %v", before)
		}
		time.Sleep(time.Minute)
		_ = h.srv.Close()
		time.Sleep(time.Minute)

		h = newHarness(t, pgscript.Options{}, remembering(t, dir))
		after := h.srv.Bans()
		if len(after) != 1 || !after[0].Until.Equal(before[0].Until) || !after[0].Since.Equal(before[0].Since) || after[0].Reason != before[0].Reason ||
			after[0].Failures != 3 || after[0].Network != before[0].Network || after[0].Tenant != "default" {
			t.Errorf("after a restart: %+v, want %+v", after, before)
		}
		if got := h.guess(attacker, sessionPort, "alice", "secret"); !strings.Contains(got, "is banned because of too many failed logins") {
			t.Errorf("the banned address: %s", got)
		}
		_ = h.srv.Close()
		time.Sleep(time.Until(before[0].Until))

		h = newHarness(t, pgscript.Options{}, remembering(t, dir))
		if got := h.srv.Bans(); len(got) != 0 {
			t.Errorf("after their end: %v", got)
		}
		if got := h.guess(attacker, sessionPort, "alice", "secret"); got != "" {
			t.Errorf("after the end of its ban: %s", got)
		}
	})
}

func TestWhatIsNotToBeBannedAnyMoreIsNotAfterARestart(t *testing.T) {
	for name, ch := range map[string]change{
		"no bans": func(c *config.Config, _ *config.Tenant) { c.Bans.After = 0 },
		"never banned": func(c *config.Config, _ *config.Tenant) {
			c.Bans.Never = []netip.Prefix{netip.MustParsePrefix(attacker + "/32")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "state")
				h := newHarness(t, pgscript.Options{}, remembering(t, dir))
				for range 3 {
					h.guess(attacker, transactionPort, "alice", "wrong")
				}
				_ = h.srv.Close()
				h = newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
					remembering(t, dir)(c, tenant)
					ch(c, tenant)
				})
				if got := h.srv.Bans(); len(got) != 0 {
					t.Errorf("bans: %v", got)
				}
			})
		})
	}
}

// A ban is written as it comes, further ones after a pause, and so is that bans are cleared: a crash loses a second.
func TestBansAreWrittenSoonButNotEachByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		h := newHarness(t, pgscript.Options{}, remembering(t, dir))
		time.Sleep(2 * time.Second) // what the start writes
		for _, address := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"} {
			for range 3 {
				h.guess(address, transactionPort, "x"+address, "wrong")
			}
			synctest.Wait()
		}
		wantBanned := func(when string, n int) {
			t.Helper()
			if got := strings.Count(content(t, dir, "bans.json"), `"until"`); got != n {
				t.Errorf("%s: %d bans in the file, want %d:\n%s", when, got, n, content(t, dir, "bans.json"))
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		wantBanned("after a second", 3)
		if n := h.srv.ClearBans("", netip.Prefix{}, proxy.Author{}); n != 3 {
			t.Errorf("cleared %d", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		wantBanned("after they were cleared", 0)
		if info, err := os.Lstat(filepath.Join(dir, "bans.json")); err != nil || info.Mode() != 0o600 {
			t.Errorf("the file: %v, %v", info.Mode(), err)
		}
	})
}

func TestHistoryOfPlansSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		began := time.Now()
		h := newHarness(t, pgscript.Options{}, remembering(t, dir))
		if got := h.guess("192.0.2.7", transactionPort, "alice", "secret"); got != "" {
			t.Fatal(got)
		}
		synctest.Wait()
		if got := content(t, dir, "history.json"); got != "" {
			t.Errorf("written at once: %s", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := content(t, dir, "history.json"); !strings.Contains(got, `"address":"192.0.2.7"`) {
			t.Errorf("after a minute: %s", got)
		}
		seen := time.Now()
		if got := h.guess("2001:db8::1", sessionPort, "bob", "secret"); got != "" {
			t.Fatal(got)
		}
		synctest.Wait()
		_ = h.srv.Close()
		time.Sleep(time.Hour)
		h = newHarness(t, pgscript.Options{}, remembering(t, dir))
		plan, err := h.srv.Plan(restriction("10.0.0.0/8"))
		if err != nil {
			t.Fatal(err)
		}
		if plan.Absent != 2 || !plan.Since.Equal(began) || plan.History[0].Role != "bob" || !plan.History[0].LastSeen.Equal(seen) ||
			plan.History[0].Network.String() != "2001:db8::/64" || plan.History[0].Mode != "session" || plan.History[1].Role != "alice" || !plan.History[1].LastSeen.Equal(began) {
			t.Errorf("after a restart: %+v", plan)
		}
	})
}

// Where a role comes from is known after a restart too: a ban of its address does not lock it out.
func TestHomesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		h := newHarness(t, pgscript.Options{}, remembering(t, dir))
		if got := h.guess(attacker, transactionPort, "alice", "secret"); got != "" {
			t.Fatal(got)
		}
		for range 3 {
			h.guess(attacker, transactionPort, "bob", "wrong")
		}
		_ = h.srv.Close()
		h = newHarness(t, pgscript.Options{}, remembering(t, dir))
		if got := h.guess(attacker, transactionPort, "bob", "secret"); !strings.Contains(got, "is banned") {
			t.Errorf("bob, from there: %q", got)
		}
		if got := h.guess(attacker, transactionPort, "alice", "secret"); got != "" {
			t.Errorf("alice, from her home: %s", got)
		}
	})
}

func TestRecordsThatCannotBeReadKeepSluiceFromStarting(t *testing.T) {
	t.Parallel()
	const ban = `{"tenant": "default", "network": %q, "since": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z", "failures": 3, "reason": "x"}`
	for _, c := range []struct{ name, text, want string }{
		{"bans.json", "{", "is not JSON"},
		{"bans.json", `{"version": 2, "bans": []}`, "has version 2, this Sluice knows 1"},
		{"bans.json", `{"version": 1, "bans": [{"tenent": "x"}]}`, `json: unknown field "tenent"`},
		{"bans.json", `{"version": 1, "bans": [{}]}`, "bans[0]: no tenant"},
		{"bans.json", `{"version": 1, "bans": [` + fmt.Sprintf(ban, "198.51.100.0/24") + `]}`, "bans[0].network: must be"},
		{"bans.json", `{"version": 1, "bans": [` + fmt.Sprintf(ban, "2001:db8::1/128") + `]}`, "bans[0].network: must be"},
		{"history.json", "", "is not JSON"},
		{"history.json", `{"version": 1, "clients": []}`, "no began"},
		{"history.json", `{"version": 1, "began": "2026-01-01T00:00:00Z", "clients": [{"tenant": "a", "seen": "2026-01-01T00:00:00Z", "address": "::ffff:10.0.0.1"}]}`, "clients[0].address: must be"},
		{"history.json", `{"version": 1, "began": "2026-01-01T00:00:00Z", "clients": [{"tenant": "a", "address": "10.0.0.1"}]}`, "clients[0]: no tenant, or not seen"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := settings(func(c *config.Config, _ *config.Tenant) { c.StateDir = dir })
		if _, err := proxy.New(cfg, proxy.Options{}); err == nil || !strings.Contains(err.Error(), "state_dir: "+path+": "+c.want) {
			t.Errorf("%s: %.80s: %v, want %q", c.name, c.text, err, c.want)
		}
		if got := content(t, dir, c.name); got != c.text {
			t.Errorf("%s was written over: %s", c.name, got)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := proxy.New(cfg, proxy.Options{}); err == nil || !strings.Contains(err.Error(), path+": has permissions 0644") {
			t.Errorf("%s, readable by all: %v", c.name, err)
		}
	}
}

func TestRecordsThatCannotBeWrittenAreToldOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		h := newHarness(t, pgscript.Options{}, remembering(t, dir))
		time.Sleep(2 * time.Second)
		blocked := filepath.Join(dir, "bans.json.new")
		if err := os.MkdirAll(filepath.Join(blocked, "full"), 0o700); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			h.guess(attacker, transactionPort, "alice", "wrong")
		}
		time.Sleep(5 * time.Minute)
		if got := strings.Count(h.log.String(), "state cannot be written"); got != 1 {
			t.Errorf("told %d times:\n%s", got, h.log)
		}
		if err := os.RemoveAll(blocked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := content(t, dir, "bans.json"); !strings.Contains(got, attacker) {
			t.Errorf("not written when it could be again: %s", got)
		}
	})
}
