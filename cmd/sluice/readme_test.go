package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sluice/internal/config"
	"sluice/internal/throwawaypg"
)

// block returns the only fenced block of a language in README.md.
func block(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(found) != 1 {
		t.Fatalf("got %d blocks of %s, want 1", len(found), language)
	}
	return found[0][1]
}

func TestFirstConfigurationOfTheREADMEWorks(t *testing.T) {
	password := regexp.MustCompile(`ROLE sluice LOGIN PASSWORD '(.*?)'`).FindStringSubmatch(block(t, "sql"))[1]
	t.Setenv("SLUICE_DB_PASSWORD", password)
	file := filepath.Join(writeFiles(t, map[string]string{"sluice.yaml": block(t, "yaml")}), "sluice.yaml")
	if got := command(t, "", "check", "--config", file); got.code != 0 {
		t.Fatalf("got %+v, want ok", got)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	service := c.Tenants[0].Service
	if c.Tenants[0].Auth.Query != demoQuery {
		t.Errorf("got auth.query %q, want what the demo shows, %q", c.Tenants[0].Auth.Query, demoQuery)
	}

	postgres := throwawaypg.MustStart(t, throwawaypg.Options{})
	for statement := range strings.SplitSeq(block(t, "sql"), ";\n") {
		if err := postgres.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := postgres.Exec(t.Context(), "CREATE ROLE app LOGIN PASSWORD 'secret'"); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), postgres.URL(service.Role, service.Password.Reveal(), service.Database))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var role, verifier string
	var validUntil *string
	if err := conn.QueryRow(t.Context(), c.Tenants[0].Auth.Query, "app").Scan(&role, &verifier, &validUntil); err != nil {
		t.Fatal(err)
	}
	if role != "app" || !strings.HasPrefix(verifier, "SCRAM-SHA-256$") {
		t.Errorf("got role %q, verifier %q, want those of app", role, verifier)
	}
	if err := conn.QueryRow(t.Context(), c.Tenants[0].Auth.Query, "postgres").Scan(&role, &verifier, &validUntil); err == nil {
		t.Error("got the verifier of a superuser, want no row")
	}
}

func TestREADMEIsShortAndItsLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines > 150 {
		t.Errorf("got %d lines, want at most 150", lines)
	}
	for _, link := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join("../..", link[1])); err != nil {
			t.Error(err)
		}
	}
}
