package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"sluice/auth/scram"
	"sluice/internal/throwawaypg"
)

// The demo's database and roles.
const (
	demoDatabase = "demo"
	demoApp      = "app"    // owns the database; its connection strings are printed
	demoWorker   = "worker" // of the load's long-lived clients
	demoService  = "sluice" // Sluice's own login, for auth.query
)

// demoQuery finds what a role's password is checked against. The function is all that the service login may call.
const demoQuery = "SELECT role, verifier, valid_until FROM sluice.login($1)"

// demoPostgres is the throwaway cluster with the passwords of its roles.
type demoPostgres struct {
	cluster   *throwawaypg.Cluster
	passwords map[string]string
}

// startDemoPostgres starts a cluster with the demo's roles and an empty database, and installs Postgres if there is none.
func startDemoPostgres(ctx context.Context, log io.Writer) (*demoPostgres, error) {
	bindir, err := findPostgres(ctx, log)
	if err != nil {
		return nil, err
	}
	cluster, err := throwawaypg.Start(ctx, throwawaypg.Options{BinDir: bindir})
	if err != nil {
		return nil, err
	}
	p := &demoPostgres{cluster: cluster, passwords: map[string]string{}}
	if err := p.populate(ctx); err != nil {
		return nil, errors.Join(err, cluster.Stop())
	}
	return p, nil
}

// findPostgres returns the folder of Postgres's server programs, which it installs if there are none.
func findPostgres(ctx context.Context, log io.Writer) (string, error) {
	bindir, err := throwawaypg.Find()
	if !errors.Is(err, throwawaypg.ErrNotFound) {
		return bindir, err
	}
	if err := throwawaypg.Install(ctx, log); err != nil {
		return "", err
	}
	return throwawaypg.Find()
}

// populate makes the roles, with verifiers for passwords, so that Postgres never sees these, and what README.md tells
// operators to make for auth.query.
func (p *demoPostgres) populate(ctx context.Context) error {
	var statements []string
	for _, role := range []string{demoApp, demoWorker, demoService} {
		p.passwords[role] = rand.Text()
		verifier, err := scram.NewVerifier(p.passwords[role], scram.NewSalt(), scram.DefaultIterations)
		if err != nil {
			return fmt.Errorf("make the demo's roles: %w", err)
		}
		statements = append(statements, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", role, verifier.String()))
	}
	statements = append(statements,
		"CREATE SCHEMA sluice",
		"CREATE FUNCTION sluice.login(name text) RETURNS TABLE (role text, verifier text, valid_until timestamptz)"+
			" LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog"+
			" AS 'SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = name AND rolcanlogin AND NOT rolsuper'",
		"REVOKE EXECUTE ON FUNCTION sluice.login(text) FROM PUBLIC",
		"GRANT USAGE ON SCHEMA sluice TO "+demoService,
		"GRANT EXECUTE ON FUNCTION sluice.login(text) TO "+demoService,
		fmt.Sprintf("CREATE DATABASE %s OWNER %s", demoDatabase, demoApp),
	)
	if err := p.cluster.Exec(ctx, statements...); err != nil {
		return fmt.Errorf("make the demo's roles: %w", err)
	}
	return nil
}
