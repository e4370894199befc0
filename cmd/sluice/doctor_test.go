package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/doctor"
	"sluice/internal/throwawaypg"
)

func TestDoctorExitCodesAndForms(t *testing.T) {
	t.Parallel()
	pg := throwawaypg.MustStart(t, throwawaypg.Options{})
	if err := pg.Exec(t.Context(), `CREATE ROLE service LOGIN PASSWORD 'service-secret'`, `CREATE ROLE app LOGIN PASSWORD 'app-secret'`); err != nil {
		t.Fatal(err)
	}
	folder := writeFiles(t, map[string]string{
		"fine.yaml": fmt.Sprintf("admin: {address: \"\"}\ntenants: [{backend: {host: 127.0.0.1, port: %d, tls_mode: disable}, service: {role: service, password: service-secret}}]\n", pg.Port()),
		"sick.yaml": fmt.Sprintf("admin: {address: \"\"}\ntenants: [{backend: {host: 127.0.0.1, port: %d, tls_mode: disable}, roles: [{name: missing}]}]\n", pg.Port()),
		"bad.yaml":  "tenants: [{pool_size: many}]\n",
		"users.txt": `"app" "app-secret"` + "\n",
	})
	path := func(name string) string { return filepath.Join(folder, name) }
	fine := command(t, "", "doctor", "--config", path("fine.yaml"))
	if fine.code != 0 || fine.stderr != "" || !strings.Contains(fine.out, "tenant default: role app\n  ok       auth.users_file has a password of it\n") || !strings.HasSuffix(fine.out, "\n1 warning\n") {
		t.Errorf("all fine: got exit code %d, %q,\n%s", fine.code, fine.stderr, fine.out)
	}
	sick := command(t, "", "doctor", "--config", path("sick.yaml"), "--json")
	var report doctor.Report
	if err := json.Unmarshal([]byte(sick.out), &report); err != nil || report.Count(doctor.Problem) == 0 {
		t.Errorf("--json: %v, %s", err, sick.out)
	}
	if want := fmt.Sprintf("sluice: doctor: problems found: %d\n", report.Count(doctor.Problem)); sick.code != 1 || sick.stderr != want {
		t.Errorf("a problem: got exit code %d, %q, want 1, %q", sick.code, sick.stderr, want)
	}
	for _, args := range [][]string{{"--config", path("bad.yaml")}, {"--config", path("none.yaml")}, {"--config", "a", "--database-url", "b"}, {"--database-url", "mysql://x"}} {
		if got := command(t, "", append([]string{"doctor"}, args...)...); got.code != 2 || got.out != "" || got.stderr == "" {
			t.Errorf("%q: got %+v, want exit code 2", args, got)
		}
	}
	if got := command(t, "", "doctor", "--database-url", pg.URL("app", "app-secret", "postgres"), "--role", "other"); got.code != 1 ||
		!strings.Contains(got.out, "tenant default: role other\n  problem  it is not in pg_authid") {
		t.Errorf("a database URL: got exit code %d, %s%s", got.code, got.out, got.stderr)
	}
}
