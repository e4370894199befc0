package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNetworkSetsAreReadFromTheirFiles(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"sluice.yaml": `
network_sets: [{name: offices, file: offices.txt}, {name: none, file: none.txt}]
network: {allowed_cidrs: [set(offices), "192.0.2.7 until 2026-12-31T18:00:00+01:00 # auditor"]}
tenants: [{auth: {method: trust}}]
`,
		"offices.txt": "# our offices\n\n  10.0.0.0/8\r\n2001:db8::/32 until 2026-12-31T18:00:00Z # Berlin, till the move # really\n::ffff:10.1.0.0/112#x",
		"none.txt":    "",
	})
	c, err := Load(filepath.Join(dir, "sluice.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range append(c.NetworkSets[0].Entries, c.Network.AllowedCIDRs...) {
		got = append(got, e.String())
	}
	want := []string{
		"10.0.0.0/8", "2001:db8::/32 until 2026-12-31T18:00:00Z # Berlin, till the move # really", "10.1.0.0/16 # x",
		"set(offices)", "192.0.2.7/32 until 2026-12-31T17:00:00Z # auditor",
	}
	if diff := cmp.Diff(want, got); diff != "" || len(c.NetworkSets[1].Entries) > 0 {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	files := strings.ReplaceAll(strings.Join(c.Files, " "), dir, "DIR")
	if want := "DIR/sluice.yaml DIR/offices.txt DIR/none.txt"; files != want {
		t.Errorf("files %s, want %s", files, want)
	}
}

func TestNetworkSetsThatCannotBeReadAreProblems(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ content, want string }{
		{"10.0.0.0/8\nbogus\n10.0.0.0/8\n10.0.0.1/8 # host bits\nset(other)\n", "line 2 must be an address or a network such as 10.0.0.0/8; " +
			"line 4 has bits set after its prefix length: must be 10.0.0.0/8; line 5 must be a network such as 10.0.0.0/8, which until TIME and # comment may follow"},
		{"10.0.0.0/8 until tomorrow", "line 1 must have a time with a zone after until, such as 2026-12-31T18:00:00Z"},
		{"10.0.0.0/8 # " + strings.Repeat("x", 201), "line 1 must be one line of valid text"},
		{strings.Repeat("x\n", 12), strings.TrimSuffix(strings.Repeat("line N must be an address or a network such as 10.0.0.0/8; ", 10), "; ")},
		{"10.0.0.0/8\n" + strings.Repeat("x", 100_000), "line 2: bufio.Scanner: token too long"},
	} {
		dir := folder(t, map[string]string{"set.txt": test.content, "sluice.yaml": "network_sets: [{name: a, file: set.txt}]\ntenants: [{auth: {method: trust}}]\n"})
		_, err := Load(filepath.Join(dir, "sluice.yaml"))
		got := strings.ReplaceAll(fmt.Sprint(err), dir, "DIR")
		want := test.want
		for n := 1; strings.Contains(want, "line N"); n++ {
			want = strings.Replace(want, "line N", fmt.Sprintf("line %d", n), 1)
		}
		if want = `DIR/sluice.yaml:1: network_sets[0].file: ` + want + `, got "DIR/set.txt"`; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// FuzzParseEntry: what is parsed is written as something that is parsed to the same.
func FuzzParseEntry(f *testing.F) {
	for _, text := range []string{"10.0.0.0/8", "::/0 until 2026-12-31T18:00:00Z # a # b", "set(x)#y", "192.0.2.1 until", "", "#", "::ffff:10.0.0.0/104"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEntry(text)
		if err != nil {
			return
		}
		again, err := parseEntry(e.String())
		if err != nil || again != e {
			t.Errorf("parseEntry(%q) = %#v, which is written as %q and parsed as %#v, %v", text, e, e.String(), again, err)
		}
	})
}

// FuzzParseSet: no file makes the parser panic, and each line is an entry at most.
func FuzzParseSet(f *testing.F) {
	f.Add([]byte("10.0.0.0/8\n# x\n\n2001:db8::/32 until 2026-12-31T18:00:00Z # y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseSet(data)
		if lines := strings.Count(string(data), "\n") + 1; len(entries) > lines || err != nil && len(entries) > 0 {
			t.Errorf("%d entries of %d lines, %v", len(entries), lines, err)
		}
	})
}
