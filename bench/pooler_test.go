package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/config"
	"sluice/internal/throwawaypg"
)

func TestSluiceAcceptsItsConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users := filepath.Join(dir, usersFile)
	if err := os.WriteFile(users, []byte(`"bench" "secret"`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := settings{Host: host, Port: 6543, PostgresHost: host, PostgresPort: 15432, PoolSize: poolSize, MaxClients: maxClients, UsersFile: users}
	content, err := s.config(nameSluice)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sluice.yaml")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatalf("config.Load: %v", err)
	}
	if len(c.Listeners) != 1 || c.Listeners[0].Address != "127.0.0.1:6543" || c.Tenants[0].PoolSize != poolSize || c.Limits.MaxClients != maxClients {
		t.Errorf("configuration: got %+v", c)
	}
}

func TestPgBouncersConfigurationHasAUserOnlyWhenThereIsOne(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"", "nobody"} {
		content, err := settings{Database: database, User: user, PoolSize: poolSize}.config(namePgBouncer)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(content), "\nuser = nobody\n"); got != (user != "") {
			t.Errorf("user %q: got\n%s", user, content)
		}
		for _, want := range []string{"pool_mode = transaction\n", "default_pool_size = 20\n", "max_prepared_statements = 200\n"} {
			if !strings.Contains(string(content), want) {
				t.Errorf("%q is missing in\n%s", want, content)
			}
		}
	}
}

func TestPoolerThatDoesNotStartIsQuoted(t *testing.T) {
	t.Parallel()
	// In place of PgBouncer a program that prints its configuration and ends.
	r := &rig{dir: t.TempDir(), pgbouncer: "cat", dialer: newDialer(role, "", database), cluster: &throwawaypg.Cluster{}}
	_, err := r.startPooler(context.Background(), namePgBouncer)
	if err == nil || !strings.Contains(err.Error(), "pool_mode = transaction") || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("startPooler: got %v, want what the program said", err)
	}
}
