package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/auth/scram"
	"sluice/internal/config"
)

func TestWrongArgumentsExitWithTwoAndOneLine(t *testing.T) {
	t.Setenv(databaseURLEnv, "")
	cases := []struct {
		args []string
		want string // in the line
	}{
		{nil, "a command is missing, one of bans, check, demo, doctor, hash-password, network-restrictions, report, serve, ssl-enforcement, version"},
		{[]string{"serv"}, `unknown command "serv" for "sluice"; did you mean serve?`},
		{[]string{"frobnicate", "--config", "x"}, `unknown command "frobnicate"`},
		{[]string{"--frobnicate"}, "unknown flag: --frobnicate\n"},
		{[]string{"serve", "--confg", "x"}, "unknown flag: --confg; did you mean --config?\n"},
		{[]string{"check", "--hepl"}, "unknown flag: --hepl; did you mean --help?\n"},
		{[]string{"bans", "list", "--tokn=secret"}, "unknown flag: --tokn; did you mean --token?\n"},
		{[]string{"help", "frobnicate"}, `unknown command "frobnicate" for "sluice"` + "\n"},
		{[]string{"help", "chek"}, `unknown command "chek" for "sluice"; did you mean check?` + "\n"},
		{[]string{"help", "serve", "more"}, `unknown argument "more"`},
		{[]string{"version", "more"}, `unknown argument "more"`},
		{[]string{"serve"}, "--config or --database-url is needed, or the variable DATABASE_URL"},
		{[]string{"serve", "--config", "a", "--database-url", "b"}, "--config and --database-url: only one"},
		{[]string{"serve", "--config", ""}, "--config: must name a file"},
		{[]string{"serve", "--database-url", ""}, "--database-url: must be a URL"},
		{[]string{"serve", "--database-url", "mysql://secret@host/db"}, "database URL: must start with postgres://"},
		{[]string{"serve", "--config"}, "flag needs an argument: --config"},
		{[]string{"serve", "sluice.yaml"}, `unknown argument "sluice.yaml"`},
		{[]string{"check"}, "--config: must name a file"},
		{[]string{"check", "--live"}, "--config: must name a file"},
		{[]string{"demo", "--duration", "soon"}, `"soon" for "--duration"`},
		{[]string{"demo", "--duration", "-1s"}, "--duration: must not be negative"},
		{[]string{"demo", "--max-backends", "1"}, "--max-backends: must be at least 10, got 1"},
		{[]string{"hash-password", "--iterations", "0"}, "--iterations: must be between 1 and 10000000, got 0"},
		{[]string{"hash-password", "--iterations", "many"}, `"many" for "--iterations"`},
		{[]string{"healthcheck", "--admin", "127.0.0.1:9930"}, "--admin: must be a URL"},
		{[]string{"network-restrictions"}, "a command is missing, one of get, plan, update; sluice network-restrictions --help"},
		{[]string{"network-restrictions", "got"}, `unknown command "got" for "sluice network-restrictions"; did you mean get?` + "\n"},
		{[]string{"network-restrictions", "get", "x"}, `unknown argument "x"`},
		{[]string{"network-restrictions", "get", "--admin", "127.0.0.1:9930"}, "--admin: must be a URL"},
		{[]string{"network-restrictions", "get", "--admin", "http://db.example:9930"}, "--admin: must begin with https"},
		{[]string{"network-restrictions", "plan"}, "--db-allow-cidr: at least one network is needed, or --allow-nobody"},
		{[]string{"network-restrictions", "update"}, "--db-allow-cidr: at least one network is needed, or --allow-nobody"},
		{[]string{"network-restrictions", "update", "--db-allow-cidr", "10.0.0.0/8,ten"}, `--db-allow-cidr: must be an address or a network such as 10.0.0.0/8, got "ten"`},
		{[]string{"network-restrictions", "update", "10.0.0.0/8", "--confirm"}, "--confirm: goes alone"},
		{[]string{"network-restrictions", "update", "10.0.0.0/8", "--confirm-within", "1ms"}, "--confirm-within: must be at least 1s"},
		{[]string{"network-restrictions", "update", "10.0.0.0/8", "--confirm-within", "soon"}, `"soon" for "--confirm-within"`},
		{[]string{"ssl-enforcement", "update"}, "--enable-db-ssl-enforcement or --disable-db-ssl-enforcement: one of them is needed"},
		{[]string{"ssl-enforcement", "update", "--enable-db-ssl-enforcement", "--disable-db-ssl-enforcement"}, "one of them is needed"},
		{[]string{"report"}, "a command is missing, one of tls, transaction-mode; sluice report --help"},
		{[]string{"report", "frobnicate"}, `unknown command "frobnicate" for "sluice report"` + "\n"},
		{[]string{"report", "transaction-mode", "more"}, `unknown argument "more"`},
		{[]string{"report", "transaction-mode", "--admin", "/run/sluice"}, "--admin: must be a URL"},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			got := command(t, "", c.args...)
			if got.code != 2 {
				t.Errorf("got exit code %d, want 2", got.code)
			}
			if got.out != "" {
				t.Errorf("got %q on stdout, want nothing", got.out)
			}
			if strings.Count(got.stderr, "\n") != 1 || !strings.HasPrefix(got.stderr, "sluice: ") || !strings.Contains(got.stderr, c.want) {
				t.Errorf("got %q, want one line of sluice: with %q", got.stderr, c.want)
			}
			if strings.Contains(got.stderr, "secret") {
				t.Errorf("got %q, which has a part of the URL that may be secret", got.stderr)
			}
		})
	}
}

