package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/internal/throwawaypg"
)

const (
	apiClients  = 300
	apiRequests = 6 // of each client
	apiBackends = 8
)

// apiSchema is that of an API whose rows belong to users: policies read the claims that each request sets for its
// transaction, some through functions, and views, defaults and triggers stand on them.
var apiSchema = []string{
	`CREATE ROLE authenticator LOGIN NOINHERIT PASSWORD 'authenticator-secret'`,
	`CREATE ROLE web_anon NOLOGIN`, `CREATE ROLE web_user NOLOGIN`,
	`GRANT web_anon, web_user TO authenticator`,
	`CREATE SCHEMA auth`, `CREATE SCHEMA api`,
	`GRANT USAGE ON SCHEMA auth, api TO web_anon, web_user`,
	`CREATE FUNCTION auth.claims() RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT current_setting('request.jwt.claims', true)::jsonb $$`,
	`CREATE FUNCTION auth.uid() RETURNS int LANGUAGE sql STABLE AS $$ SELECT (auth.claims() ->> 'sub')::int $$`,
	`CREATE TABLE api.notes (id bigserial PRIMARY KEY, owner int NOT NULL DEFAULT auth.uid(), body text NOT NULL)`,
	`ALTER TABLE api.notes ENABLE ROW LEVEL SECURITY`,
	`CREATE POLICY own ON api.notes TO web_user USING (owner = auth.uid()) WITH CHECK (owner = auth.uid())`,
	`CREATE TABLE api.plain (owner int, body text)`,
	`ALTER TABLE api.plain ENABLE ROW LEVEL SECURITY`,
	`CREATE POLICY own ON api.plain TO web_user USING (owner = ((current_setting('request.jwt.claims', true)::json) ->> 'sub')::int)`,
	`INSERT INTO api.plain SELECT g, 'plain of ' || g FROM generate_series(1, 300) g`,
	`CREATE VIEW api.mine WITH (security_barrier) AS SELECT id, body FROM api.notes WHERE owner = auth.uid()`,
	`GRANT SELECT, INSERT ON api.notes TO web_user`,
	`GRANT SELECT ON api.plain, api.mine TO web_user`,
	`GRANT SELECT ON api.plain TO web_anon`,
	`GRANT USAGE ON ALL SEQUENCES IN SCHEMA api TO web_user`,
}

// startAPI starts a Postgres with that schema, and Sluice in front of it.
func startAPI(t *testing.T) *rig {
	t.Helper()
	pg := ownCluster(t)
	r := &rig{t: t}
	admin, err := pgx.Connect(r.ctx(), pg.SuperuserURL("app"))
	must(t, err)
	defer admin.Close(context.Background())
	for _, sql := range apiSchema {
		r.exec(admin, sql)
	}
	return start(t, pg, apiConfiguration(pg))
}

func apiConfiguration(pg *throwawaypg.Cluster) string {
	return base(pg, fmt.Sprintf("pool_size: %d\npool_wait_timeout: 60s", apiBackends))
}

