package auth

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func writeUsers(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadUsersReadsUserlistFormat(t *testing.T) {
	t.Parallel()
	_, hash, verifier := stored(t)
	u, err := LoadUsers(writeUsers(t, strings.Join([]string{
		"; a comment", "# another", "", "  \t",
		`"alice" "correct horse"`,
		`  "Alice"	  "` + hash + `"  ` + "\r",
		`"with ""quotes"" and ; and #" "se""cret"`,
		`"verified" "` + verifier + `"`,
		`"none" ""`,
	}, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"alice": password, "Alice": hash, `with "quotes" and ; and #`: `se"cret`, "verified": verifier}
	for name, text := range want {
		e, err := u.Lookup(t.Context(), name)
		if err != nil || e.Secret.text() != text || !e.ValidUntil.IsZero() {
			t.Errorf("%q: %q, %v; want %q", name, e.Secret.text(), err, text)
		}
	}
	if e, err := u.Lookup(t.Context(), "none"); err != nil || !e.Secret.IsZero() {
		t.Errorf("none: %v", err)
	}
	if len(u.entries) != len(want)+1 {
		t.Errorf("%d roles, want %d", len(u.entries), len(want)+1)
	}
	_, err = u.Lookup(t.Context(), "ALICE")
	wantErr(t, err, ErrUnknownRole)
}

func TestLoadUsersReportsEveryBrokenLineAndNoSecret(t *testing.T) {
	t.Parallel()
	path := writeUsers(t, strings.Join([]string{
		`"alice" "hidden1"`,
		`bob "hidden2"`,
		`"bob" hidden3`,
		`"bob`,
		`"bob" "hidden4`,
		`"hidden5"`,
		`"bob""hidden6"`,
		`"bob"x"hidden7"`,
		`"bob" "x" "hidden8"`,
		`"alice" "hidden9"`,
		`"" "hidden10"`,
		`"bob" "SCRAM-SHA-256$hidden11"`,
		`"bob" "hidden12"`,
		"\"carol\" \"hidden\x00\"",
		"\"ca\x00rol\" \"hidden\"",
		`"fine" "x"`,
		`"twice" "x"`, `"twice" "hidden13" until 2026-12-31T18:00:00Z`, `"twice" "hidden14" until 2027-12-31T18:00:00Z`,
		`"never" ""`, `"never" "hidden15" until 2026-12-31T18:00:00Z`,
		`"soon" "hidden16" until tomorrow`, `"soon" "hidden17" 2026-12-31T18:00:00Z`, `"soon" "hidden18"until 2026-12-31T18:00:00Z`,
	}, "\n"))
	_, err := LoadUsers(path)
	var broken *UsersError
	if !errors.As(err, &broken) {
		t.Fatalf("got %v, want a UsersError", err)
	}
	want := []LineProblem{
		{2, "role: does not begin with a double quote"},
		{3, "secret: does not begin with a double quote"},
		{4, "role: no closing double quote"},
		{5, "secret: no closing double quote"},
		{6, "no secret behind the role"},
		{7, "no secret behind the role"},
		{8, "secret: does not begin with a double quote"},
		{9, `role "bob": behind the secret only until and a time can stand, such as until 2026-12-31T18:00:00Z`},
		{10, `role "alice" is on line 1 already: of two secrets one must have an end, until which both are good`},
		{11, "empty role"},
		{12, `secret of role "bob": malformed SCRAM verifier: not of the form iterations:salt$StoredKey:ServerKey`},
		{14, `secret of role "carol": zero byte in it`},
		{15, "role with a zero byte"},
		{19, `role "twice" is on lines 17 and 18 already`},
		{21, `role "never" is on line 20 already: one of two secrets is empty`},
		{22, `role "soon": behind the secret only until and a time can stand, such as until 2026-12-31T18:00:00Z`},
		{23, `role "soon": behind the secret only until and a time can stand, such as until 2026-12-31T18:00:00Z`},
		{24, `role "soon": behind the secret only until and a time can stand, such as until 2026-12-31T18:00:00Z`},
	}
	if diff := cmp.Diff(&UsersError{Path: path, Problems: want}, broken); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if strings.Contains(err.Error(), "hidden") || !strings.Contains(err.Error(), "; line 3: secret") {
		t.Errorf("error text %q", err)
	}
}

func TestLoadUsersSaysThatTheFileIsMissing(t *testing.T) {
	t.Parallel()
	_, err := LoadUsers(filepath.Join(t.TempDir(), "none"))
	wantErr(t, err, fs.ErrNotExist)
}

func TestChainAsksInOrder(t *testing.T) {
	t.Parallel()
	first, second := mustSecret(t, "first"), mustSecret(t, "second")
	failing := errors.New("down")
	for _, tc := range []struct {
		chain Chain
		want  Secret
		err   error
	}{
		{Chain{fixed{entry: Entry{Secret: first}}, fixed{entry: Entry{Secret: second}}}, first, nil},
		{Chain{fixed{err: ErrUnknownRole}, fixed{entry: Entry{Secret: second}}}, second, nil},
		{Chain{fixed{err: failing}, fixed{entry: Entry{Secret: second}}}, Secret{}, failing},
		{Chain{fixed{err: ErrUnknownRole}}, Secret{}, ErrUnknownRole},
		{nil, Secret{}, ErrUnknownRole},
	} {
		e, err := tc.chain.Lookup(t.Context(), role)
		if !errors.Is(err, tc.err) || !e.Secret.Equal(tc.want) {
			t.Errorf("%v: got %v, want %v", tc.chain, err, tc.err)
		}
	}
}

func FuzzParseUsers(f *testing.F) {
	for _, s := range []string{"\"a\" \"b\"\n", ";x\n#y\n\n\"a\"\"b\" \"\"", `"a" "SCRAM-SHA-256$1:c2FsdA==$x:y"`, "\"a\t\"\r\n\"b\" \"c\" x",
		"\"a\" \"b\" until 2026-12-31T18:00:00Z\n\"a\" \"c\"\n", "\"a\" \"b\"until 2026-12-31T18:00:00+01:00\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		u, problems := parseUsers(text)
		lines := strings.Count(string(text), "\n") + 1
		if len(u.entries)+len(problems) > lines {
			t.Fatalf("%d roles and %d problems in %d lines", len(u.entries), len(problems), lines)
		}
		last := 0
		for _, p := range problems {
			if p.Line <= last || p.Line > lines || strings.ContainsAny(p.Problem, "\n\x00") {
				t.Fatalf("problem %+v after line %d of %d", p, last, lines)
			}
			last = p.Line
		}
		// What was read is written so that it reads the same.
		quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		line := func(name string, s Secret, until time.Time) string {
			text := ""
			if !s.IsZero() {
				text = s.text()
			}
			if text = quote(name) + " " + quote(text); !until.IsZero() {
				text += " until " + until.Format(time.RFC3339Nano)
			}
			return text + "\n"
		}
		for name, e := range u.entries {
			if strings.ContainsAny(name, "\n") {
				t.Fatalf("role %q", name)
			}
			written := line(name, e.Secret, e.ValidUntil)
			if !e.Also.IsZero() {
				written += line(name, e.Also, e.AlsoUntil)
			}
			again, problems := parseUsers([]byte(written))
			got := again.entries[name]
			if problems != nil || !got.Secret.Equal(e.Secret) || !got.Also.Equal(e.Also) ||
				!got.ValidUntil.Equal(e.ValidUntil) || !got.AlsoUntil.Equal(e.AlsoUntil) {
				t.Fatalf("%q does not read back: %v", name, problems)
			}
		}
	})
}
