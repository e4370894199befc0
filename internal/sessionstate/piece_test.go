package sessionstate

import (
	"strings"
	"testing"
)

func TestPrepareClause(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ sql, name, want string }{
		{"PREPARE a AS SELECT 1", "a", ""},
		{" prepare A (int) AS SELECT $1; -- end", "a", ""},
		{";;PREPARE a AS SELECT ';' ;", "a", ""},
		{`PREPARE "A b""c" AS SELECT 1`, `A b"c`, ""},
		{"INSERT INTO t VALUES (1); PREPARE a AS SELECT $$;$$ ; SELECT 2", "a", "PREPARE a AS SELECT $$;$$"},
		{"PREPARE b AS SELECT 1; PREPARE a(int) AS SELECT $1 /* ; */ + 1", "a", "PREPARE a(int) AS SELECT $1 /* ; */ + 1"},
		{"CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2); PREPARE a AS SELECT 1", "a", "PREPARE a AS SELECT 1"},
		{"PREPARE transaction AS SELECT 1", "transaction", ""},
		{"PREPARE TRANSACTION 'a'; PREPARE a AS SELECT 1", "a", "PREPARE a AS SELECT 1"},
		{"SELECT 1; PREPARE ä AS SELECT 'ß'", "ä", "PREPARE ä AS SELECT 'ß'"},
	} {
		want := tc.want
		if want == "" {
			want = tc.sql
		}
		if got, ok := PrepareClause(tc.sql, tc.name); !ok || got != want {
			t.Errorf("PrepareClause(%q, %q) = %q, %t, want %q", tc.sql, tc.name, got, ok, want)
		}
	}
}

func TestPrepareClauseThatIsNotCertain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ sql, name string }{
		{"SELECT 1", "a"},
		{"", "a"},
		{"PREPARE", "a"},
		{"PREPARE a AS SELECT 1", "b"},
		{`PREPARE "A" AS SELECT 1`, "a"},
		{"PREPARE a AS SELECT 1; DEALLOCATE a; PREPARE a AS SELECT 2", "a"},
		{`SELECT '\'; PREPARE a AS SELECT 1 --'`, "a"},
		{`PREPARE U&"a" AS SELECT 1`, "a"},
		{"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; PREPARE a AS SELECT 1; END", "a"},
		{"SELECT (; PREPARE a AS SELECT 1", "a"},
		{"PREPARE a AS SELECT 'open", "a"},
		{"PREPARE TRANSACTION 'transaction'", "transaction"},
		{"DO $$ BEGIN PREPARE a AS SELECT 1; END $$", "a"},
		{"PREPARE " + strings.Repeat("a", 64) + " AS SELECT 1", strings.Repeat("a", 63)},
	} {
		if got, ok := PrepareClause(tc.sql, tc.name); ok {
			t.Errorf("PrepareClause(%q, %q) = %q, want none", tc.sql, tc.name, got)
		}
	}
}

func TestVacates(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"DROP DATABASE x": "x",
		"/* c */ drop database if exists Shop with (force); ": "shop",
		`DROP DATABASE "Shop ""1"""`:                          `Shop "1"`,
		"DROP DATABASE if":                                    "if",
		"ALTER DATABASE x RENAME TO y":                        "x",
		`ALTER DATABASE "X" SET TABLESPACE fast`:              "X",
		"ALTER DATABASE x SET work_mem = 1":                   "",
		"ALTER DATABASE x OWNER TO rename":                    "",
		"CREATE DATABASE y":                                   "template1",
		"CREATE DATABASE y TEMPLATE x":                        "x",
		"create database y with owner = o template = X":       "x",
		"CREATE DATABASE y TEMPLATE DEFAULT":                  "template1",
		"CREATE DATABASE y TEMPLATE 'It''s'":                  "It's",
		`CREATE DATABASE template TEMPLATE = "a b" OWNER o`:   "a b",
		"CREATE DATABASE y OWNER template TEMPLATE x":         "template,x",
		"DROP DATABASE " + strings.Repeat("a", 70):            strings.Repeat("a", 63),
		"DROP TABLE database":                                 "",
		"DROP DATABASE":                                       "",
		"SELECT 1":                                            "",
		"":                                                    "",
		"DROP":                                                "",
		"SELECT 1; DROP DATABASE x":                           "",
		"DROP DATABASE x; DROP DATABASE y":                    "",
		"COMMENT ON DATABASE x IS 'y'":                        "",
		"ALTER DATABASE":                                      "",
		"DROP DATABASE 'x'":                                   "",
	} {
		if got := strings.Join(Vacates(sql), ","); got != want {
			t.Errorf("Vacates(%q) = %q, want %q", sql, got, want)
		}
		if want != "" && !MayVacate([]byte(sql)) {
			t.Errorf("MayVacate(%q) is false", sql)
		}
	}
	for _, sql := range []string{"", "  ", "SELECT 1", "-- DROP DATABASE x", "INSERT INTO t VALUES (1)", "; /* DROP */"} {
		if MayVacate([]byte(sql)) {
			t.Errorf("MayVacate(%q) is true", sql)
		}
	}
}

func TestMayVacateDoesNotAllocate(t *testing.T) {
	for _, sql := range []string{"SELECT 1", "  CREATE TABLE t ()", "/* c */ ALTER TABLE t ADD x int", "delete from t"} {
		text := []byte(sql)
		if n := testing.AllocsPerRun(100, func() { MayVacate(text) }); n != 0 {
			t.Errorf("MayVacate(%q) allocates %v times", sql, n)
		}
	}
}

// FuzzPrepareClause holds that what is cut out of a text prepares what it is to, and nothing else, wherever it stands.
func FuzzPrepareClause(f *testing.F) {
	for _, sql := range fuzzSeeds {
		f.Add(sql, "a", "PREPARE a AS SELECT 1")
	}
	f.Add("SELECT $$;$$", `A"b`, `PREPARE "A""b" (int) AS SELECT ';', $1 -- ;`)
	f.Add("CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)", "a", "prepare A as select (1)")
	f.Fuzz(func(t *testing.T, before, name, sql string) {
		Vacates(sql)
		MayVacate([]byte(sql))
		clause, ok := PrepareClause(sql, name)
		if !ok {
			return
		}
		if !strings.Contains(sql, clause) {
			t.Fatalf("%q is not in %q", clause, sql)
		}
		all, certain := statements(clause)
		if !certain || len(all) != 1 || all[0][0].token != kwPrepare {
			t.Fatalf("%q, cut out of %q, is %d statements, certain: %t", clause, sql, len(all), certain)
		}
		if again, ok := PrepareClause(clause, name); !ok || again != clause {
			t.Errorf("%q, cut again, is %q, %t", clause, again, ok)
		}
		if ScanString(clause)&Prepare == 0 {
			t.Errorf("%q is not seen as a PREPARE", clause)
		}
		joined := before + "\n;" + clause
		if _, whole := statements(before); !whole || Scan([]byte(before))&Ambiguous != 0 {
			return
		}
		if got, ok := PrepareClause(joined, name); ok && got != joined && !strings.Contains(clause, got) {
			t.Errorf("behind %q, %q is %q", before, clause, got)
		}
	})
}