func TestHelpIsNoError(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--help"}, {"help"}, {"help", "serve"}, {"serve", "-h"}} {
		got := command(t, "", args...)
		if got.code != 0 || got.stderr != "" || !strings.Contains(got.out, "Usage:") {
			t.Errorf("sluice %q: got exit code %d, stdout %q, stderr %q, want help on stdout", args, got.code, got.out, got.stderr)
		}
		if strings.Contains(got.out, "healthcheck") {
			t.Errorf("sluice %q: got %q, want the healthcheck hidden", args, got.out)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"--version"}} {
		got := command(t, "", args...)
		if got.code != 0 || !strings.HasPrefix(got.out, "sluice v1.2.3") || strings.Count(got.out, "\n") != 1 {
			t.Errorf("sluice %q: got %+v, want a line with v1.2.3", args, got)
		}
	}
}

func TestBuildVersionPrefersTheLinkers(t *testing.T) {
	t.Parallel()
	if got := buildVersion("v9"); got != "v9" {
		t.Errorf("got %q, want v9", got)
	}
	if got := buildVersion(""); got == "" {
		t.Error("got an empty version, want a word for not knowing it")
	}
}

func TestEveryJoinedErrorHasItsLineWithWhatIsAroundIt(t *testing.T) {
	t.Parallel()
	one, two := errors.New("one"), errors.New("two")
	cases := []struct {
		err  error
		want []string
	}{
		{one, []string{"one"}},
		{errors.Join(one, two), []string{"one", "two"}},
		{fmt.Errorf("tls: %w", errors.Join(one, two)), []string{"tls: one", "tls: two"}},
		{errors.Join(fmt.Errorf("a: %w", errors.Join(one, two)), two), []string{"a: one", "a: two", "two"}},
		{fmt.Errorf("%w and %w", one, two), []string{"one and two"}},
		{fmt.Errorf("(%w)", errors.Join(one, two)), []string{"(one", "two)"}},
		{errors.New("one\n\ntwo"), []string{"one", "two"}},
	}
	for _, c := range cases {
		if diff := cmp.Diff(c.want, lines(c.err)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.err, diff)
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("broken"), 1},
		{usagef("wrong"), 2},
		{fmt.Errorf("start: %w", &config.Error{}), 2},
		{fmt.Errorf("start: %w", &unusableError{}), 2},
	}
	for _, c := range cases {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}

