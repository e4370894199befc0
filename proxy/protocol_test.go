package proxy

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

func TestNegotiationNamesTheVersionThatIsSpoken(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		version uint32
		unknown []string
		want    uint32 // 0: none is owed
		key     int
	}{
		{wire.Version30, nil, 0, 4},
		{3<<16 | 1, nil, 0, 4},
		{wire.Version32, nil, 0, 32},
		{3<<16 | 3, nil, wire.Version32, 32},
		{3<<16 | 9999, nil, wire.Version32, 32},
		{wire.Version30, []string{"_pq_.x"}, wire.Version30, 4},
		{wire.Version32, []string{"_pq_.x"}, wire.Version32, 32},
		{3<<16 | 9999, []string{"_pq_.x", "_pq_.y"}, wire.Version32, 32},
	} {
		got := negotiation(&wire.Request{Version: tc.version}, &startup{unknown: tc.unknown})
		m, owed := got.(*pgproto3.NegotiateProtocolVersion)
		switch {
		case owed != (tc.want != 0):
			t.Errorf("version %#x, unknown %q: got %v, want one %t", tc.version, tc.unknown, got, tc.want != 0)
		case owed && (m.NewestMinorProtocol != tc.want || !slices.Equal(m.UnrecognizedOptions, tc.unknown)):
			t.Errorf("version %#x, unknown %q: got %#x, %q, want %#x", tc.version, tc.unknown, m.NewestMinorProtocol, m.UnrecognizedOptions, tc.want)
		}
		if n := keyLength(tc.version); n != tc.key {
			t.Errorf("version %#x: a key of %d bytes, want %d", tc.version, n, tc.key)
		}
	}
}

func TestReplicationIsWhatPostgresTakesForIt(t *testing.T) {
	t.Parallel()
	for value, refused := range map[string]bool{
		"": false, "false": false, "FALSE": false, "f": false, "fal": false, "off": false, "of": false, "no": false, "n": false, "0": false,
		"true": true, "on": true, "1": true, "yes": true, "database": true, "o": true, "falsey": true, "x": true,
	} {
		r := &wire.Request{Version: wire.Version30, Params: []wire.Param{{Name: "user", Value: "alice"}, {Name: "replication", Value: value}}}
		_, e := parseStartup(r)
		if (e != nil) != refused || e != nil && (e.reason != ReasonFeatureNotSupported || reasons[e.reason].hint == "") {
			t.Errorf("replication=%s: %v, want refused %t", value, e, refused)
		}
	}
}

func FuzzParseStartup(f *testing.F) {
	f.Add("user", "alice", "options", "-c search_path=a\\ b --sluice.tenant=x reference=y")
	f.Add("user", "alice.tenant", "replication", "database")
	f.Add("_pq_.x", "1", "user", "a")
	f.Add("application_name", "\x01\xff", "user", "a")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		r := &wire.Request{Version: wire.Version32, Params: []wire.Param{{Name: name1, Value: value1}, {Name: name2, Value: value2}}}
		st, e := parseStartup(r)
		if e != nil {
			if e.response() == nil {
				t.Errorf("refused without an answer: %v", e)
			}
			return
		}
		if st.user == "" || len(st.application) > maxApplication {
			t.Errorf("user %q, application %q", st.user, st.application)
		}
		for _, p := range st.params {
			if p.Name == "user" || p.Name == "database" || len(p.Name) >= 5 && p.Name[:5] == "_pq_." {
				t.Errorf("parameter %q goes to Postgres", p.Name)
			}
		}
	})
}
