package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// migration is a step of a schema; those that Postgres does not allow in a transaction run without one.
type migration struct {
	sql         string
	transaction bool
}

func migrations(prefix string) []migration {
	return []migration{
		{fmt.Sprintf("CREATE TABLE %s_users (id bigserial PRIMARY KEY, name text)", prefix), true},
		{fmt.Sprintf("INSERT INTO %s_users (name) SELECT 'user ' || g FROM generate_series(1, 500) g", prefix), true},
		{fmt.Sprintf("ALTER TABLE %[1]s_users ADD email text; UPDATE %[1]s_users SET email = name || '@example.com'; ALTER TABLE %[1]s_users ALTER email SET NOT NULL", prefix), true},
		{fmt.Sprintf("CREATE INDEX CONCURRENTLY %[1]s_users_email ON %[1]s_users (email)", prefix), false},
		{fmt.Sprintf("DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nobody') THEN ALTER TABLE %s_users ADD seen int DEFAULT 0; END IF; END $$", prefix), true},
		{fmt.Sprintf("ALTER TABLE %[1]s_users VALIDATE CONSTRAINT %[1]s_none", prefix), true}, // fails
		{fmt.Sprintf("DROP INDEX CONCURRENTLY %s_users_email", prefix), false},
	}
}

// TestMigrationsOfManyInstancesRunOnce has several instances of an application migrate the same schema at once, as the usual
// tools do: whoever has the session's advisory lock looks which steps are missing, runs each in a transaction where that can be, and
// writes it down. A step that fails leaves nothing behind.
func TestMigrationsOfManyInstancesRunOnce(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 12\nmax_pinned: 11\npool_wait_timeout: 60s"))
	for _, mode := range modes {
		for _, tc := range []struct {
			name     string
			wait     bool // for the lock; then no index can be made concurrently: Postgres would find a deadlock
			versions string
		}{{"waiting", true, "0,1,2,4"}, {"trying", false, "0,1,2,3,4,6"}} {
			t.Run(mode+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				r.migrateAtOnce(mode, "migrated_"+mode+"_"+tc.name, tc.wait, tc.versions)
			})
		}
	}
}

func (r *rig) migrateAtOnce(mode, prefix string, wait bool, versions string) {
	r.t.Helper()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if err := migrate(r.url(mode, "alice", ""), prefix, wait); err != nil {
				r.t.Errorf("%s, instance %d: %v", prefix, i, err)
			}
		})
	}
	wg.Wait()
	c := r.connect(mode, "alice", "")
	for _, tc := range []struct{ sql, want string }{
		{"SELECT string_agg(version::text, ',' ORDER BY version) FROM " + prefix + "_versions", versions},
		{"SELECT count(*)::text FROM " + prefix + "_users WHERE email = name || '@example.com' AND seen = 0", "500"},
		{"SELECT count(*)::text FROM pg_indexes WHERE tablename = '" + prefix + "_users'", "1"},
	} {
		if got := r.value(c, tc.sql); got != tc.want {
			r.t.Errorf("%s: got %s, want %s", tc.sql, got, tc.want)
		}
	}
	r.eventually("the lock is free", func() bool {
		return r.activity("SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid = (hashtext($1)::bigint & 4294967295)::oid", prefix) == "0"
	})
}

// migrate runs what is missing. wait says whether it waits for the lock or tries again and again.
func migrate(url, prefix string, wait bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if err := lock(ctx, c, prefix, wait); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if _, err := c.Exec(ctx, fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s_versions (version int PRIMARY KEY)", prefix)); err != nil {
		return err
	}
	for version, m := range migrations(prefix) {
		var there bool
		if err := c.QueryRow(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s_versions WHERE version = $1)", prefix), version).Scan(&there); err != nil {
			return err
		}
		if there || wait && !m.transaction {
			continue
		}
		err := m.run(ctx, c, prefix, version)
		if sqlstate(err) == "42704" {
			continue // the step that fails
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", version, err)
		}
	}
	var unlocked bool
	if err := c.QueryRow(ctx, "SELECT pg_advisory_unlock(hashtext($1))", prefix).Scan(&unlocked); err != nil || !unlocked {
		return fmt.Errorf("unlock: %t, %w", unlocked, err)
	}
	return nil
}

func lock(ctx context.Context, c *pgx.Conn, prefix string, wait bool) error {
	if wait {
		_, err := c.Exec(ctx, "SELECT pg_advisory_lock(hashtext($1))", prefix)
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var locked bool
		if err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtext($1))", prefix).Scan(&locked); err != nil || locked {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (m migration) run(ctx context.Context, c *pgx.Conn, prefix string, version int) error {
	note := fmt.Sprintf("INSERT INTO %s_versions VALUES (%d)", prefix, version)
	if !m.transaction {
		if _, err := c.Exec(ctx, m.sql); err != nil {
			return err
		}
		_, err := c.Exec(ctx, note)
		return err
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	for _, sql := range []string{"SET LOCAL lock_timeout = '60s'", note, m.sql} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}
