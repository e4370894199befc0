package proxy_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/config"
	"sluice/internal/pgscript"
	"sluice/proxy"
)

// managed has the API rule, with its state in dir.
func managed(dir string) change {
	return func(c *config.Config, tenant *config.Tenant) {
		c.StateDir, c.Log.Audit = filepath.Join(dir, "state"), filepath.Join(dir, "audit.jsonl")
		tenant.Network.ManagedBy = config.ManagedByAPI
	}
}

var operator = proxy.Author{Via: "api", ClientAddr: "192.0.2.1:4711", Name: "olga"}

// allow restricts the tenant to networks, whoever asks.
func allow(h *harness, networks ...string) proxy.Restrictions {
	h.t.Helper()
	r, err := h.srv.Restrict(restriction(networks...))
	if err != nil {
		h.t.Fatalf("Restrict: %v", err)
	}
	synctest.Wait()
	return r
}

func restriction(networks ...string) proxy.Restriction {
	r := proxy.Restriction{Author: operator}
	for _, n := range networks {
		if strings.Contains(n, ":") && !strings.Contains(n, "until") {
			r.IPv6 = append(r.IPv6, n)
		} else {
			r.IPv4 = append(r.IPv4, n)
		}
	}
	return r
}

// counts fails unless the tenant is restricted to those networks.
func counts(h *harness, want ...string) {
	h.t.Helper()
	r, err := h.srv.Restrictions("")
	if err != nil {
		h.t.Fatal(err)
	}
	if diff := cmp.Diff(want, prefixes(r.Allowed)); diff != "" {
		h.t.Errorf("allowed (-want +got):\n%s", diff)
	}
}

func prefixes(list []proxy.AllowedNetwork) []string {
	var all []string
	for _, n := range list {
		all = append(all, n.Prefix.String())
	}
	return all
}

// events returns the lines of the audit log, each as the values of the keys.
func events(t *testing.T, dir string, keys ...string) []string {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var event map[string]any
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatalf("%v in %s", err, lines.Text())
		}
		if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(event["time"])); err != nil {
			t.Errorf("the time of %s: %v", lines.Text(), err)
		}
		var values []string
		for _, key := range keys {
			if v, ok := event[key]; ok {
				values = append(values, fmt.Sprint(v))
			}
		}
		all = append(all, strings.Join(values, " "))
	}
	return all
}

func TestARestrictionEndsTheSessionsThatItDenies(t *testing.T) {
	bothPorts(t, func(t *testing.T, port string) {
		dir := t.TempDir()
		h := newHarness(t, pgscript.Options{}, managed(dir))
		counts(h, "0.0.0.0/0", "::/0")
		idle, busy := h.login(port, "alice"), h.login(port, "alice")
		kept := h.connectFrom("10.0.0.1", port)
		if err := kept.Login("alice", "app", "x"); err != nil {
			t.Fatal(err)
		}
		query(t, busy, "BEGIN")
		start := time.Now()
		allow(h, "10.0.0.0/8", "2001:db8::/32")
		idle.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		wantElapsed(t, start, 0)
		busy.Run(t, "C: Query COMMIT", "B: CommandComplete COMMIT", "B: ReadyForQuery I", "B: ErrorResponse FATAL 57P01", "B: EOF")
		query(t, kept, "SELECT 'x'", "x")
		refusal(t, h.connect(port), "alice", "app", "x")
		counts(h, "10.0.0.0/8", "2001:db8::/32")
		allow(h, "127.0.0.0/8")
		query(t, h.login(port, "alice"), "SELECT 'x'", "x")
	})
}

func TestARestrictionSurvivesARestartAndAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		first := newHarness(t, pgscript.Options{}, managed(dir))
		allow(first, "10.0.0.0/8", "203.0.113.7 # the auditor")
		_ = first.srv.Close()
		h := newHarness(t, pgscript.Options{}, managed(dir))
		counts(h, "10.0.0.0/8", "203.0.113.7/32")
		refusal(t, h.connect(sessionPort), "alice", "app", "x")
		h.reload(managed(dir))
		counts(h, "10.0.0.0/8", "203.0.113.7/32")
		r, err := h.srv.Restrictions("default")
		if err != nil || r.Allowed[1].Comment != "the auditor" || !r.ChangedAt.Equal(time.Now()) || r.ChangedBy != `api 192.0.2.1:4711 (calls himself "olga")` {
			t.Errorf("Restrictions = %+v, %v", r, err)
		}
		h.reload(func(c *config.Config, tenant *config.Tenant) { // the configuration rules again
			managed(dir)(c, tenant)
			tenant.Network.ManagedBy = "file"
		})
		counts(h, "0.0.0.0/0", "::/0")
		h.reload(managed(dir))
		counts(h, "10.0.0.0/8", "203.0.113.7/32")
	})
}

func TestAStateFileThatChangesCountsAtTheNextReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := newHarness(t, pgscript.Options{}, managed(dir))
		allow(h, "127.0.0.0/8")
		if h.srv.StateChanged() {
			t.Error("what the API has written is taken for somebody else's")
		}
		c := h.login(sessionPort, "alice")
		write := func(text string) {
			if err := os.WriteFile(h.srv.StateFile(), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(`{"version": 2, "tenants": []}`)
		if !h.srv.StateChanged() {
			t.Error("the change is not seen")
		}
		if _, err := h.srv.Restrict(restriction("10.0.0.0/8")); err == nil || !strings.Contains(err.Error(), "changed by somebody else") {
			t.Errorf("a change over it: %v", err)
		}
		for _, bad := range []func(){
			func() { write(`{"version": 2, "tenants": []}`) },
			func() { write(`{"version": 1, "tenants": [{"name": "default", "network": {"allowed_cidrs": null}}]}`) },
			func() { write(``) },
			func() { _ = os.Remove(h.srv.StateFile()) },
		} {
			bad()
			if err := h.srv.Reload(settings(managed(dir))); err == nil || !strings.Contains(err.Error(), h.srv.StateFile()) {
				t.Errorf("Reload = %v, want an error that names the file", err)
			}
			counts(h, "127.0.0.0/8")
		}
		query(t, c, "SELECT 'x'", "x")
		write(`{"version": 1, "tenants": [{"name": "default", "network": {"allowed_cidrs": ["10.0.0.0/8"], "before": null,
			"changed_at": "2026-01-01T00:00:00Z", "changed_by": "me"}}]}`)
		h.reload(managed(dir))
		counts(h, "10.0.0.0/8")
		c.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
	})
}

func TestAStateFileThatCannotBeReadPreventsTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "state", "policy.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := settings(managed(dir))
	if _, err := proxy.New(cfg, proxy.Options{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("New = %v, want an error that names %s", err, path)
	}
	cfg.StateDir = path
	if _, err := proxy.New(cfg, proxy.Options{}); err == nil || !strings.Contains(err.Error(), "state_dir: "+path) {
		t.Errorf("New = %v, want an error that names %s", err, path)
	}
}

func TestRestrictionsThatAreRefusedChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := newHarness(t, pgscript.Options{}, managed(dir))
		caller := netip.MustParseAddr("::ffff:192.0.2.1")
		for _, test := range []struct {
			about string
			r     proxy.Restriction
			kind  error
			want  string
		}{
			{"no network", proxy.Restriction{IPv4: []string{"10.0.0.0/8", "ten"}}, proxy.ErrInvalidChange, `dbAllowedCidrs[1]: must be an address or a network such as 10.0.0.0/8, got "ten"`},
			{"host bits", proxy.Restriction{IPv4: []string{"10.0.0.1/8"}}, proxy.ErrInvalidChange, "dbAllowedCidrs[0]: has bits set"},
			{"a set", proxy.Restriction{IPv4: []string{"set(x)"}}, proxy.ErrInvalidChange, "dbAllowedCidrs[0]: must be a network"},
			{"IPv6 among IPv4", proxy.Restriction{IPv4: []string{"::/0"}}, proxy.ErrInvalidChange, "dbAllowedCidrs[0]: belongs into the other list"},
			{"IPv4 among IPv6", proxy.Restriction{IPv6: []string{"::1", "::ffff:10.0.0.0/104"}}, proxy.ErrInvalidChange, "dbAllowedCidrsV6[1]: belongs into the other list"},
			{"expired", proxy.Restriction{IPv4: []string{"10.0.0.0/8 until " + time.Now().Format(time.RFC3339)}}, proxy.ErrInvalidChange, "dbAllowedCidrs[0]: has expired"},
			{"empty", proxy.Restriction{}, proxy.ErrInvalidChange, "--allow-nobody"},
			{"the caller", proxy.Restriction{IPv4: []string{"10.0.0.0/8"}, Caller: caller}, proxy.ErrInvalidChange, "would shut out 192.0.2.1"},
			{"too long to confirm", proxy.Restriction{IPv4: []string{"10.0.0.0/8"}, ConfirmIn: 25 * time.Hour}, proxy.ErrInvalidChange, "confirmWithin"},
			{"another tenant", proxy.Restriction{Tenant: "Default", IPv4: []string{"10.0.0.0/8"}}, proxy.ErrUnknownTenant, `"Default"`},
		} {
			_, err := h.srv.Restrict(test.r)
			if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %v with %q", test.about, err, test.kind, test.want)
			}
		}
		if _, err := h.srv.Encrypt("", true, operator); !errors.Is(err, proxy.ErrInvalidChange) {
			t.Errorf("TLS without a certificate: %v", err)
		}
		if _, err := h.srv.Confirm("", operator); !errors.Is(err, proxy.ErrNothingPending) {
			t.Errorf("nothing to confirm: %v", err)
		}
		counts(h, "0.0.0.0/0", "::/0")
		if _, err := os.Lstat(h.srv.StateFile()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the state file: %v", err)
		}
		for _, r := range []proxy.Restriction{
			{IPv4: []string{"192.0.2.0/24"}, Caller: caller},
			{IPv4: []string{"10.0.0.0/8"}, Caller: caller, AllowCutoff: true},
			{IPv4: []string{"10.1.0.0/16"}, Caller: caller}, // it could not reach the tenant before
			{AllowNobody: true, Caller: caller},
		} {
			if _, err := h.srv.Restrict(r); err != nil {
				t.Errorf("Restrict(%+v): %v", r, err)
			}
		}
		counts(h)
		refusal(t, h.connect(sessionPort), "alice", "app", "x")
	})
}

func TestWhereTheConfigurationRulesTheAPIChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, _ *config.Tenant) { c.StateDir = filepath.Join(t.TempDir(), "state") })
		_, err := h.srv.Restrict(restriction("10.0.0.0/8"))
		if !errors.Is(err, proxy.ErrNotManaged) {
			t.Errorf("Restrict: %v, want ErrNotManaged", err)
		}
		if _, err := h.srv.Encrypt("", true, operator); !errors.Is(err, proxy.ErrNotManaged) {
			t.Errorf("Encrypt: %v, want ErrNotManaged", err)
		}
		counts(h, "0.0.0.0/0", "::/0")
	})
}

func TestRequiringTLSEndsSessionsWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cert, key := certificate(t)
		h := newHarness(t, pgscript.Options{}, func(c *config.Config, tenant *config.Tenant) {
			managed(dir)(c, tenant)
			c.TLS.CertFile, c.TLS.KeyFile = cert, key
		})
		c := h.login(transactionPort, "alice")
		e, err := h.srv.Encrypt("", true, operator)
		if err != nil || !e.Required || !e.Managed || e.Tenant != "default" {
			t.Fatalf("Encrypt = %+v, %v", e, err)
		}
		c.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		refusal(t, h.connect(transactionPort), "alice", "app", "x")
		err = h.srv.Reload(settings(managed(dir))) // without a certificate
		if err == nil || !strings.Contains(err.Error(), "tls.cert_file") {
			t.Errorf("Reload = %v, want an error that names tls.cert_file", err)
		}
		if _, err := h.srv.Encrypt("", false, operator); err != nil {
			t.Fatal(err)
		}
		query(t, h.login(transactionPort, "alice"), "SELECT 'x'", "x")
	})
}
