package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// NetworkSet is a list of networks with a name, kept in a file of its own. Lists name it as set(NAME).
type NetworkSet struct {
	Name string `key:"name" doc:"letters, digits, _, - and .; lists of networks name it as set(NAME)" required:"yes" reload:"live"`
	File string `key:"file" doc:"a network a line, as in allowed_cidrs; empty lines and those that begin with # are comments" unit:"file" required:"yes" path:"yes" reload:"live"`

	Entries []Entry `key:"-"` // what is in the file
}

// Entry is an element of a list of networks: a network, with a comment and the time when it expires, or a set of them.
type Entry struct {
	Prefix  netip.Prefix // the zero Prefix if Set is not empty
	Set     string
	Until   time.Time // zero: for good
	Comment string
}

// String returns the entry as a list has it.
func (e Entry) String() string {
	text := e.Prefix.String()
	if e.Set != "" {
		text = "set(" + e.Set + ")"
	}
	if !e.Until.IsZero() {
		text += " until " + e.Until.Format(time.RFC3339Nano)
	}
	if e.Comment != "" {
		text += " # " + e.Comment
	}
	return text
}

// MarshalText returns the entry as a list has it.
func (e Entry) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText takes what ParseEntry takes.
func (e *Entry) UnmarshalText(text []byte) (err error) {
	*e, err = ParseEntry(string(text))
	return err
}

var (
	errUntil    = errors.New("must have a time with a zone after until, such as 2026-12-31T18:00:00Z")
	errEntry    = errors.New("must be a network such as 10.0.0.0/8, which until TIME and # comment may follow")
	errSetName  = errors.New("the name of a set must have letters, digits, _, - and . only")
	errSetUntil = errors.New("a set does not expire as a whole: its entries may")
	errComment  = errors.New("must be one line of valid text")
)

// maxCommentBytes bounds the comment of an entry, which stands in the log.
const maxCommentBytes = 200

// ParseEntry returns the entry that text is: "NETWORK [until TIME] [# COMMENT]". It takes an address for the network of
// only that address. It does not know sets. The error does not repeat the text.
func ParseEntry(text string) (Entry, error) {
	e, err := parseEntry(text)
	if err == nil && e.Set != "" {
		return Entry{}, errEntry
	}
	return e, err
}

// parseEntry is ParseEntry, with sets.
func parseEntry(text string) (Entry, error) {
	text, comment, _ := strings.Cut(text, "#")
	e := Entry{Comment: strings.TrimSpace(comment)}
	if len(e.Comment) > maxCommentBytes || strings.ToValidUTF8(e.Comment, "") != e.Comment || strings.ContainsAny(e.Comment, "\r\n\x00") {
		return Entry{}, errComment
	}
	words := strings.Fields(text)
	switch {
	case len(words) == 3 && words[1] == "until":
		until, err := time.Parse(time.RFC3339, words[2])
		if err != nil || until.IsZero() {
			return Entry{}, errUntil
		}
		e.Until = until.UTC()
	case len(words) == 2 && words[1] == "until":
		return Entry{}, errUntil
	case len(words) > 1:
		return Entry{}, errEntry
	case len(words) == 0:
		words = []string{""}
	}
	if name, ok := argument(words[0], "set"); ok {
		switch {
		case !isSetName(name):
			return Entry{}, errSetName
		case !e.Until.IsZero():
			return Entry{}, errSetUntil
		}
		e.Set = name
		return e, nil
	}
	prefix, err := parsePrefix(words[0])
	if err != nil {
		return Entry{}, err
	}
	e.Prefix = prefix.(netip.Prefix)
	return e, nil
}

const (
	maxSetBytes    = 64 << 20 // 64 MiB: a million networks with comments
	maxSetProblems = 10       // of one file that are shown
)

// sets reads the files of the network sets.
func (k *checker) sets() {
	for i := range k.cfg.NetworkSets {
		set, path := &k.cfg.NetworkSets[i], item("network_sets", i)+".file"
		if set.File == "" || !k.sound(path) {
			continue
		}
		entries, err := readSet(set.File)
		if err != nil {
			k.add(path, "%s, %s", err, k.got(path, set.File))
			k.broken[path] = true
			continue
		}
		set.Entries = entries
	}
}

func readSet(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxSetBytes+1))
	if err != nil {
		return nil, reason(err)
	}
	if len(data) > maxSetBytes {
		return nil, fmt.Errorf("is larger than %d bytes", maxSetBytes)
	}
	return parseSet(data)
}

// parseSet returns the entries of a set's file. The error names the lines that are wrong.
func parseSet(data []byte) ([]Entry, error) {
	var entries []Entry
	var wrong []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		e, err := ParseEntry(line)
		if err == nil {
			entries = append(entries, e)
		} else if wrong = append(wrong, fmt.Sprintf("line %d %s", n, err)); len(wrong) == maxSetProblems {
			break
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	if len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return entries, nil
}

func isSetName(name string) bool { return regexp.MustCompile(`^[A-Za-z0-9_.-]+$`).MatchString(name) }

// networkSets checks the names of the sets, and that lists name only those that are there.
func (k *checker) networkSets() {
	names := make([]string, len(k.cfg.NetworkSets))
	for i, set := range k.cfg.NetworkSets {
		names[i] = set.Name
		if at := item("network_sets", i) + ".name"; set.Name != "" && !isSetName(set.Name) {
			k.add(at, "%s, %s", errSetName, k.got(at, set.Name))
		}
	}
	k.unique(names, func(i int) string { return item("network_sets", i) + ".name" })
	check := func(path string, n Network) {
		for _, list := range []struct {
			key     string
			entries []Entry
		}{{".allowed_cidrs", n.AllowedCIDRs}, {".denied_cidrs", n.DeniedCIDRs}} {
			for i, e := range list.entries {
				if at := item(path+list.key, i); e.Set != "" && !slices.Contains(names, e.Set) && k.sound("network_sets") {
					k.add(at, "must be a network, or set() with the name of one of network_sets, %s", k.got(at, e.String()))
				}
			}
		}
	}
	check("network", k.cfg.Network)
	for i, t := range k.cfg.Tenants {
		at := item("tenants", i)
		check(at+".network", t.Network.Network)
		for j, r := range t.Roles {
			check(item(at+".roles", j)+".network", r.Network)
		}
		for j, d := range t.Databases {
			check(item(at+".databases", j)+".network", d.Network)
		}
	}
}

// managed checks that what the API is to manage can be kept.
func (k *checker) managed(at string, t *Tenant) {
	if path := at + ".network.managed_by"; t.Network.ManagedBy == ManagedByAPI && k.cfg.StateDir == "" && k.sound("state_dir") {
		k.add(path, "api needs state_dir, where the API keeps what it changes")
	}
}

// ManagedByAPI is what TenantNetwork.ManagedBy is where the API's lists count.
const ManagedByAPI = "api"
