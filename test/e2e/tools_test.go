package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"sluice/internal/throwawaypg"
)

// toolTimeout bounds one run of a program.
const toolTimeout = 2 * time.Minute

// shop is a database with something of everything that pg_dump knows how to dump.
const shop = `
CREATE SCHEMA shop;
COMMENT ON SCHEMA shop IS 'what is sold; and ''quoted''';
CREATE TYPE shop.colour AS ENUM ('red', 'green');
CREATE DOMAIN shop.price AS numeric(10, 2) CHECK (VALUE >= 0);
CREATE SEQUENCE shop.tickets START 100 INCREMENT 5;
SELECT nextval('shop.tickets'), nextval('shop.tickets');
CREATE TABLE shop.items (id serial PRIMARY KEY, name text NOT NULL, colour shop.colour, price shop.price DEFAULT 1.5, tags text[], made timestamptz DEFAULT '2026-01-01Z', extra jsonb);
COMMENT ON TABLE shop.items IS 'items';
COMMENT ON COLUMN shop.items.name IS E'two\nlines';
CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY, item int REFERENCES shop.items ON DELETE CASCADE, n int CHECK (n > 0), total int GENERATED ALWAYS AS (n * 2) STORED) PARTITION BY RANGE (id);
CREATE TABLE shop.orders_1 PARTITION OF shop.orders FOR VALUES FROM (1) TO (1000);
CREATE TABLE shop.orders_2 PARTITION OF shop.orders DEFAULT;
CREATE TABLE shop.log (at bigserial, what text);
CREATE INDEX items_name ON shop.items (lower(name)) WHERE price > 1;
CREATE UNIQUE INDEX items_extra ON shop.items USING btree ((extra ->> 'code'));
CREATE INDEX items_tags ON shop.items USING gin (tags);
CREATE VIEW shop.cheap AS SELECT id, name FROM shop.items WHERE price < 2;
CREATE MATERIALIZED VIEW shop.counted AS SELECT colour, count(*) AS n FROM shop.items GROUP BY colour;
CREATE FUNCTION shop.note() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO shop.log (what) VALUES (TG_OP || ' ' || NEW.name); RETURN NEW; END $f$;
CREATE FUNCTION shop.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS $f$ SELECT n * 2 $f$;
CREATE PROCEDURE shop.clear() LANGUAGE sql AS $f$ DELETE FROM shop.log $f$;
CREATE TRIGGER noted AFTER INSERT ON shop.items FOR EACH ROW EXECUTE FUNCTION shop.note();
CREATE RULE kept AS ON DELETE TO shop.log WHERE old.at < 0 DO INSTEAD NOTHING;
ALTER TABLE shop.items ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_items ON shop.items USING (true);
GRANT SELECT ON shop.items TO bob;
INSERT INTO shop.items (name, colour, price, tags, extra) SELECT 'item ' || g || E'\ttab \\ and "quotes"', CASE g % 3 WHEN 0 THEN 'red' WHEN 1 THEN 'green' END::shop.colour, g / 10.0, ARRAY['a', 'b,c', NULL], json_build_object('code', g) FROM generate_series(1, 2000) g;
INSERT INTO shop.orders (item, n) SELECT g, g FROM generate_series(1, 1500) g;
REFRESH MATERIALIZED VIEW shop.counted;
SELECT lo_from_bytea(770001, '\x0001020304ff'), lo_from_bytea(770002, convert_to(repeat('large object ', 10000), 'UTF8'));
COMMENT ON LARGE OBJECT 770001 IS 'small';
GRANT SELECT ON LARGE OBJECT 770001 TO bob;
`

// toolsRig is a Sluice in front of a Postgres of its own whose database shop_source has all that, and three empty ones for copies.
func toolsRig(t *testing.T) *rig {
	t.Helper()
	pg := ownCluster(t)
	r := &rig{t: t}
	for _, name := range []string{"shop_source", "shop_custom", "shop_plain", "shop_direct"} {
		must(t, pg.Exec(r.ctx(), "CREATE DATABASE "+name+" OWNER alice"))
	}
	c, err := pgx.Connect(r.ctx(), pg.URL("alice", "alice-secret", "shop_source"))
	must(t, err)
	defer c.Close(context.Background())
	r.exec(c, shop)
	return start(t, pg, base(pg, "pool_size: 5\npool_wait_timeout: 60s"))
}

