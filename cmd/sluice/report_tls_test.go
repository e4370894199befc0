package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const loginsOfTwoTenants = `{"tenants": [
  {"tenant": "acme", "tls_enforcement": "warn", "since": "2026-01-02T03:04:05Z", "plain_logins": 41, "tls_logins": 7,
   "plain": [
    {"role": "app", "database": "shop", "application_name": "wor\u001b[2Jker", "network": "10.0.0.7/32", "tls_enforcement": "warn", "count": 40, "last_seen": "2026-01-03T00:00:00Z"},
    {"role": "other", "database": "other", "application_name": "other", "network": "other", "tls_enforcement": "enforce", "count": 1, "last_seen": "2026-01-03T00:00:01Z"}],
   "tls": [{"role": "app", "version": "TLS 1.3", "cipher": "TLS_AES_128_GCM_SHA256", "count": 7, "last_seen": "2026-01-03T00:00:02Z"}]},
  {"tenant": "quiet", "tls_enforcement": "observe", "since": "2026-01-02T03:04:05Z", "plain_logins": 0, "tls_logins": 0, "plain": [], "tls": []}]}`

const printedLogins = `tenant acme (tls_enforcement: warn), since 2026-01-02T03:04:05Z: 41 logins without TLS, 7 with
WITHOUT TLS  LAST SEEN             ROLE   DATABASE  APPLICATION      NETWORK      STAGE
40           2026-01-03T00:00:00Z  app    shop      "wor\x1b[2Jker"  10.0.0.7/32  warn
1            2026-01-03T00:00:01Z  other  other     other            other        enforce
WITH TLS     LAST SEEN             ROLE   VERSION   CIPHER
7            2026-01-03T00:00:02Z  app    TLS 1.3   TLS_AES_128_GCM_SHA256

tenant quiet (tls_enforcement: observe), since 2026-01-02T03:04:05Z: 0 logins without TLS, 0 with
`

func TestReportOfTLS(t *testing.T) {
	t.Parallel()
	a := &api{code: 200, body: loginsOfTwoTenants}
	got := command(t, "", "report", "tls", "--admin", a.serve(t), "--token", "s3cret")
	if diff := cmp.Diff(result{0, printedLogins, ""}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if a.method != "GET" || a.target != "/api/v1/tls-logins" || a.header.Get("Authorization") != "Bearer s3cret" {
		t.Errorf("asked %s %s with %v", a.method, a.target, a.header)
	}
	a = &api{code: 401}
	if got := command(t, "", "report", "tls", "--admin", a.serve(t)); got.code != 1 || !strings.Contains(got.stderr, "--token") {
		t.Errorf("without the token: %+v", got)
	}
}
