package sessionstate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChangesLeadFromOneStateToAnother(t *testing.T) {
	t.Parallel()
	set := func(name, value string) Change { return Change{Setting: Setting{Name: name, Value: value}} }
	reset := func(name string) Change { return Change{Setting: Setting{Name: name}, Reset: true} }
	mem, path := Setting{"work_mem", "8192"}, Setting{"search_path", "x"}
	bob, eve := Setting{"role", "bob"}, Setting{"role", "eve"}
	for name, tc := range map[string]struct {
		from, to []Setting
		want     []Change
	}{
		"nothing":                        {nil, nil, nil},
		"the same in another order":      {[]Setting{mem, path}, []Setting{path, mem}, nil},
		"from nothing":                   {nil, []Setting{mem}, []Change{set("work_mem", "8192")}},
		"to nothing":                     {[]Setting{mem}, nil, []Change{reset("work_mem")}},
		"another value":                  {[]Setting{mem}, []Setting{{"work_mem", "1"}}, []Change{set("work_mem", "1")}},
		"another setting":                {[]Setting{mem}, []Setting{path}, []Change{reset("work_mem"), set("search_path", "x")}},
		"the encoding comes first":       {nil, []Setting{{"a.b", "é"}, {"client_encoding", "LATIN1"}}, []Change{set("client_encoding", "LATIN1"), set("a.b", "é")}},
		"the role comes last":            {nil, []Setting{bob, {"session_authorization", "carl"}, mem}, []Change{set("work_mem", "8192"), set("session_authorization", "carl"), set("role", "bob")}},
		"the role is given back first":   {[]Setting{bob, mem}, nil, []Change{reset("role"), reset("work_mem")}},
		"one role after another":         {[]Setting{bob}, []Setting{eve}, []Change{reset("role"), set("role", "eve")}},
		"a setting under the same role":  {[]Setting{bob}, []Setting{bob, mem}, []Change{reset("role"), set("work_mem", "8192"), set("role", "bob")}},
		"an empty value is not the same": {[]Setting{{"app.x", ""}}, nil, []Change{reset("app.x")}},
	} {
		if diff := cmp.Diff(tc.want, Changes(NewState(tc.from), NewState(tc.to))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestStatesThatShareStatements(t *testing.T) {
	t.Parallel()
	state := func(name, value string) *State { return NewState([]Setting{{name, value}}) }
	if a, b := state("work_mem", "1").Parse(), (*State)(nil).Parse(); a != b {
		t.Errorf("work_mem acts at parse: %q", a)
	}
	if a, b := state("search_path", "x").Parse(), state("search_path", "y").Parse(); a == b {
		t.Error("search_path does not act at parse")
	}
	if a, b := state("TimeZone", "UTC").Parse(), state("TimeZone", "Asia/Tokyo").Parse(); a == b {
		t.Error("TimeZone does not act at parse")
	}
}

func TestTimeoutsAreLeftOut(t *testing.T) {
	t.Parallel()
	s := NewState([]Setting{{"statement_timeout", "1"}, {"work_mem", "1"}})
	if got := s.WithoutTimeouts(); !got.Equal(NewState([]Setting{{"work_mem", "1"}})) {
		t.Errorf("left: %v", got.Settings())
	}
	if got := NewState([]Setting{{"lock_timeout", "1"}}).WithoutTimeouts(); got != nil {
		t.Errorf("left: %v", got.Settings())
	}
}

func TestTimeoutsAreSetLast(t *testing.T) {
	t.Parallel()
	s := NewState([]Setting{{"statement_timeout", "1"}, {"work_mem", "1"}, {"role", "bob"}})
	want := []Setting{{"work_mem", "1"}, {"role", "bob"}, {"statement_timeout", "1"}}
	if diff := cmp.Diff(want, s.Settings()); diff != "" {
		t.Error(diff)
	}
	if !s.Identity() {
		t.Error("it does not say who the session is")
	}
}

func TestTimeoutsOfLessThanASecondAreHasty(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"0": false, "1": true, "999": true, "1000": false, "30s": true} {
		if got := NewState([]Setting{{"statement_timeout", value}}).Hasty(); got != want {
			t.Errorf("%s: %t, want %t", value, got, want)
		}
	}
	if NewState([]Setting{{"work_mem", "1"}}).Hasty() {
		t.Error("work_mem is no timeout")
	}
}

func TestKeysTellStatesApart(t *testing.T) {
	t.Parallel()
	mem, path := Setting{"work_mem", "8192"}, Setting{"search_path", "x"}
	both := NewState([]Setting{mem, path})
	if other := NewState([]Setting{path, mem}); both.Key() != other.Key() || !both.Equal(other) {
		t.Errorf("%q and %q", both.Key(), other.Key())
	}
	for _, other := range []*State{nil, NewState([]Setting{mem}), NewState([]Setting{mem, {"search_path", "y"}})} {
		if both.Key() == other.Key() || both.Equal(other) || other.Equal(both) {
			t.Errorf("%q is %q", both.Key(), other.Key())
		}
	}
	if key := (*State)(nil).Key(); key != "" {
		t.Errorf("nothing has the key %q", key)
	}
}
