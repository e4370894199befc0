package proxy

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/netpolicy"
)

// FuzzDecodeSaved: no state file makes the decoder panic, and what is decoded is written as something that means the same.
func FuzzDecodeSaved(f *testing.F) {
	for _, text := range []string{
		`{"version": 1, "tenants": []}`, `{"version": 2}`, `{"version": 1, "tenants": [{"name": "a", "ssl_enforcement": {"required": true}}]}`,
		`{"version": 1, "tenants": [{"name": "a", "network": {"allowed_cidrs": ["10.0.0.0/8 until 2026-12-31T18:00:00Z # x"], "before": [null], "pending": "2026-01-01T00:00:00Z"}}]} x`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sv, err := decodeSaved(data)
		if err != nil {
			return
		}
		written := sv.encode()
		again, err := decodeSaved(written)
		if err != nil {
			t.Fatalf("%s is written as %s, which is refused: %v", data, written, err)
		}
		if !bytes.Equal(again.encode(), written) {
			t.Errorf("%s is written as %s and then as %s", data, written, again.encode())
		}
		_, _ = sv.rolledBack(sv.due())
	})
}

func TestStateThatMeansNothingIsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                                "is not JSON",
		`{}`:                              "has version 0",
		`{"version": 1, "more": 2}`:       "unknown field",
		`{"version": 1} {}`:               "is not JSON",
		`{"version": 1, "tenants": [{}]}`: `tenant "": empty or twice`,
		`{"version": 1, "tenants": [{"name": "a", "network": {"changed_by": "x"}}]}`:                     "no allowed_cidrs",
		`{"version": 1, "tenants": [{"name": "a", "network": {"allowed_cidrs": [null]}}]}`:               "an entry without a network",
		`{"version": 1, "tenants": [{"name": "a", "network": {"allowed_cidrs": [], "before": [null]}}]}`: "an entry without a network",
		`{"version": 1, "tenants": [{"name": "a", "network": {"allowed_cidrs": ["10.0.0.0/33"]}}]}`:      "must be an address or a network",
		`{"version": 1, "tenants": [{"name": "a"}, {"name": "a"}]}`:                                      `tenant "a": empty or twice`,
	} {
		if _, err := decodeSaved([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	h := newHistory()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	addr := netip.MustParseAddr("10.0.0.0")
	client := func(addr netip.Addr) *facts {
		return &facts{addr: netip.AddrPortFrom(addr, 1), destination: &destination{role: "r", tenant: "t"}}
	}
	first := client(addr)
	h.note(first, now)
	for range maxHistory {
		addr = addr.Next()
		h.note(client(addr), now)
		h.note(first, now) // seen again and again, so that others go before it
	}
	all := h.all()
	if len(all) != maxHistory || len(h.byKey) != maxHistory {
		t.Errorf("%d entries and %d keys, want %d", len(all), len(h.byKey), maxHistory)
	}
	if got := all[0].peer.Addr; got != first.addr.Addr() {
		t.Errorf("the last seen is %s, want %s", got, first.addr.Addr())
	}
	if got := all[len(all)-1].peer.Addr.String(); got != "10.0.0.2" {
		t.Errorf("the first seen is %s, want 10.0.0.2", got)
	}
	h.note(&facts{unix: true, destination: new(destination)}, now)
	if got := len(h.all()); got != maxHistory {
		t.Errorf("a client on a Unix socket is remembered")
	}
}

func TestAuditIsOpenedAnewAndTellsWhenItCannotBeWritten(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := newAudit(slog.New(slog.NewTextHandler(&log, nil)))
	a.note("nobody listens")
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	for _, event := range []string{"one", "two"} {
		f, err := openAudit(path)
		if err != nil {
			t.Fatal(err)
		}
		a.use(f)
		a.note(event, "quoted", "a\nb")
		if err := os.Rename(path, path+"."+event); err != nil { // as logrotate does
			t.Fatal(err)
		}
		data, err := os.ReadFile(path + "." + event)
		if err != nil || strings.Count(string(data), "\n") != 1 || !strings.Contains(string(data), `"event":"`+event+`","quoted":"a\nb"`) {
			t.Errorf("%s: %q, %v", event, data, err)
		}
		if info, err := os.Stat(path + "." + event); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", event, info.Mode(), err)
		}
	}
	_ = a.file.Close()
	a.note("three")
	a.note("four")
	if got := strings.Count(log.String(), "audit log cannot be written"); got != 1 {
		t.Errorf("told %d times that it cannot be written, want once:\n%s", got, log.String())
	}
	if _, err := openAudit(t.TempDir()); err == nil || !strings.Contains(err.Error(), "log.audit") {
		t.Errorf("a folder: %v, want an error that names the key", err)
	}
}

// FuzzDecodeRecords: no file of bans or of the history makes the decoders panic, and what is taken means something.
func FuzzDecodeRecords(f *testing.F) {
	for _, text := range []string{
		`{"version": 1, "bans": []}`, `{"version": 2}`,
		`{"version": 1, "bans": [{"tenant": "a", "network": "2001:db8::/64", "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z", "failures": 3, "reason": "x"}]}`,
		`{"version": 1, "began": "2026-01-01T00:00:00Z", "clients": [{"tenant": "a", "role": "r", "database": "d", "mode": "session", "tls": true, "address": "10.0.0.1", "seen": "2026-01-01T00:00:00Z"}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var bans savedBans
		if decodeRecord(data, &bans) == nil && bans.check() == nil {
			list := make([]netpolicy.Ban, len(bans.Bans))
			for i, b := range bans.Bans {
				list[i] = netpolicy.Ban(b)
			}
			g := netpolicy.NewGuard(netpolicy.Limits{After: 1, Window: time.Minute, For: time.Hour})
			g.Restore(list, time.Time{})
			if got := len(g.Bans(time.Time{})); got > len(list) {
				t.Errorf("%d bans of %d", got, len(list))
			}
		}
		var seen savedHistory
		if decodeRecord(data, &seen) == nil && seen.check() == nil {
			h := newHistory()
			h.restore(&seen)
			if got := len(h.all()); got > len(seen.Clients) {
				t.Errorf("%d clients of %d", got, len(seen.Clients))
			}
		}
	})
}