// TestRequestsOfAnAPINeverSeeOthersRows has hundreds of clients act for other people at once. What a request sets ends with
// its transaction, so that no session is pinned.
func TestRequestsOfAnAPINeverSeeOthersRows(t *testing.T) {
	t.Parallel()
	r := startAPI(t)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	free := make(chan struct{}, 16) // logins at once
	var wg sync.WaitGroup
	for i := range apiClients {
		wg.Go(func() {
			free <- struct{}{}
			c, err := pgx.Connect(ctx, r.url("transaction", "authenticator", ""))
			<-free
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			defer c.Close(ctx)
			for n := range apiRequests {
				user := (i*7+n*101)%apiClients + 1 // another one each time
				if err := apiRequest(ctx, c, n%3, user); err != nil {
					t.Errorf("client %d, request %d for user %d: %v", i, n, user, err)
					return
				}
			}
			if err := anonymous(ctx, c); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for _, p := range r.srv.Status().Tenants[0].Pools {
		if len(p.Pins) > 0 || p.Backends.Pinned > 0 {
			t.Errorf("pinned: %v, %d now", p.Pins, p.Backends.Pinned)
		}
		if n := p.Backends.Active + p.Backends.Idle; n > apiBackends {
			t.Errorf("%d backends, want at most %d", n, apiBackends)
		}
	}
}

// apiRequest is one request of a user, in one of three styles in which such servers set what it is about.
func apiRequest(ctx context.Context, c *pgx.Conn, style, user int) error {
	claims := fmt.Sprintf(`{"sub": "%d", "role": "web_user"}`, user)
	tx, err := c.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	switch style {
	case 0: // all in one statement, as PostgREST
		_, err = tx.Exec(ctx, `select set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.jwt.claims', $3, true), set_config('request.method', $4, true), set_config('request.path', $5, true), set_config('request.headers', $6, true), set_config('request.cookies', $7, true)`,
			`"api", "auth"`, "web_user", claims, "GET", "/notes", "{}", "{}")
	case 1: // a statement each
		for _, sql := range []string{"SET LOCAL ROLE web_user", "SET LOCAL search_path = api, auth", "SET LOCAL statement_timeout = '60s'"} {
			if err == nil {
				_, err = tx.Exec(ctx, sql)
			}
		}
		if err == nil {
			_, err = tx.Exec(ctx, "SELECT set_config('request.jwt.claims', $1, true)", claims)
		}
	default: // simple queries
		_, err = tx.Exec(ctx, "SET LOCAL ROLE web_user; SELECT set_config('search_path', 'api', true), set_config('request.jwt.claims', $1, TRUE)", pgx.QueryExecModeSimpleProtocol, claims)
	}
	if err != nil {
		return fmt.Errorf("set: %w", err)
	}
	if err := readOwn(ctx, tx, user); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// readOwn writes a note and reads what the user may see.
func readOwn(ctx context.Context, tx pgx.Tx, user int) error {
	if _, err := tx.Exec(ctx, "INSERT INTO notes (body) VALUES ($1)", fmt.Sprint("note of ", user)); err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	var total int
	var body []byte
	const page = `WITH pgrst_source AS (SELECT "api"."notes".* FROM "api"."notes" LIMIT $1 OFFSET $2)
SELECT pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]')::text AS body FROM (SELECT * FROM pgrst_source) _postgrest_t`
	if err := tx.QueryRow(ctx, page, 1000, 0).Scan(&total, &body); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	var notes []struct {
		Owner int
		Body  string
	}
	if err := json.Unmarshal(body, &notes); err != nil {
		return err
	}
	for _, n := range notes {
		if n.Owner != user || n.Body != fmt.Sprint("note of ", user) {
			return fmt.Errorf("saw a row of %d: %q", n.Owner, n.Body)
		}
	}
	var plain string
	var mine int
	if err := tx.QueryRow(ctx, "SELECT string_agg(p.body, ','), (SELECT count(*) FROM mine) FROM plain p").Scan(&plain, &mine); err != nil {
		return fmt.Errorf("views: %w", err)
	}
	if total == 0 || mine < total || plain != fmt.Sprint("plain of ", user) {
		return fmt.Errorf("saw %d notes, %d through the view, and %q", total, mine, plain)
	}
	return nil
}

// anonymous reads what is to be seen without having said who one is: nothing, whatever the request before it was.
func anonymous(ctx context.Context, c *pgx.Conn) error {
	var who, claims string
	if err := c.QueryRow(ctx, "SELECT current_user::text, coalesce(current_setting('request.jwt.claims', true), '')").Scan(&who, &claims); err != nil {
		return err
	}
	if who != "authenticator" || claims != "" {
		return fmt.Errorf("between two requests the client is %q with claims %q", who, claims)
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, "SET LOCAL ROLE web_anon"); err != nil {
		return err
	}
	var n int
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM api.plain").Scan(&n); err != nil || n != 0 {
		return fmt.Errorf("an anonymous request saw %d rows, %w", n, err)
	}
	return tx.Commit(ctx)
}

// TestRequestSettingOfUnknownScopeStaysWithItsClient has a client bind whether a setting ends with the transaction: the text does
// not tell, and yet nobody else sees the setting.
func TestRequestSettingOfUnknownScopeStaysWithItsClient(t *testing.T) {
	t.Parallel()
	r := startAPI(t)
	a, b := r.connect("transaction", "authenticator", ""), r.connect("transaction", "authenticator", "")
	for _, local := range []bool{true, false} {
		r.exec(a, "SELECT set_config('request.jwt.claims', $1, $2)", `{"sub": "1"}`, local)
		for range 4 {
			if got := r.value(b, "SELECT coalesce(current_setting('request.jwt.claims', true), '')"); got != "" {
				t.Fatalf("another client has the claims %q", got)
			}
		}
	}
	if got := r.value(a, "SELECT current_setting('request.jwt.claims', true)"); got != `{"sub": "1"}` {
		t.Errorf("the client's claims are %q", got)
	}
}
