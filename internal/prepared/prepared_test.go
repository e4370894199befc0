package prepared

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInternSharesByTextAndTypes(t *testing.T) {
	t.Parallel()
	tab := NewTable()
	a := tab.Intern([]byte("select $1\x00\x00\x01\x00\x00\x00\x17"))
	b := tab.Intern([]byte("select $1\x00\x00\x01\x00\x00\x00\x17"))
	c := tab.Intern([]byte("select $1\x00\x00\x01\x00\x00\x00\x14"))
	if a != b || a == c {
		t.Fatalf("same body: %p %p, other types: %p", a, b, c)
	}
	if a.Query() != "select $1" || a.Name == c.Name {
		t.Errorf("query %q, names %q and %q", a.Query(), a.Name, c.Name)
	}
	a.Release()
	if tab.Len() != 2 {
		t.Errorf("after one of two releases: %d statements, want 2", tab.Len())
	}
	b.Release()
	if tab.Len() != 1 {
		t.Errorf("after the last release: %d statements, want 1", tab.Len())
	}
	if d := tab.Intern([]byte("select $1\x00\x00\x01\x00\x00\x00\x17")); d.Name == a.Name {
		t.Error("a name was used twice")
	}
}

func TestPrivateStatementsAreNeverShared(t *testing.T) {
	t.Parallel()
	tab := NewTable()
	p := tab.Private("select now()\x00\x00\x00")
	if s := tab.Intern([]byte("select now()\x00\x00\x00")); s == p {
		t.Fatal("a private statement was shared")
	}
	p.Release()
	if tab.Len() != 1 {
		t.Errorf("releasing a private statement removed a shared one")
	}
}

func TestClientNames(t *testing.T) {
	t.Parallel()
	tab := NewTable()
	var c Client
	a, b := tab.Intern([]byte("a\x00")), tab.Intern([]byte("b\x00"))
	if before := c.Swap("x", a); before != nil {
		t.Errorf("before the first: %v", before)
	}
	if before := c.Swap("x", nil); before != a || c.Lookup([]byte("x")) != nil {
		t.Errorf("taking away: %v, then %v", before, c.Lookup([]byte("x")))
	}
	c.Swap("x", a)
	c.Swap("", b)
	if c.Lookup(nil) != b || c.Lookup([]byte("x")) != a || c.Len() != 1 {
		t.Error("lookup does not find what was put")
	}
	c.Clear()
	if tab.Len() != 0 || c.Len() != 0 || c.Lookup(nil) != nil {
		t.Errorf("after Clear: %d interned, %d named", tab.Len(), c.Len())
	}
}

func TestBackendEvictsLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	tab := NewTable()
	st := func(s string) *Statement { return tab.Intern([]byte(s)) }
	a, b, c := st("a"), st("b"), st("c")
	set := NewBackend(2)
	set.Add(a)
	set.Add(b)
	set.Use(a)
	if got := set.Add(c); got != b {
		t.Fatalf("evicted %v, want b", got)
	}
	var order []string
	set.Each(func(s *Statement) { order = append(order, s.Query()) })
	if diff := cmp.Diff([]string{"c", "a"}, order); diff != "" {
		t.Error(diff)
	}
	if set.Use(b) || !set.Use(a) {
		t.Error("Use does not tell what is in the set")
	}
	for _, s := range []*Statement{a, b, c} {
		s.Release()
	}
	if tab.Len() != 2 {
		t.Errorf("a backend's set keeps its statements interned: %d, want 2", tab.Len())
	}
	set.Clear()
	if tab.Len() != 0 || set.Len() != 0 {
		t.Errorf("after Clear: %d interned, %d in the set", tab.Len(), set.Len())
	}
}

func TestUseAndInternOfKnownStatementsDoNotAllocate(t *testing.T) {
	tab := NewTable()
	body := []byte("select 1\x00\x00\x00")
	s := tab.Intern(body)
	set := NewBackend(10)
	set.Add(s)
	if n := testing.AllocsPerRun(100, func() { tab.Intern(body).Release(); set.Use(s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPackedNamesMeanTheSameInAnotherTable(t *testing.T) {
	t.Parallel()
	from, to := NewTable(), NewTable()
	var c, other Client
	intern := func(tab *Table, query string, result uint64) *Statement {
		s := tab.Intern([]byte(query + "\x00\x00\x00"))
		s.Result = result
		return s
	}
	other.Swap("here", intern(to, "select 1", 1))
	other.Swap("there", intern(to, "select 2", 7))
	scanned := intern(from, "select 3", 0)
	scanned.Signals, scanned.Scanned = 5, true
	c.Swap("same", intern(from, "select 1", 1))
	c.Swap("different", intern(from, "select 2", 2))
	c.Swap("new", scanned)
	c.Swap("tokyo", intern(from.Variant("TimeZone"), "select 4", 0))
	c.Swap("mine", from.Private("select 1\x00\x00\x00"))
	c.Swap("", intern(from, "select 6", 6))

	packed := c.Pack()
	if c.Len() != 0 || c.Lookup(nil) != nil || from.Len() != 0 || from.Variant("TimeZone").Len() != 0 {
		t.Fatalf("%d names, %d statements are left", c.Len(), from.Len())
	}
	c.Unpack(to, packed)
	for name, want := range map[string]Statement{
		"same": {body: "select 1", Result: 1, refs: 2}, "different": {body: "select 2", Result: 2, refs: 1},
		"new": {body: "select 3", Signals: 5, Scanned: true, refs: 1}, "tokyo": {body: "select 4", refs: 1},
		"mine": {body: "select 1", refs: 1}, "": {body: "select 6", Result: 6, refs: 1},
	} {
		s := c.Lookup([]byte(name))
		if s.Query() != want.body || s.Result != want.Result || s.Signals != want.Signals || s.Scanned != want.Scanned || s.refs != want.refs {
			t.Errorf("%q is %+v", name, s)
		}
	}
	same := func(name string, s *Statement) bool { return c.Lookup([]byte(name)) == s }
	if !same("same", other.Lookup([]byte("here"))) || same("different", other.Lookup([]byte("there"))) || same("mine", other.Lookup([]byte("here"))) {
		t.Error("the wrong ones are shared")
	}
	if to.Variant("TimeZone").Find([]byte("select 4\x00\x00\x00")) != c.Lookup([]byte("tokyo")) {
		t.Error("a statement has left its variant")
	}
	c.Clear()
	other.Clear()
	if to.Len() != 0 || to.Variant("TimeZone").Len() != 0 {
		t.Errorf("%d statements are left", to.Len())
	}
}
