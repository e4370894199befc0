package auth

import (
	"strings"
	"testing"
)

func mustMap(t testing.TB, lines ...IdentLine) *IdentMap {
	t.Helper()
	m, err := NewIdentMap(lines)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestIdentMap(t *testing.T) {
	t.Parallel()
	people := mustMap(t, IdentLine{`/(.*)@example\.com`, `\1`}, IdentLine{"root@example.org", "admin"}, IdentLine{"root@example.org", "alice"},
		IdentLine{`/ops-[0-9]+`, "operator"}, IdentLine{`/(?i)CASE-(x|xy)`, `p_\1_\1`}, IdentLine{`/(a)?b`, `\1`}, IdentLine{`/first|second`, "either"}, IdentLine{`/(dev)?(-x)`, `\1admin`})
	for _, tc := range []struct {
		m              *IdentMap
		identity, role string
		want           bool
	}{
		{nil, "alice", "alice", true},
		{nil, "alice", "bob", false},
		{nil, "", "", false},
		{mustMap(t), "alice", "alice", false}, // a map without lines lets nobody in
		{people, "alice@example.com", "alice", true},
		{people, "alice@example.com", "bob", false},
		{people, "alice@example.com", "alice@example.com", false},
		{people, "alice@example.com.evil.org", "alice", false}, // all of it must match
		{people, "x\nalice@example.com", "alice", false},
		{people, "alice@exampleXcom", "alice", false},
		{people, "@example.com", "", false},
		{people, "root@example.org", "admin", true}, // one identity may have several roles
		{people, "root@example.org", "alice", true},
		{people, "root@example.org", "root", false},
		{people, "ROOT@example.org", "admin", false},
		{people, "ops-17", "operator", true},
		{people, "ops-", "operator", false},
		{people, "devops-17", "operator", false},
		{people, "case-xy", "p_xy_xy", true},
		{people, "b", "", false},
		{people, "first", "either", true},
		{people, "second", "either", true},
		{people, "first and more", "either", false}, // the alternatives are held together
		{people, "or second", "either", false},
		{people, `/ops-[0-9]+`, "operator", false},
		{people, "dev-x", "devadmin", true},
		{people, "-x", "admin", false}, // the group that the role refers to has matched nothing, which Postgres refuses
	} {
		if got := tc.m.Allows(tc.identity, tc.role); got != tc.want {
			t.Errorf("%q as %q: %t, want %t", tc.identity, tc.role, got, tc.want)
		}
	}
}

func TestIdentMapNamesTheLineThatIsWrong(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]IdentLine{
		"no identity":                   {"", "alice"},
		"or no role":                    {"alice", ""},
		"missing closing )":             {"/(", "alice"},
		"unexpected )":                  {"/a)(?:b", "alice"}, // what is put around must not make it one
		"needs a group":                 {"/.*", `\1`},
		"that is a regular expression":  {"alice", `x\1`},
		"invalid or unsupported Perl s": {"/(?=x)", "alice"},
	} {
		_, err := NewIdentMap([]IdentLine{{"a", "a"}, l})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "line 2 ") {
			t.Errorf("%+v: %v, want %q in line 2", l, err, want)
		}
	}
}

// FuzzIdentMap: whatever a certificate says, an expression admits as its first group only what it matches as a whole.
func FuzzIdentMap(f *testing.F) {
	m := mustMap(f, IdentLine{`/([a-z]+)@example\.com`, `\1`})
	f.Add("alice@example.com", "alice")
	f.Add("alice@example.com\n", "alice")
	f.Add("\xff@example.com", "\xff")
	f.Fuzz(func(t *testing.T, identity, role string) {
		name, is := strings.CutSuffix(identity, "@example.com")
		want := is && name == role && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz") == ""
		if got := m.Allows(identity, role); got != want {
			t.Errorf("%q as %q: %t, want %t", identity, role, got, want)
		}
	})
}
