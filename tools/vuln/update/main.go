// Command update renews the copy of the Go vulnerability database beside it, from a checkout of github.com/golang/vulndb: the
// entries of the Go distribution and of the modules that it is told on its standard input, a line each.
//
//	go list -m -f '{{.Path}}' all | go run -C tools/vuln ./update CHECKOUT "$(git -C CHECKOUT log -1 --format=%cI)"
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const database = "database"

// entry is what a file of the database must have; what only people read is left out.
type entry struct {
	SchemaVersion string     `json:"schema_version"`
	ID            string     `json:"id"`
	Modified      time.Time  `json:"modified"`
	Published     time.Time  `json:"published"`
	Withdrawn     *time.Time `json:"withdrawn,omitempty"`
	Aliases       []string   `json:"aliases,omitempty"`
	Summary       string     `json:"summary,omitempty"`
	Affected      []affected `json:"affected"`
	Specific      any        `json:"database_specific"`
}

type affected struct {
	Package   json.RawMessage `json:"package"`
	Ranges    []ranges        `json:"ranges,omitempty"`
	Ecosystem json.RawMessage `json:"ecosystem_specific,omitempty"`
}

type ranges struct {
	Type   string  `json:"type"`
	Events []event `json:"events"`
}

type event struct {
	Introduced string `json:"introduced,omitempty"`
	Fixed      string `json:"fixed,omitempty"`
}

// module and reference are the index of the database by modules.
type module struct {
	Path  string      `json:"path"`
	Vulns []reference `json:"vulns"`
}

type reference struct {
	ID       string    `json:"id"`
	Modified time.Time `json:"modified"`
	Fixed    string    `json:"fixed,omitempty"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "update:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: update CHECKOUT DATE, with the modules on the standard input")
	}
	date, err := time.Parse(time.RFC3339, args[1])
	if err != nil {
		return err
	}
	wanted := map[string]bool{"stdlib": true, "toolchain": true}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		wanted[strings.TrimSpace(lines.Text())] = true
	}
	if err := lines.Err(); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(args[0], "data", "osv", "GO-*.json"))
	if err != nil || len(files) == 0 {
		return errors.Join(err, fmt.Errorf("%s: has no data/osv/GO-*.json", args[0]))
	}
	for _, folder := range []string{"ID", "index"} {
		if err := os.RemoveAll(filepath.Join(database, folder)); err != nil {
			return err
		}
	}
	index := make(map[string]*module)
	for _, file := range files {
		e, paths, err := read(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if e.Modified.IsZero() { // it is filled in when the database is published
			e.Modified = date.UTC()
		}
		if e.Withdrawn != nil || !slices.ContainsFunc(paths, func(p string) bool { return wanted[p] }) {
			continue
		}
		for i, path := range paths {
			note(index, path, e, e.Affected[i].Ranges)
		}
		if err := write(filepath.Join("ID", e.ID+".json"), e); err != nil {
			return err
		}
	}
	all := []*module{}
	for _, path := range slices.Sorted(maps.Keys(index)) {
		all = append(all, index[path])
	}
	names := slices.Sorted(maps.Keys(wanted))
	return errors.Join(
		write(filepath.Join("index", "modules.json"), all),
		write(filepath.Join("index", "db.json"), map[string]time.Time{"modified": date.UTC()}),
		os.WriteFile(filepath.Join(database, "covered.txt"), []byte(strings.Join(names, "\n")+"\n"), 0o644),
	)
}

// read returns an entry and the modules that it affects, in its order.
func read(file string) (e entry, paths []string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return e, nil, err
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, nil, err
	}
	for _, a := range e.Affected {
		var p struct{ Name string }
		if err := json.Unmarshal(a.Package, &p); err != nil {
			return e, nil, err
		}
		paths = append(paths, p.Name)
	}
	return e, paths, nil
}

// note adds an entry to the index of a module, with the version that mends it last.
func note(index map[string]*module, path string, e entry, all []ranges) {
	m := index[path]
	if m == nil {
		m = &module{Path: path}
		index[path] = m
	}
	r := reference{ID: e.ID, Modified: e.Modified}
	for _, g := range all {
		for _, v := range g.Events {
			if v.Fixed != "" {
				r.Fixed = v.Fixed
			}
		}
	}
	if i := slices.IndexFunc(m.Vulns, func(other reference) bool { return other.ID == r.ID }); i >= 0 {
		m.Vulns[i] = r
		return
	}
	m.Vulns = append(m.Vulns, r)
}

func write(name string, value any) error {
	path := filepath.Join(database, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