// tool runs one of Postgres's programs against a database and returns what it writes to stdout. Anything on stderr is an error.
func (r *rig) tool(url, name string, args ...string) string {
	r.t.Helper()
	stdout, stderr, err := r.try(url, "", name, args...)
	if err != nil || stderr != "" {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr)
	}
	return stdout
}

// try is tool for what may fail.
func (r *rig) try(url, stdin, name string, args ...string) (stdout, stderr string, err error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(r.t, name), append(args, "--dbname="+url)...)
	var out, errors bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errors
	cmd.Env = append(os.Environ(), "PGTZ=UTC", "LC_ALL=C", "PSQLRC=/dev/null")
	err = cmd.Run()
	return out.String(), errors.String(), err
}

// program finds one of Postgres's programs, beside the server if it is there.
func program(t *testing.T, name string) string {
	t.Helper()
	if bindir, err := throwawaypg.Find(); err == nil {
		if path := filepath.Join(bindir, name); exec.Command(path, "--version").Run() == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v (test/install installs what the tests need)", err)
	}
	return path
}

// to returns the connection string of a database through the port of a mode, or directly.
func (r *rig) to(mode, database string) string {
	if mode == "direct" {
		return r.pg.URL("alice", "alice-secret", database)
	}
	return strings.Replace(r.url(mode, "alice", ""), "/app?", "/"+database+"?", 1)
}

// dump returns a database as SQL. The key that protects a dump from being read by an old psql is another one each time.
func (r *rig) dump(mode, database string) string {
	r.t.Helper()
	return regexp.MustCompile(`(?m)^\\(un)?restrict .*$`).ReplaceAllString(r.tool(r.to(mode, database), "pg_dump"), "")
}

func TestDumpAndRestore(t *testing.T) {
	t.Parallel()
	r := toolsRig(t)
	source := r.dump("direct", "shop_source")
	if len(source) < 100_000 || !strings.Contains(source, "lowrite") && !strings.Contains(source, "lo_open") {
		t.Fatalf("the dump lacks what it should have:\n%.2000s", source)
	}
	for _, mode := range modes {
		if diff := cmp.Diff(source, r.dump(mode, "shop_source")); diff != "" {
			t.Errorf("a dump through the %s port differs (-direct +sluice):\n%s", mode, diff)
		}
	}
	// pg_restore -j opens several connections; pg_dump -j shares a snapshot between them.
	archive := filepath.Join(t.TempDir(), "shop.dump")
	r.tool(r.to("session", "shop_source"), "pg_dump", "--format=custom", "--file="+archive)
	r.tool(r.to("session", "shop_custom"), "pg_restore", "--jobs=2", "--exit-on-error", archive)
	if diff := cmp.Diff(source, r.dump("direct", "shop_custom")); diff != "" {
		t.Errorf("restored in parallel (-source +restored):\n%s", diff)
	}
	folder := filepath.Join(t.TempDir(), "folder")
	r.tool(r.to("session", "shop_source"), "pg_dump", "--format=directory", "--jobs=2", "--file="+folder)
	r.tool(r.to("session", "shop_direct"), "pg_restore", "--jobs=2", "--exit-on-error", folder)
	if diff := cmp.Diff(source, r.dump("session", "shop_direct")); diff != "" {
		t.Errorf("dumped and restored in parallel (-source +restored):\n%s", diff)
	}
	if _, stderr, err := r.try(r.to("session", "shop_plain"), source, "psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--output=/dev/null"); err != nil || stderr != "" {
		t.Fatalf("psql: %v\n%s", err, stderr)
	}
	if diff := cmp.Diff(source, r.dump("direct", "shop_plain")); diff != "" {
		t.Errorf("restored by psql (-source +restored):\n%s", diff)
	}
}

