package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/tlsconf"
)

// selfSigned writes a certificate that has been made at a time, and its key, beside each other.
func selfSigned(t *testing.T, folder, name string, made time.Time) {
	t.Helper()
	cert, key, err := tlsconf.SelfSigned([]string{name}, made)
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{name + ".crt": cert, name + ".key": key} {
		if err := os.WriteFile(filepath.Join(folder, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckWarnsOfCertificatesThatAreNotValid(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{
		"users.txt": "\"app\" \"secret\"\n",
		"sluice.yaml": "tls: {cert_file: new.crt, key_file: new.key, client_cert: optional, client_ca_file: clients.pem,\n" +
			"  certificates: [{cert_file: old.crt, key_file: old.key}, {cert_file: early.crt, key_file: early.key}]}\n" +
			"admin: {cert_file: old.crt, key_file: old.key}\n" +
			"tenants:\n  - auth: {users_file: users.txt}\n    service: {role: service, password: secret}\n" +
			"    backend: {tls_mode: prefer, cert_file: old.crt, key_file: old.key}\n",
	})
	now := time.Now()
	const day = 24 * time.Hour
	selfSigned(t, dir, "new", now)
	selfSigned(t, dir, "old", now.Add(-40*day))
	selfSigned(t, dir, "early", now.Add(2*day))
	var clients []byte
	for _, name := range []string{"old.crt", "new.crt"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, data...)
	}
	if err := os.WriteFile(filepath.Join(dir, "clients.pem"), clients, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sluice.yaml")
	valid := func(which string, made time.Time) string {
		stamp := func(at time.Time) string { return at.UTC().Format(time.RFC3339) }
		return "certificate " + which + " is valid only from " + stamp(made.Add(-time.Hour)) + " to " + stamp(made.Add(30*day))
	}
	old, early := valid(filepath.Join(dir, "old.crt"), now.Add(-40*day)), valid(filepath.Join(dir, "early.crt"), now.Add(2*day))
	want := []string{
		"ok", "tls: " + old, "tls: " + early,
		"tls: " + valid(`"CN=old,O=Sluice throwaway certificate" in `+filepath.Join(dir, "clients.pem"), now.Add(-40*day)),
		"tenants[0].backend: " + old, "admin: " + old,
	}
	got := command(t, "", "check", "--config", file)
	if all := file + ": " + strings.Join(want, "\n"+file+": ") + "\n"; got.code != 0 || got.out != all || got.stderr != "" {
		t.Errorf("exit code %d, stderr %q, and\n%swant\n%s", got.code, got.stderr, got.out, all)
	}
}

func TestCheckRefusesAKeyThatIsNotTheCertificates(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{
		"users.txt":   "\"app\" \"secret\"\n",
		"sluice.yaml": "tls: {cert_file: one.crt, key_file: two.key}\ntenants:\n  - auth: {users_file: users.txt}\n",
	})
	selfSigned(t, dir, "one", time.Now())
	selfSigned(t, dir, "two", time.Now())
	got := command(t, "", "check", "--config", filepath.Join(dir, "sluice.yaml"))
	want := "tls: cert_file " + filepath.Join(dir, "one.crt") + " with key_file " + filepath.Join(dir, "two.key") + ": "
	if got.code != 2 || !strings.Contains(got.stderr, want) || !strings.Contains(got.stderr, "does not match") {
		t.Errorf("exit code %d, %q, want 2 and %q", got.code, got.stderr, want)
	}
}
