package sessionstate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCustomNames(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string][]string{
		"SET app.user_id = 5":                   {"app.user_id"},
		"set session App.User.id to 'x'":        {"App.User.id"},
		`SET "app"."user_id" = 'a.b'`:           {"app.user_id"},
		"SET app . x = 1":                       {"app.x"},
		"RESET app.x":                           {"app.x"},
		"SET search_path = a, b":                nil,
		"SELECT set_config('app.x', $1, false)": {"app.x"},
		"SELECT pg_catalog.set_config('app.x', '{\"a.b\": \"c d\"}', false)":                        {"pg_catalog.set_config", "app.x"},
		"SELECT set_config($$app.x$$, t.v, false) FROM t":                                           {"app.x", "t.v"},
		"DO $$ BEGIN PERFORM set_config('app.x', 'y', false); SET b.c = 1; END $$ LANGUAGE plpgsql": {"app.x", "b.c"},
		"SELECT set_config ( 'app.x' , 'y', false), set_config('b.c', 'z', false)":                  {"app.x", "b.c"},
	} {
		got, params, ok := CustomNames(sql)
		if diff := cmp.Diff(want, got); diff != "" || !ok || params != nil {
			t.Errorf("CustomNames(%q), ok = %t (-want +got):\n%s", sql, ok, diff)
		}
	}
}

func TestCustomNamesThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"SELECT set_config($1 || 'x', $2, false)",
		"SELECT set_config('app.' || $1, $2, false)",
		"SELECT set_config($1::text, $2, false)",
		"SELECT set_config(-$1, $2, false)",
		"SELECT set_config($99999, $2, false)",
		"SELECT set_config($1$2, $2, false)",
		"SELECT set_config(name, 'x', false) FROM t",
		"SELECT set_config('app.' || 'x', 'x', false)",
		"SELECT set_config(lower('APP.X'), 'x', false)",
		"SELECT set_config(E'app\\x2ex', 'x', false)",
		"SELECT set_config(set_config('a.b', 'c.d', false), 'x', false)",
		"UPDATE pg_settings SET setting = 1",
		"SET x = 'SELECT set_config(1)'",
		"SELECT pg_catalog.set_config",
		"SELECT set_config('app.x', 'y', false",
		"SET x = 'no end",
	} {
		if names, _, ok := CustomNames(sql); ok {
			t.Errorf("CustomNames(%q) = %q, want not ok", sql, names)
		}
	}
}

func TestCustomNamesThatAreParameters(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string][]int{
		"SELECT set_config($1, $2, false)":                                  {1},
		"SELECT set_config( $3 , $2, false), set_config('a.b', $1, false)":  {3},
		"SELECT pg_catalog.set_config($12, $2, $4), set_config($1, '', $4)": {12, 1},
	} {
		_, got, ok := CustomNames(sql)
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("CustomNames(%q), ok = %t, parameters (-want +got):\n%s", sql, ok, diff)
		}
	}
}
