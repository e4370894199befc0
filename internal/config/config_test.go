package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// compare looks into the types of net/netip and at the values of secrets.
func compare() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() }),
	}
}

// folder returns a new folder with files, by name.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// load loads text beside a users.txt and a secret.txt.
func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	dir := folder(t, map[string]string{
		"sluice.yaml": text, "users.txt": "", "secret.txt": "hunter2\n", "empty.txt": "\n",
	})
	c, err := Load(filepath.Join(dir, "sluice.yaml"))
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("Load: error is %T, want *Error", err)
		}
		e.File = filepath.Base(e.File)
		for i := range e.Problems {
			e.Problems[i].Message = strings.ReplaceAll(e.Problems[i].Message, dir, "DIR")
		}
	}
	if (c == nil) == (err == nil) {
		t.Fatalf("Load = %v, %v: want exactly one of them", c, err)
	}
	return c, err
}

func mustLoad(t *testing.T, text string) *Config {
	t.Helper()
	c, err := load(t, text)
	if err != nil {
		t.Fatalf("Load: %v\n%s", err, text)
	}
	return c
}

func example(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "examples", "sluice.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestExampleShowsTheDefaults(t *testing.T) {
	t.Parallel()
	got := mustLoad(t, example(t))
	want := Default()
	if diff := cmp.Diff(want, *got, compare(),
		cmpopts.IgnoreFields(Config{}, "Files"), cmpopts.IgnoreFields(Tenant{}, "Roles"), cmpopts.IgnoreFields(Auth{}, "UsersFile")); diff != "" {
		t.Errorf("example differs from Default (-Default +example):\n%s", diff)
	}
	if got, want := filepath.Base(got.Tenants[0].Auth.UsersFile), "users.txt"; got != want {
		t.Errorf("users file = %q, want %q", got, want)
	}
	wantRoles := []Role{{
		Name: "authenticator", PoolSize: 10, MaxClients: 100, Modes: []Mode{ModeTransaction}, TLSEnforcement: TLSObserve,
		Network: Network{
			AllowedCIDRs: []Entry{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}},
			DeniedCIDRs:  []Entry{},
		},
	}}
	if diff := cmp.Diff(wantRoles, got.Tenants[0].Roles, compare()); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
}