// script is what psql runs; DIR is a folder for files.
const script = `
\set ON_ERROR_STOP 1
CREATE TABLE psql_items (id int PRIMARY KEY, name text);
\copy psql_items FROM 'DIR/in.tsv'
SELECT count(*) FROM psql_items;
\copy (SELECT * FROM psql_items ORDER BY id) TO 'DIR/out.csv' WITH (FORMAT csv, HEADER)
SELECT format('CREATE INDEX psql_items_%s ON psql_items (%s)', c, c) FROM unnest(ARRAY['id', 'name']) c \gexec
SELECT indexname FROM pg_indexes WHERE tablename = 'psql_items' ORDER BY 1;
SELECT max(id) AS top FROM psql_items \gset
\echo top is :top
BEGIN;
DELETE FROM psql_items WHERE id = :top;
SAVEPOINT s;
\set ON_ERROR_STOP 0
SELECT 1/0;
\echo :LAST_ERROR_SQLSTATE
\set ON_ERROR_STOP 1
ROLLBACK TO s;
COMMIT;
SELECT string_agg(name, ',' ORDER BY id) FROM psql_items;
\set AUTOCOMMIT off
INSERT INTO psql_items VALUES (50, 'never');
ROLLBACK;
\set AUTOCOMMIT on
SELECT count(*) FROM psql_items WHERE id = 50;
\set FETCH_COUNT 3
SELECT id FROM psql_items ORDER BY id;
\set FETCH_COUNT 0
SELECT 'a' AS x \g DIR/g.txt
\d psql_items
\dt psql_*
SELECT 1 \; SELECT 2 \; SELECT 3;
COPY psql_items FROM STDIN;
90	ninety
91	ninety-one
\.
SELECT count(*) FROM psql_items WHERE id >= 90;
\timing off
\conninfo_is_left_out
`

func TestScriptsOfPsql(t *testing.T) {
	t.Parallel()
	r := toolsRig(t)
	text := strings.Replace(script, "\\conninfo_is_left_out\n", "", 1)
	run := func(mode string) (all, file string) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "in.tsv"), []byte("1\tone\n2\ttwo\n3\tthree\n4\t\\N\n"), 0o600))
		stdout, stderr, err := r.try(r.to(mode, "shop_plain"), strings.ReplaceAll(text, "DIR", dir), "psql", "--no-psqlrc", "--echo-queries")
		if err != nil {
			t.Fatalf("%s: %v\n%s", mode, err, stderr)
		}
		out, err := os.ReadFile(filepath.Join(dir, "out.csv"))
		must(t, err)
		r.tool(r.to("direct", "shop_plain"), "psql", "--no-psqlrc", "--quiet", "--command=DROP TABLE psql_items")
		return strings.ReplaceAll(stdout+"\n"+stderr, dir, "DIR"), string(out)
	}
	want, wantFile := run("direct")
	if !strings.Contains(want, "top is 4") || !strings.Contains(want, "22012") || wantFile != "id,name\n1,one\n2,two\n3,three\n4,\n" {
		t.Fatalf("the script itself is wrong:\n%s\n%s", want, wantFile)
	}
	for _, mode := range modes {
		got, file := run(mode)
		if diff := cmp.Diff(want, got); diff != "" || file != wantFile {
			t.Errorf("%s port (-direct +sluice):\n%s\n%s", mode, diff, file)
		}
	}
}

// TestScriptThatFailsIsRolledBack has psql run scripts whose third statement fails.
func TestScriptThatFailsIsRolledBack(t *testing.T) {
	t.Parallel()
	r := toolsRig(t)
	const broken = "CREATE TABLE psql_never (x int);\nINSERT INTO psql_never VALUES (1);\nSELECT 1/0;\nINSERT INTO psql_never VALUES (2);\n"
	for _, mode := range modes {
		for _, args := range [][]string{{"--single-transaction"}, {"--command=BEGIN; " + broken}} {
			stdin := broken
			if len(args) > 0 && strings.HasPrefix(args[0], "--command") {
				stdin = ""
			}
			_, stderr, err := r.try(r.to(mode, "shop_plain"), stdin, "psql", append(args, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")...)
			if err == nil || !strings.Contains(stderr, "division by zero") {
				t.Errorf("%s, %s: %v, %q", mode, args, err, stderr)
			}
			if got := r.tool(r.to("direct", "shop_plain"), "psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command=SELECT to_regclass('psql_never') IS NULL"); strings.TrimSpace(got) != "t" {
				t.Errorf("%s, %s: the table is there", mode, args)
			}
		}
	}
}
