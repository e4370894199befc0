package sessionstate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAgain(t *testing.T) {
	t.Parallel()
	key := func(s ...Setting) string { return NewState(s).Parse() }
	zone, other := Setting{"TimeZone", "Asia/Tokyo"}, Setting{"TimeZone", "America/Lima"}
	path, role, letters := Setting{"search_path", "x"}, Setting{"role", "bob"}, Setting{"standard_conforming_strings", "off"}
	for name, tc := range map[string]struct{ was, now, want string }{
		"nothing":                        {},
		"a setting is kept":              {key(zone), key(other), key(zone)},
		"a default is kept":              {"", key(other), ""},
		"a setting that is reset":        {key(zone), "", key(zone)},
		"another role":                   {key(zone), key(other, role), key(zone, role)},
		"another path":                   {key(zone), key(other, path), key(other, path)},
		"the same path":                  {key(zone, path), key(other, path), key(zone, path)},
		"a path that is reset":           {key(zone, path), key(other), key(other)},
		"letters, with another path":     {key(letters), key(other, path), key(letters, other, path)},
		"letters of now, with that path": {"", key(letters, path), key(path)},
	} {
		if got := ParseAgain(tc.was, tc.now); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	got := ParseChanges(key(other, role, path), key(letters, role, path))
	want := []Change{{Setting: Setting{Name: "TimeZone"}, Reset: true}, {Setting: letters}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}