func TestHashPasswordFromAPipe(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, stdin, password string
		args                  []string
		iterations            int
	}{
		{"a line", "correct horse\n", "correct horse", nil, scram.DefaultIterations},
		{"no line end", "correct horse", "correct horse", nil, scram.DefaultIterations},
		{"a line of Windows", "correct horse\r\n", "correct horse", nil, scram.DefaultIterations},
		{"blanks count", "  x \n", "  x ", nil, scram.DefaultIterations},
		{"iterations", "x\n", "x", []string{"--iterations", "10000"}, 10000},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := command(t, c.stdin, append([]string{"hash-password"}, c.args...)...)
			if got.code != 0 || got.stderr != "" {
				t.Fatalf("got exit code %d, stderr %q, want success", got.code, got.stderr)
			}
			text, _ := strings.CutSuffix(got.out, "\n")
			verifier, err := scram.ParseVerifier(text)
			if err != nil {
				t.Fatalf("%q: %v", got.out, err)
			}
			want, err := scram.NewVerifier(c.password, verifier.Salt, c.iterations)
			if err != nil {
				t.Fatal(err)
			}
			if text != want.String() {
				t.Errorf("got %s, want %s", text, want.String())
			}
			if again := command(t, c.stdin, "hash-password"); again.out == got.out {
				t.Error("got the same verifier twice, want another salt")
			}
		})
	}
}

func TestHashPasswordLikeAnOldVerifier(t *testing.T) {
	t.Parallel()
	old, err := scram.NewVerifier("old", scram.NewSalt(), 100)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "old.txt")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, text := range []string{old.String(), "\"app\" \"" + old.String() + "\"\n"} {
		got := command(t, "new\n", "hash-password", "--like", write(text))
		v, err := scram.ParseVerifier(strings.TrimSpace(got.out))
		if got.code != 0 || err != nil || !v.SameSalt(old) || v.StoredKey == old.StoredKey {
			t.Errorf("exit code %d, %q: want another verifier with the same salt", got.code, got.stderr)
		}
	}
	for text, want := range map[string]string{
		"":                                   "must hold one verifier, and holds 0",
		"secret":                             "must hold one verifier, and holds 0",
		old.String() + "\n" + old.String():   "must hold one verifier, and holds 2",
		"SCRAM-SHA-256$0:c2FsdA==$eA==:eA==": "malformed SCRAM verifier",
	} {
		got := command(t, "new\n", "hash-password", "--like", write(text))
		if got.code != 2 || got.out != "" || !strings.Contains(got.stderr, want) || text != "" && strings.Contains(got.stderr, text) {
			t.Errorf("%q: %+v, want exit code 2 and %q", text, got, want)
		}
	}
	if got := command(t, "new\n", "hash-password", "--like", filepath.Join(t.TempDir(), "none")); got.code != 2 {
		t.Errorf("no such file: %+v", got)
	}
}

func TestHashPasswordRefusesWhatIsNoPassword(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, stdin, want string }{
		{"nothing", "", "empty"},
		{"an empty line", "\n", "empty"},
		{"two lines", "one\ntwo\n", "more than one line"},
		{"zero byte", "a\x00b\n", "zero byte"},
		{"far too long", strings.Repeat("x", maxPasswordBytes+1), "longer than"},
	}
	for _, c := range cases {
		got := command(t, c.stdin, "hash-password")
		if got.code != 2 || got.out != "" || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%s: got %+v, want exit code 2 and %q", c.name, got, c.want)
		}
	}
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, body string
		status     int
		code       int
		want       string // on stderr
	}{
		{"healthy", `{"state": "healthy"}`, 200, 0, ""},
		{"degraded still serves", `{"state": "degraded"}`, 200, 0, ""},
		{"unhealthy", `{"state": "unhealthy"}`, 503, 1, "sluice: healthcheck: unhealthy\n"},
		{"draining", `{"state": "draining"}`, 503, 1, "sluice: healthcheck: draining\n"},
		{"something else answers", "<html>", 404, 1, "sluice: healthcheck: 404 Not Found\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.Path != "/readyz" {
					t.Errorf("got %s %s, want GET /readyz", r.Method, r.URL.Path)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer server.Close()
			got := command(t, "", "healthcheck", "--admin", server.URL)
			if got.code != c.code || got.stderr != c.want {
				t.Errorf("got exit code %d, stderr %q, want %d, %q", got.code, got.stderr, c.code, c.want)
			}
		})
	}
}

func TestHealthcheckFailsWhereNobodyAnswers(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	t.Setenv(adminURLEnv, server.URL+"/")
	got := command(t, "", "healthcheck")
	if got.code != 1 || !strings.HasPrefix(got.stderr, "sluice: healthcheck: ") || !strings.Contains(got.stderr, "refused") {
		t.Errorf("got %+v, want exit code 1 and a refused connection", got)
	}
}