func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	c := Default()
	if got := c.Validate(); len(got) > 0 {
		t.Errorf("Default().Validate() = %v, want none", got)
	}
	tn := c.Tenants[0]
	got := []any{
		c.Listeners[1].Address, c.Listeners[1].Mode, c.Listeners[1].UnixMode, c.Admin.Address, c.Limits.MaxClients,
		c.ShutdownTimeout, tn.Name, tn.Backend.Hosts, tn.Backend.TLSMode, tn.PoolSize, tn.MaxBackends, tn.Auth.UsersFile,
		tn.Network.ManagedBy,
	}
	want := []any{
		"127.0.0.1:6543", ModeTransaction, fs.FileMode(0o660), "127.0.0.1:9930", 10000,
		time.Minute, "default", []HostPort{{"127.0.0.1", 5433}}, TLSPrefer, 15, AutoInt{Auto: true}, "users.txt",
		"file",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestAbsentListAdmitsEveryoneAndEmptyListNobody(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `
network: {allowed_cidrs: []}
tenants:
  - network: {denied_cidrs: [192.0.2.1]}
    roles: [{name: a}, {name: b, network: {allowed_cidrs: []}}]
    databases: [{name: d, network: {}}]
`)
	all := []Entry{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}}
	tn := c.Tenants[0]
	for _, tt := range []struct {
		name      string
		got, want []Entry
	}{
		{"process, empty", c.Network.AllowedCIDRs, nil},
		{"tenant, absent", tn.Network.AllowedCIDRs, all},
		{"tenant, denied", tn.Network.DeniedCIDRs, []Entry{{Prefix: netip.MustParsePrefix("192.0.2.1/32")}}},
		{"role without network", tn.Roles[0].Network.AllowedCIDRs, all},
		{"role, empty", tn.Roles[1].Network.AllowedCIDRs, nil},
		{"database with empty network", tn.Databases[0].Network.AllowedCIDRs, all},
	} {
		if diff := cmp.Diff(tt.want, tt.got, compare(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestValuesAreTyped(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, `
listeners:
  - {name: unix, address: /run/sluice/.s.PGSQL.6543, mode: session, unix_mode: 0600}
  - {name: any, address: ":5432", mode: transaction, tenants: [Acme]}
tls: {min_version: 1.3}
tenants:
  - name: Acme
    backend:
      host: [db1.example.com, "db2:6000", "[2001:db8::1]:7000", "::1", /run/postgresql/]
      settings: ["statement_timeout = 30s", "search_path=a=b"]
    databases: [{name: app, dbname: app_prod}, {name: Other}]
    service: {password: 0123, role: svc}
    network: {allowed_cidrs: ["::ffff:10.0.0.0/104", "::ffff:192.0.2.7", "2001:db8::1"]}
    max_backends: 40
    spread: 1
    roles: [{name: 2024}]
`)
	tn := c.Tenants[0]
	got := []any{
		c.Listeners[0].UnixMode, c.TLS.MinVersion, tn.Backend.Hosts, tn.Backend.TLSMode, tn.Backend.Settings,
		tn.Databases[0].DBName, tn.Databases[1].DBName, tn.Service.Password.Reveal(), fmt.Sprint(tn.Network.AllowedCIDRs),
		tn.MaxBackends, tn.Spread, tn.Roles[0].Name,
	}
	want := []any{
		fs.FileMode(0o600), "1.3",
		[]HostPort{{"db1.example.com", 5433}, {"db2", 6000}, {"2001:db8::1", 7000}, {"::1", 5433}, {"/run/postgresql", 5433}},
		TLSVerifyFull, []Setting{{"statement_timeout", "30s"}, {"search_path", "a=b"}},
		"app_prod", "Other", "0123", "[10.0.0.0/8 192.0.2.7/32 2001:db8::1/128]",
		AutoInt{N: 40}, AutoInt{N: 1}, "2024",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

func TestTLSModeDependsOnWhereTheHostsAre(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		backend string
		want    TLSMode
	}{
		{`{}`, TLSPrefer},
		{`{host: LocalHost}`, TLSPrefer},
		{`{host: ["::1", "127.9.9.9:1", /run]}`, TLSPrefer},
		{`{host: ["::ffff:127.0.0.1"]}`, TLSPrefer},
		{`{host: db.example.com}`, TLSVerifyFull},
		{`{host: localhost.example.com}`, TLSVerifyFull},
		{`{host: [127.0.0.1, 10.0.0.1]}`, TLSVerifyFull},
		{`{host: db.example.com, tls_mode: disable}`, TLSDisable},
		{`{tls_mode: verify-ca}`, TLSVerifyCA},
	} {
		c := mustLoad(t, "tenants: [{backend: "+tt.backend+"}]")
		if got := c.Tenants[0].Backend.TLSMode; got != tt.want {
			t.Errorf("backend %s: tls_mode = %q, want %q", tt.backend, got, tt.want)
		}
	}
}

func TestReferencesAreFollowed(t *testing.T) {
	t.Setenv("TEST_POOL", "7")
	t.Setenv("TEST_TLS", "true")
	t.Setenv("TEST_HOST", "db.example.com:99")
	t.Setenv("TEST_NET", "10.0.0.0/8")
	t.Setenv("TEST_NESTED", "env(TEST_POOL)")
	c := mustLoad(t, `
admin: {token: file(secret.txt)}
tenants:
  - pool_size: env(TEST_POOL)
    require_tls: "env(TEST_TLS)"
    backend: {host: env(TEST_HOST)}
    network: {allowed_cidrs: [env(TEST_NET)]}
    service: {role: env(TEST_NESTED)}
tls: {cert_file: c.pem, key_file: k.pem}
`)
	tn := c.Tenants[0]
	got := []any{c.Admin.Token.Reveal(), tn.PoolSize, tn.RequireTLS, tn.Backend.Hosts[0].String(), fmt.Sprint(tn.Network.AllowedCIDRs), tn.Service.Role}
	want := []any{"hunter2", 7, true, "db.example.com:99", "[10.0.0.0/8]", "env(TEST_POOL)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

func TestEnvironmentGoesBeforeTheFile(t *testing.T) {
	t.Setenv("SLUICE_ADMIN_TOKEN", "t0ken")
	t.Setenv("SLUICE_ADMIN_ADDRESS", "127.0.0.1:1")
	t.Setenv("SLUICE_LOG_LEVEL", "debug")
	t.Setenv("SLUICE_LOG_FORMAT", "") // as if it were not set
	t.Setenv("SLUICE_SHUTDOWN_TIMEOUT", "3s")
	t.Setenv("SLUICE_LIMITS", "x") // never bound
	t.Setenv("SLUICE_PORT", "tcp://10.0.0.1:80")
	t.Setenv("SLUICE_SESSION_ADDRESS", "127.0.0.1:9") // only without a file
	c := mustLoad(t, "log: {level: error, format: json}\nadmin: {token: file}\n")
	got := []any{c.Admin.Token.Reveal(), c.Admin.Address, c.Log, c.ShutdownTimeout, c.Limits.MaxClients, c.Listeners[0].Address}
	want := []any{"t0ken", "127.0.0.1:1", Log{"debug", "json", "refused", ""}, 3 * time.Second, 10000, "127.0.0.1:5432"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

func TestBadEnvironmentIsAProblemOfItsKey(t *testing.T) {
	t.Setenv("SLUICE_SHUTDOWN_TIMEOUT", "hunter2")
	t.Setenv("SLUICE_LOG_LEVEL", "hunter2")
	_, err := load(t, "log: {level: error}\n")
	want := `sluice.yaml: shutdown_timeout: must be a duration such as 30s or 5m, got the value of SLUICE_SHUTDOWN_TIMEOUT
sluice.yaml: log.level: must be one of debug, info, warn, error, got the value of SLUICE_LOG_LEVEL`
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestPathsStartAtTheFile(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"users.txt": "", "sluice.yaml": "tls: {cert_file: tls/cert.pem, key_file: /etc/key.pem}\n"})
	c, err := Load(filepath.Join(dir, "sluice.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.TLS.CertFile, c.TLS.KeyFile, c.TLS.ClientCAFile, c.Tenants[0].Auth.UsersFile}
	want := []string{filepath.Join(dir, "tls", "cert.pem"), "/etc/key.pem", "", filepath.Join(dir, "users.txt")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

func TestUsersFileMayBeMissingWhereNothingNeedsIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ auth, want string }{
		{`{method: trust}`, ""},
		{`{query: "SELECT 1 WHERE $1"}`, ""},
		{`{users_file: "", method: trust}`, ""},
		{`{}`, "sluice.yaml:2: tenants[0].auth.users_file: its default users.txt does not exist beside the configuration file: " + noUsersHint},
		{`{users_file: ""}`, "sluice.yaml:2: tenants[0].auth.users_file: must not be empty: " + noUsersHint},
		{`{users_file: no.txt, method: trust}`, `sluice.yaml:2: tenants[0].auth.users_file: no such file or directory, got "DIR/no.txt"`},
		{`{users_file: .}`, `sluice.yaml:2: tenants[0].auth.users_file: is a folder, got "DIR"`},
	} {
		dir := folder(t, map[string]string{"sluice.yaml": "tenants:\n  - auth: " + tt.auth + "\n    service: {role: s}\n"})
		c, err := Load(filepath.Join(dir, "sluice.yaml"))
		got := ""
		if err != nil {
			got = strings.ReplaceAll(strings.ReplaceAll(err.Error(), dir+"/", "DIR/"), dir+`"`, `DIR"`)
			got = strings.TrimPrefix(got, "DIR/")
		} else if c.Tenants[0].Auth.UsersFile != "" {
			t.Errorf("auth %s: users file = %q, want none", tt.auth, c.Tenants[0].Auth.UsersFile)
		}
		if got != tt.want {
			t.Errorf("auth %s: error\n got %s\nwant %s", tt.auth, got, tt.want)
		}
	}
}

func TestMissingFileSaysSo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of a missing file: %v, want fs.ErrNotExist", err)
	}
	if got, want := fmt.Sprint(err), path+": read: no such file or directory"; got != want {
		t.Errorf("error = %q, want %q", got, want)
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, "admin: {token: hunter2}\ntenants: [{service: {role: s, password: hunter2}, roles: [{name: r, backend: {password: hunter2}}]}]")
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "config", c, "token", c.Admin.Token)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "config", c, "token", c.Admin.Token)
	for _, text := range []string{
		fmt.Sprintf("%v %+v %#v", c, c, *c), fmt.Sprintf("%s %q %x %d", c.Admin.Token, c.Admin.Token, c.Admin.Token, c.Admin.Token),
		string(encoded), logged.String(), c.Admin.Token.String(),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("a secret is in %s", text)
		}
		if !strings.Contains(text, "[redacted]") {
			t.Errorf("no [redacted] in %s", text)
		}
	}
}

// update rewrites docs/config.md.
var update = flag.Bool("update", false, "rewrite docs/config.md")

func TestDocumentationIsUpToDate(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "config.md")
	if *update {
		if err := os.WriteFile(path, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Markdown(), string(data)); diff != "" {
		t.Errorf("%s is not what the settings say; run go generate (-want +got):\n%s", path, diff)
	}
}

func TestEverySettingIsDocumented(t *testing.T) {
	t.Parallel()
	var check func(reflect.Type, string)
	check = func(typ reflect.Type, path string) {
		for _, f := range fields(typ) {
			at := join(path, f.key)
			if f.doc == "" {
				t.Errorf("%s has no doc", at)
			}
			if !f.block() && f.reload != "live" && f.reload != "restart" {
				t.Errorf("%s: reload is %q, want live or restart", at, f.reload)
			}
			switch {
			case f.block():
				check(f.typ, at)
			case !f.scalar() && f.element().block():
				check(f.element().typ, at+"[]")
			}
		}
	}
	check(reflect.TypeFor[Config](), "")
}

func TestEveryUnsupportedFeatureNamesASetting(t *testing.T) {
	t.Parallel()
	settings := map[string]bool{}
	c := Default()
	visit(reflect.ValueOf(&c).Elem(), "", "", func(s setting) { settings[s.pattern] = true })
	for _, f := range features() {
		if !settings[f.setting] {
			t.Errorf("%s is not a setting", f.setting)
		}
	}
}
