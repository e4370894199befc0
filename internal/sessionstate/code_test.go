package sessionstate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCodeSaysWhatToAskAbout(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]Code{
		"BEGIN RETURN NEW; END":                                                 {},
		"BEGIN PERFORM set_config('app.x', 'y', true); END":                     {},
		"BEGIN SET LOCAL app.x = 1; END":                                        {},
		"BEGIN PERFORM set_config('app.x', t.v, false) FROM s.t; END":           {Opaque: true, Custom: []string{"app.x"}},
		"BEGIN SET App.X = 'y'; RESET b.c; SET LOCAL c.d TO e.f; END":           {Opaque: true, Custom: []string{"app.x", "b.c", "c.d"}},
		`BEGIN SET SESSION "app"."x" TO y; UPDATE a.b SET c.d = 1; END`:         {Opaque: true, Custom: []string{"app.x"}},
		"SELECT set_config('App.x', current_setting('app.y', true), false)":     {Opaque: true, Custom: []string{"app.x", "app.y"}},
		"SELECT set_config('work_mem', '1MB', false)":                           {Opaque: true, Settings: true},
		"BEGIN RESET ALL; END":                                                  {Opaque: true, Settings: true},
		"BEGIN SET TIME ZONE 'UTC'; END":                                        {Opaque: true, Settings: true},
		"BEGIN SET ROLE bob; END":                                               {Opaque: true, Settings: true, Identity: true},
		"SELECT set_config('role', 'bob', false)":                               {Opaque: true, Settings: true, Identity: true},
		"BEGIN PERFORM pg_advisory_lock(1); END":                                {Opaque: true, Locks: true},
		"BEGIN CREATE TEMP TABLE t (a int); END":                                {Opaque: true, Objects: true, Defines: true},
		"BEGIN CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; END": {Defines: true},
		"BEGIN CALL p(); END":                                                   {Opaque: true},
		"BEGIN EXECUTE a; END":                                                  {Opaque: true, Unknown: true, Defines: true},
		"BEGIN PERFORM set_config(a, 'y', false); END":                          {Opaque: true, Unknown: true},
		"BEGIN UPDATE pg_settings SET setting = 1; END":                         {Opaque: true, Unknown: true},
		"BEGIN PERFORM setseed(1); END":                                         {Opaque: true, Unknown: true},
		"BEGIN RETURN currval('s'); END":                                        {Opaque: true, Unknown: true},
		"BEGIN DO 'BEGIN SET a.b = 1; END'; END":                                {Opaque: true, Unknown: true},
	} {
		var got Code
		if opaque := got.Add(source); opaque != want.Opaque {
			t.Errorf("Add(%q) = %t, want %t", source, opaque, want.Opaque)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", source, diff)
		}
	}
}

func TestCodeAddsUp(t *testing.T) {
	t.Parallel()
	var c Code
	c.Add("SELECT set_config('a.b', '', false)")
	c.Add("SELECT pg_advisory_lock(1)")
	c.Add("SELECT set_config('A.B', '', false), set_config('c.d', '', false)")
	want := Code{Opaque: true, Locks: true, Custom: []string{"a.b", "c.d"}}
	if !c.Equal(&want) || c.Equal(nil) || c.Equal(&Code{Opaque: true}) || !(*Code)(nil).Equal(nil) {
		t.Errorf("got %+v, want %+v", c, want)
	}
	c.AddUnreadable()
	if !c.Unknown {
		t.Error("what cannot be read is taken for known")
	}
}

func TestDigestTellsInertStatementsApart(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"", "BEGIN", "begin isolation level serializable, read only;", "START TRANSACTION", "COMMIT; BEGIN", "END", "ROLLBACK TO SAVEPOINT a",
		"/* a */ COMMIT -- b", "RELEASE a", "SHOW app.who", "ABORT",
		"LISTEN a", "UNLISTEN *; NOTIFY a",
	} {
		if !MakeDigest(sql).Inert {
			t.Errorf("%q is not inert", sql)
		}
	}
	for _, sql := range []string{
		"SELECT 1", "BEGIN; SELECT f()", "COMMIT; INSERT INTO t VALUES (1)", "(SELECT f())", "COMMIT PREPARED 'a'",
		"BEGIN; -- a\r SELECT f()", "TABLE t", "SHOW a; EXECUTE b", `"begin"`, "CALL p()", "BEGIN $$ $$", "/* /* */ SELECT */ f()", "FETCH c",
		"LISTEN a; SELECT * FROM t",
	} {
		if MakeDigest(sql).Inert {
			t.Errorf("%q is inert", sql)
		}
	}
}

func TestDigestIsTheSameForTheSameStatement(t *testing.T) {
	t.Parallel()
	digest := func(sql string) uint64 { return MakeDigest(sql).Print }
	for _, same := range [][2]string{
		{"SELECT a FROM t WHERE b = 1", "select  A from T\nwhere b = 22 -- x"},
		{"SELECT 'a', $$b$$", "SELECT 'it', $x$ y $x$"},
		{"SELECT /* c */ 1.5", "SELECT 2"},
	} {
		if digest(same[0]) != digest(same[1]) {
			t.Errorf("%q and %q are told apart", same[0], same[1])
		}
	}
	for _, other := range [][2]string{{"SELECT a", "SELECT b"}, {"SELECT ab", "SELECT a b"}, {`SELECT "a"`, `SELECT "A"`}, {"SELECT $1", "SELECT f($1)"}} {
		if digest(other[0]) == digest(other[1]) {
			t.Errorf("%q and %q are not told apart", other[0], other[1])
		}
	}
}

func FuzzDigest(f *testing.F) {
	for _, sql := range []string{"BEGIN; SELECT 'a'", "/* /*", "$a$", `"`, "--", "SELECT 1.5e3"} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		d := MakeDigest(sql)
		if again := MakeDigest(sql); again != d {
			t.Errorf("%+v, then %+v", d, again)
		}
		if MakeDigest("select f();" + sql).Inert {
			t.Error("a SELECT is inert")
		}
		var c Code
		if c.Add(sql); c.Unknown && !c.Opaque {
			t.Error("unknown but not opaque")
		}
	})
}