// writeFiles writes files into a new folder and returns it.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCheckPrintsEveryProblemWithItsLineAndKey(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		files map[string]string
		code  int
		want  []string // with FILE for the file
	}{
		{"good", map[string]string{
			"sluice.yaml": "tenants:\n  - auth: {users_file: users.txt}\n",
			"users.txt":   "\"app\" \"secret\"\n",
		}, 0, []string{"FILE: ok", "FILE: tenants[0].service: no role, so on the transaction port each client that has run LISTEN keeps a backend"}},
		{"good, with a service login", map[string]string{
			"sluice.yaml": "tenants:\n  - auth: {users_file: users.txt}\n    service: {role: service, password: secret}\n",
			"users.txt":   "\"app\" \"secret\"\n",
		}, 0, []string{"FILE: ok"}},
		{"good, without a transaction port", map[string]string{
			"sluice.yaml": "listeners: [{name: a, address: \"127.0.0.1:5432\", mode: session}]\ntenants:\n  - auth: {users_file: users.txt}\n",
			"users.txt":   "\"app\" \"secret\"\n",
		}, 0, []string{"FILE: ok"}},
		{"wrong keys and values", map[string]string{
			"sluice.yaml": "frobnicate: 1\nlimits: {max_clients: many}\ntenants:\n  - pool_size: 0\n    auth: {method: trust}\n",
		}, 2, []string{"FILE:1: frobnicate: ", "FILE:2: limits.max_clients: ", "FILE:4: tenants[0].pool_size: "}},
		{"files that cannot be used", map[string]string{
			"sluice.yaml": "tls: {cert_file: none.crt, key_file: none.key}\nadmin: {cert_file: no.crt, key_file: no.key}\n" +
				"tenants:\n  - auth: {users_file: users.txt}\n",
			"users.txt": "app secret\n",
		}, 2, []string{"FILE: tls: cert_file: ", "FILE: tenants[0].auth.users_file: ", "FILE: admin: cert_file: "}},
		{"no file", nil, 2, []string{"FILE: read: "}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(writeFiles(t, c.files), "sluice.yaml")
			got := command(t, "", "check", "--config", file)
			if got.code != c.code {
				t.Errorf("got exit code %d, want %d", got.code, c.code)
			}
			lines := strings.Split(strings.TrimSuffix(got.out+got.stderr, "\n"), "\n")
			for i, want := range c.want {
				want = strings.ReplaceAll(want, "FILE", file)
				if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
					t.Errorf("line %d: got %q, want one that begins with %q", i+1, slices.Concat(lines, make([]string, i+1))[i], want)
				}
			}
			if len(lines) != len(c.want) {
				t.Errorf("got %q, want %d lines", lines, len(c.want))
			}
		})
	}
}

func TestServeRefusesWhatCheckRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(writeFiles(t, map[string]string{
		"sluice.yaml": "listeners: [{name: a, address: \"127.0.0.1:0\", mode: session}]\nadmin: {address: \"\"}\n" +
			"tls: {cert_file: none.crt, key_file: none.key}\ntenants:\n  - auth: {users_file: users.txt}\n",
		"users.txt": "app secret\n",
	}), "sluice.yaml")
	checked, served := command(t, "", "check", "--config", file), command(t, "", "serve", "--config", file)
	if served.code != 2 || !strings.HasSuffix(served.stderr, checked.stderr) || checked.stderr == "" {
		t.Errorf("got %+v, want what check says: %+v", served, checked)
	}
}

func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	before, after := config.Default(), config.Default()
	if got := needRestart(&before, &after); got != nil {
		t.Errorf("got %q, want nothing", got)
	}
	after.Admin.Address, after.Log.Format, after.Log.Level = "127.0.0.1:9931", "json", "debug"
	if diff := cmp.Diff([]string{"admin.address", "log.format"}, needRestart(&before, &after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDescriptorsAreCountedForClientsAndBackends(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Limits.MaxClients = 5000
	c.Tenants[0].MaxBackends = config.AutoInt{N: 60}
	if got, want := descriptorsNeeded(&c), uint64(5000+60+ownDescriptors); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
}
