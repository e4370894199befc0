package leakhunt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// setting is one that clients set, to values that tell them apart where there are enough.
type setting struct {
	name    string
	startup bool // it may be set in the connection string
	value   func(c *client) string
}

func one(values ...string) func(*client) string {
	return func(c *client) string { return pick(c, values...) }
}

func marked(format string, from int) func(*client) string {
	return func(c *client) string { return fmt.Sprintf(format, c.number(from)) }
}

func personal(c *client) string { return fmt.Sprintf("%s-%d", c.mark(), c.next()) }

var settings = [...]setting{
	{"work_mem", true, marked("%dkB", 1000)},
	{"statement_timeout", true, marked("%dms", 600_000)},
	{"lock_timeout", false, marked("%dms", 700_000)},
	{"idle_in_transaction_session_timeout", false, marked("%dms", 800_000)},
	{"TimeZone", true, one("Asia/Tokyo", "America/Lima", "Africa/Cairo", "UTC")},
	{"DateStyle", true, one("ISO, MDY", "German, DMY", "SQL, DMY")},
	{"IntervalStyle", false, one("postgres", "iso_8601", "sql_standard")},
	{"extra_float_digits", false, one("-5", "0", "2")},
	{"bytea_output", false, one("hex", "escape")},
	{"search_path", false, func(c *client) string { return pick(c, "public", "liar, pg_catalog", "$user") }},
	{"enable_seqscan", false, one("on", "off")},
	{"client_encoding", true, one("UTF8", "LATIN1")},
	{"standard_conforming_strings", false, one("on", "off")},
	{"default_transaction_read_only", false, one("on", "off", "off")},
	{"default_transaction_isolation", true, one("read committed", "repeatable read", "serializable")},
	{"application_name", false, personal},
	{"app.user_id", false, personal},
	{"app.tenant", false, personal},
	{"my.flag", false, personal},
}

// anySetting returns one, and a value for it.
func (c *client) anySetting() (name, value string) {
	s := settings[c.rng.IntN(len(settings))]
	return s.name, s.value(c)
}

// anySet returns a statement that sets something for the session.
func (c *client) anySet() string {
	name, value := c.anySetting()
	return pick(c, setSQL(name, value), setSQL(name, value), fmt.Sprintf("SELECT pg_catalog.set_config('%s', '%s', false)", name, value),
		fmt.Sprintf("SELECT pg_catalog.set_config('%s', '%s', false)", name, value),
		pick(c, "SET TIME ZONE 'Asia/Tokyo'", "SET SCHEMA 'public'", "SET NAMES 'LATIN1'", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
			"SET work_mem = 1024", "SET SESSION extra_float_digits TO 1"))
}

// setSQL is a SET; lists are not to become one name.
func setSQL(name, value string) string {
	if name == "search_path" || name == "DateStyle" {
		quoted := strings.Split(value, ", ")
		return "SET " + name + " = '" + strings.Join(quoted, "', '") + "'"
	}
	return "SET " + name + " = '" + value + "'"
}

// episode plays one of what clients do.
func (c *client) episode() error {
	if c.tn.code && c.rng.IntN(3) == 0 {
		return c.callCode()
	}
	kinds := [...]func(*client) error{
		(*client).reads, (*client).reads, (*client).reads, (*client).sets, (*client).sets, (*client).sets, (*client).setsInTransaction,
		(*client).setsInTransaction, (*client).resets, (*client).fails, (*client).becomes, (*client).doesBlock, (*client).usesStatements,
		(*client).usesStatements, (*client).isCancelled, (*client).makesTemporary, (*client).locks, (*client).holdsCursor,
		(*client).drawsNumbers, (*client).isStubborn, (*client).keepsLetters,
	}
	return kinds[c.rng.IntN(len(kinds))](c)
}

func (c *client) reads() error {
	return c.tx(pick(c, "SELECT 1", "SELECT count(*) FROM "+c.table(), "SELECT current_user, session_user", "SELECT current_setting('work_mem')",
		"BEGIN; SELECT 1; COMMIT", "SHOW TimeZone", "SELECT timestamptz '2026-01-01 00:00:00+00', interval '1 day 2 hours', 1.0::float8 / 3, decode('00ff', 'hex')"))
}

func (c *client) sets() error {
	name, value := c.anySetting()
	return c.tx(pick(c, c.anySet(), c.anySet(), "SET LOCAL "+strings.TrimPrefix(setSQL(name, value), "SET "), c.anySet()+"; "+c.anySet()))
}

