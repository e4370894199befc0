package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const observedByTwoTenants = `{"tenants": [
  {"tenant": "acme", "observe_transaction_mode": true, "since": "2026-01-02T03:04:05Z", "statements": 1200, "omitted": 3,
   "code": [{"database": "app", "function": "audit()"}],
   "effects": [
    {"database": "app", "role": "alice", "application_name": "", "effect": "pins_to_end", "reason": "load", "count": 1, "statement": "LOAD ?"},
    {"database": "app", "role": "alice", "application_name": "wor\u001b[1mker", "effect": "pins", "reason": "temp", "count": 20, "statement": "CREATE TEMP TABLE t (a int)"},
    {"database": "app", "role": "bob", "application_name": "web", "effect": "asks", "reason": "set", "count": 300, "statement": "SET app.user = ?"}]},
  {"tenant": "quiet", "observe_transaction_mode": true, "since": "2026-01-02T03:04:05Z", "statements": 7, "omitted": 0, "code": [], "effects": []},
  {"tenant": "other", "observe_transaction_mode": false, "statements": 0, "omitted": 0, "code": [], "effects": []}]}`

const reportOfTwoTenants = `tenant acme, observed since 2026-01-02T03:04:05Z: of 1200 statements 1 would keep a backend to the session's end on the transaction port, 20 while something is held, and 300 would cost a question; 3 more are not listed, for want of room
database app: any statement may run audit(), which may change the session; state_check says what follows
EFFECT       REASON  COUNT  DATABASE  ROLE   APPLICATION  STATEMENT
pins_to_end  load    1      app       alice  -            LOAD ?
pins         temp    20     app       alice  wor?[1mker   CREATE TEMP TABLE t (a int)
asks         set     300    app       bob    web          SET app.user = ?

tenant quiet, observed since 2026-01-02T03:04:05Z: none of 7 statements would cost anything on the transaction port

tenant other is not observed: set its observe_transaction_mode
`

// answering serves one answer where the report is, to whom has the token.
func answering(t *testing.T, code int, body string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet || r.URL.Path != "/api/v1/transaction-mode":
			t.Errorf("got %s %s, want GET /api/v1/transaction-mode", r.Method, r.URL.Path)
		case r.Header.Get("Authorization") != "Bearer s3cret":
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestReportOfTransactionMode(t *testing.T) {
	url := answering(t, http.StatusOK, observedByTwoTenants)
	t.Setenv(adminTokenEnv, "s3cret")
	t.Setenv(adminURLEnv, url)
	for _, args := range [][]string{nil, {"--admin", url}, {"--token", "s3cret"}} {
		got := command(t, "", append([]string{"report", "transaction-mode"}, args...)...)
		if diff := cmp.Diff(result{0, reportOfTwoTenants, ""}, got, cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", args, diff)
		}
	}
}

func TestReportSaysWhyThereIsNone(t *testing.T) {
	t.Setenv(adminTokenEnv, "")
	for _, c := range []struct {
		name, token, body string
		code              int
		want              string
	}{
		{"no token", "", "", 200, "--token or SLUICE_ADMIN_TOKEN must be its admin.token"},
		{"a wrong token", "wrong", "", 200, "--token or SLUICE_ADMIN_TOKEN must be its admin.token"},
		{"an error", "s3cret", `{"error": "internal error, see the log"}`, 500, "internal error, see the log"},
		{"an older Sluice", "s3cret", "404 page not found", 404, "404 Not Found"},
		{"somewhere else", "s3cret", "", 302, "302 Found"},
		{"something else", "s3cret", "<html>", 200, "invalid character"},
	} {
		got := command(t, "", "report", "transaction-mode", "--admin", answering(t, c.code, c.body), "--token", c.token)
		if got.code != 1 || got.out != "" || !strings.HasPrefix(got.stderr, "sluice: ask 127.0.0.1:") || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%s: got %+v, want exit code 1 and one line with %q", c.name, got, c.want)
		}
	}
}
