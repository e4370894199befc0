package relay

import (
	"slices"
	"testing"

	"sluice/internal/sessionstate"
)

func TestTextsAnnounceWhatTheyChangeWithoutNamingIt(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text     string
		settings [][4]string
		want     []sessionstate.Setting
	}{
		{"reset session authorization", [][4]string{{"s", "role", "none", "-"}}, []sessionstate.Setting{{Name: "role", Value: "none"}}},
		{"SET SESSION AUTHORIZATION carol", [][4]string{{"s", "role", "none", "-"}, {"s", "session_authorization", "carol", "alice"}},
			[]sessionstate.Setting{{Name: "session_authorization", Value: "carol"}, {Name: "role", Value: "none"}}},
		{"set time zone 'UTC'", [][4]string{{"s", "role", "bob", "-"}, {"s", "TimeZone", "UTC", "Asia/Tokyo"}},
			[]sessionstate.Setting{{Name: "TimeZone", Value: "UTC"}, {Name: "role", Value: "bob"}}},
		{"set names 'latin1'", [][4]string{{"s", "role", "bob", "-"}, {"s", "client_encoding", "LATIN1", "UTF8"}},
			[]sessionstate.Setting{{Name: "client_encoding", Value: "LATIN1"}, {Name: "role", Value: "bob"}}},
		{"set xml option document", [][4]string{{"s", "role", "bob", "-"}, {"s", "xmloption", "document", "content"}},
			[]sessionstate.Setting{{Name: "xmloption", Value: "document"}, {Name: "role", Value: "bob"}}},
		{"set session characteristics as transaction isolation level serializable",
			[][4]string{{"s", "role", "bob", "-"}, {"s", "default_transaction_isolation", "serializable", "read committed"}},
			[]sessionstate.Setting{{Name: "default_transaction_isolation", Value: "serializable"}, {Name: "role", Value: "bob"}}},
		{"Reset/* all */ ALL", [][4]string{{"s", "role", "bob", "-"}, whoIs("")},
			[]sessionstate.Setting{{Name: "app.who"}, {Name: "role", Value: "bob"}}},
		{"set work_mem = '8MB'", [][4]string{{"s", "role", "carol", "-"}, {"s", "work_mem", "8192", "4096"}},
			[]sessionstate.Setting{{Name: "work_mem", Value: "8192"}, {Name: "role", Value: "bob"}}},
	} {
		r := newRig(t, Params{Behind: behind(Hint, sessionstate.Code{Opaque: true})}).attach()
		r.runs("set role bob; set app.who = 'me'", questionWords)
		r.answer("", "", held(true, [4]string{"s", "role", "bob", "-"}, whoIs("me"))...)
		r.backend.unasked = true
		r.runs(tc.text, againWords)
		r.answer("", "", held(false, tc.settings...)...)
		if got := r.m.state.Settings(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: the session has %v, want %v", tc.text, got, tc.want)
		}
	}
}