func (c *client) setsInTransaction() error {
	name, value := c.anySetting()
	local := fmt.Sprintf("SELECT pg_catalog.set_config('%s', '%s', true)", name, value)
	steps := []string{"BEGIN", pick(c, c.anySet(), local)}
	switch c.rng.IntN(4) {
	case 0:
		steps = append(steps, "SAVEPOINT a", c.anySet(), "ROLLBACK TO a")
	case 1:
		steps = append(steps, "SAVEPOINT a", c.anySet(), "SELECT 1/0", "ROLLBACK TO SAVEPOINT a", pick(c, local, "SELECT 1"))
	case 2:
		steps = append(steps, "SAVEPOINT a", c.anySet(), "RELEASE a", pick(c, "RESET ALL", "RESET "+name))
	}
	return c.tx(append(steps, pick(c, "COMMIT", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN; ROLLBACK"))...)
}

func (c *client) resets() error {
	name, _ := c.anySetting()
	return c.tx(pick(c, "RESET "+name, "SET "+name+" TO DEFAULT", "RESET ALL", "BEGIN; RESET ALL; ROLLBACK"))
}

func (c *client) fails() error {
	return c.tx(pick(c,
		[]string{"BEGIN", c.anySet(), "SELECT 1/0", "SELECT 1", "COMMIT"},
		[]string{c.anySet() + "; SELECT 1/0"},
		[]string{"SET work_mem = 'nonsense'"},
		[]string{"BEGIN", "INSERT INTO " + c.table() + " (v) VALUES ('rolled back')", c.anySet(), "ROLLBACK"},
		[]string{"SELECT nonsense"},
	)...)
}

func (c *client) becomes() error {
	role := c.tn.name + pick(c, "_reader", "_writer")
	return c.tx(pick(c,
		[]string{"SET ROLE " + role}, []string{"RESET ROLE"}, []string{"SET ROLE NONE"},
		[]string{"BEGIN", "SET LOCAL ROLE " + role, "SELECT count(*) FROM " + c.table(), pick(c, "COMMIT", "ROLLBACK")},
		[]string{"BEGIN", "SET ROLE " + role, pick(c, "COMMIT", "ROLLBACK")},
		[]string{"SET SESSION AUTHORIZATION " + c.tn.name}, []string{"SET SESSION AUTHORIZATION DEFAULT"},
		[]string{"SELECT pg_catalog.set_config('role', '" + role + "', false)"},
	)...)
}

func (c *client) doesBlock() error {
	name, value := c.anySetting()
	return c.tx(pick(c,
		"DO $$ BEGIN PERFORM pg_catalog.set_config('"+name+"', '"+value+"', false); END $$",
		"DO $$ BEGIN "+setSQL(name, value)+"; END $$",
		"DO $$ BEGIN "+setSQL(name, value)+"; RAISE EXCEPTION 'no'; END $$",
		"DO $$ BEGIN BEGIN "+setSQL(name, value)+"; RAISE EXCEPTION 'no'; EXCEPTION WHEN others THEN NULL; END; END $$",
	))
}

// usesStatements prepares under a name, or uses or closes what it has. The texts hold nothing that Postgres folds when it
// parses them, for they are run under other settings later.
func (c *client) usesStatements() error {
	switch {
	case len(c.prepared) < 4 && c.rng.IntN(2) == 0:
		name := fmt.Sprintf("s%d", c.next())
		c.prepared = append(c.prepared, name)
		sql := pick(c, "SELECT current_setting('work_mem'), current_setting('TimeZone')", "SELECT current_user, session_user",
			"SELECT count(*) FROM "+c.table(), "SELECT id, v FROM "+c.table()+" ORDER BY id", "SELECT current_setting('search_path')")
		if err := c.run(prepares(name, sql), "prepares "+name+": "+sql); err != nil {
			return err
		}
	case len(c.prepared) > 0 && c.rng.IntN(3) == 0:
		name := c.prepared[0]
		c.prepared = c.prepared[1:]
		if err := c.run(forgets(name), "closes "+name); err != nil {
			return err
		}
		if err := c.run(runs(name), "runs "+name); err != nil {
			return err
		}
	}
	for _, name := range c.prepared {
		if err := c.run(runs(name), "runs "+name); err != nil {
			return err
		}
	}
	return c.look()
}

// keepsLetters prepares a statement whose letters are read as settings say, and runs it under others. (What Postgres makes of a
// timestamp is not as certain: anybody who makes a schema, and be it for temporary objects, has it look at all texts again.)
func (c *client) keepsLetters() error {
	const name = "letters"
	reading := func() string {
		return pick(c, "SET standard_conforming_strings = off", "RESET standard_conforming_strings", "SET client_encoding = 'LATIN1'", "SET client_encoding = 'UTF8'",
			"SET backslash_quote = on", "BEGIN; SET standard_conforming_strings = off; COMMIT", "BEGIN; SET standard_conforming_strings = off; ROLLBACK", "SELECT 1")
	}
	sql := pick(c, `SELECT 'a\\b', 'a\tb'`, "SELECT octet_length('caf\xc3\xa9'), 'caf\xc3\xa9'")
	if err := c.tx(reading()); err != nil {
		return err
	}
	if err := c.run(prepares(name, sql), "prepares "+sql); err != nil {
		return err
	}
	for range 1 + c.rng.IntN(4) {
		if err := c.tx(reading()); err != nil {
			return err
		}
		if err := c.run(runs(name), "runs "+sql); err != nil {
			return err
		}
	}
	if err := c.run(forgets(name), "closes "+name); err != nil {
		return err
	}
	return c.look()
}

// isCancelled has a long statement cancelled, in a transaction that has set something or outside of one. The twin gets one
// that fails.
func (c *client) isCancelled() error {
	inside := c.rng.IntN(2) == 0
	if inside {
		for _, sql := range []string{"BEGIN", c.anySet()} {
			if err := c.run(simple(sql), sql); err != nil {
				return err
			}
		}
	}
	cancelled := func(ctx context.Context, conn *pgconn.PgConn) (string, error) {
		if conn == c.p.twin {
			_, err := conn.Exec(ctx, "SELECT 1/0").ReadAll()
			if _, err = answer(conn, nil, err); err != nil {
				return "", err
			}
			return fmt.Sprintf("fails %c", conn.TxStatus()), nil
		}
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(ctx, "SELECT pg_catalog.pg_sleep(60)").ReadAll()
			done <- err
		}()
		for {
			select {
			case err := <-done:
				if said, err := answer(conn, nil, err); err != nil || !strings.Contains(said, "57014") {
					return said, err
				}
				return fmt.Sprintf("fails %c", conn.TxStatus()), nil
			case <-time.After(20 * time.Millisecond):
				if err := conn.CancelRequest(ctx); err != nil {
					return "", errors.Join(err, <-done)
				}
			}
		}
	}
	if err := c.run(cancelled, "is cancelled"); err != nil {
		return err
	}
	c.w.count("cancelled")
	if inside {
		return c.tx(pick(c, "COMMIT", "ROLLBACK"))
	}
	return c.look()
}

// meanwhile plays what does not pin, while something does.
func (c *client) meanwhile() error {
	for range c.rng.IntN(3) {
		if err := pick(c, c.reads, c.sets, c.fails, c.usesStatements)(); err != nil {
			return err
		}
	}
	return nil
}

// holding plays something that pins until it is given back.
func (c *client) holding(take []string, use, give string) error {
	if !c.token() {
		return c.reads()
	}
	if err := c.tx(take...); err != nil {
		return err
	}
	if err := c.meanwhile(); err != nil {
		return err
	}
	if err := c.tx(use); err != nil {
		return err
	}
	if c.rng.IntN(6) == 0 {
		c.doomed = true // and leaves with it
		return nil
	}
	if err := c.tx(give); err != nil {
		return err
	}
	if !c.doomed {
		c.releaseToken()
	}
	return nil
}

func (c *client) makesTemporary() error {
	name := fmt.Sprintf("temp%d", c.next())
	create := "CREATE TEMP TABLE " + name + " AS SELECT '" + c.mark() + "' AS v"
	switch c.rng.IntN(5) {
	case 0:
		return c.tx("BEGIN", "CREATE TEMP TABLE "+name+" (v text) ON COMMIT DROP", "SELECT * FROM "+name, pick(c, "COMMIT", "ROLLBACK"))
	case 1:
		return c.tx("BEGIN", create, "ROLLBACK")
	case 2:
		create = "CREATE FUNCTION pg_temp." + name + "() RETURNS text LANGUAGE sql AS 'SELECT ''" + c.mark() + "'''"
		return c.holding([]string{"SET default_transaction_read_only = off", create},
			"SELECT pg_temp."+name+"()", "DROP FUNCTION pg_temp."+name+"()")
	case 3:
		return c.holding([]string{"SET search_path = pg_temp, public", "CREATE TABLE " + name + " AS SELECT '" + c.mark() + "' AS v"},
			"SELECT * FROM pg_temp."+name, "DROP TABLE pg_temp."+name+"; RESET search_path")
	}
	return c.holding([]string{create}, "SELECT * FROM pg_temp."+name, "DROP TABLE pg_temp."+name)
}

func (c *client) locks() error {
	key := c.number(1_000_000 + 1_000_000*c.sessions)
	if c.rng.IntN(4) == 0 {
		return c.tx("BEGIN", fmt.Sprintf("SELECT pg_catalog.pg_advisory_xact_lock(%d)", key), pick(c, "COMMIT", "ROLLBACK"))
	}
	return c.holding([]string{fmt.Sprintf("SELECT pg_catalog.pg_advisory_lock%s(%d)", pick(c, "", "_shared"), key)}, "SELECT 1",
		"SELECT pg_catalog.pg_advisory_unlock_all()")
}

func (c *client) holdsCursor() error {
	name := fmt.Sprintf("cursor%d", c.next())
	declare := "DECLARE " + name + " CURSOR WITH HOLD FOR SELECT '" + c.mark() + "' || g FROM pg_catalog.generate_series(1, 5) g"
	if c.rng.IntN(3) == 0 {
		return c.tx("BEGIN", "DECLARE "+name+" CURSOR FOR SELECT 1", "FETCH 1 FROM "+name, "COMMIT")
	}
	return c.holding([]string{"BEGIN", declare, "COMMIT"}, "FETCH 2 FROM "+name, "CLOSE "+name)
}

// drawsNumbers inserts and asks for the number, in a transaction or in two. In two it may be told that there is none: for
// sure the first time, and where another than an INSERT comes in between.
func (c *client) drawsNumbers() error {
	insert := "INSERT INTO " + c.table() + " (v) VALUES ('" + personal(c) + "')"
	ask := pick(c, "SELECT pg_catalog.lastval()", fmt.Sprintf("SELECT pg_catalog.currval('w%d.t_id_seq')", c.index))
	if !c.asked && !c.token() {
		return c.tx("SELECT count(*) FROM " + c.table())
	}
	if err := c.tx("RESET ROLE", "SET search_path = public", "SET default_transaction_read_only = off"); err != nil {
		return err
	}
	if err := c.run(simple(insert), insert); err != nil {
		return err
	}
	before := c.asked
	c.asked = true
	sluice, twin, err := c.p.both(c.ctx, simple(ask))
	if err != nil {
		return err
	}
	c.note("%s: %s", ask, sluice)
	c.w.count("asked for a number")
	if none := strings.Contains(sluice, " 55000 "); sluice != twin && (before || !none) {
		c.fail("%s\n  through sluice: %s\n        directly: %s", ask, sluice, twin)
		return errDiffers
	}
	return c.look()
}

// isStubborn does what pins to the end of the session, and leaves soon. What such a session resets goes back to what its backend
// came with, which has no application_name.
func (c *client) isStubborn() error {
	if c.named || c.rng.IntN(2) > 0 || !c.token() {
		return c.reads()
	}
	c.doomed = true
	name := fmt.Sprintf("sql%d", c.next())
	return c.tx(pick(c,
		[]string{"PREPARE " + name + " AS SELECT '" + c.mark() + "'", "EXECUTE " + name, "SELECT name, statement FROM pg_catalog.pg_prepared_statements WHERE from_sql ORDER BY name"},
		[]string{"SELECT pg_catalog.setseed(0.5)", "SELECT pg_catalog.random()", "SELECT pg_catalog.random()"},
		[]string{"SET seed = 0.25; SELECT pg_catalog.random()", "SELECT pg_catalog.random()"},
		[]string{pick(c, "DISCARD ALL", "DISCARD TEMP", "DISCARD SEQUENCES", "DISCARD PLANS")},
		[]string{"DEALLOCATE ALL"},
		[]string{"DO $$ BEGIN EXECUTE 'SET app.user_id = ''" + personal(c) + "'''; END $$"},
	)...)
}

func query(sql string) *pgproto3.Query { return &pgproto3.Query{String: sql} }
