package sluice_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module       = "sluice"
	architecture = "ARCHITECTURE.md"
	heading      = "## Packages and who may import whom\n"
)

// TestImportsFollowTheTable compares what the packages import, on every system that Sluice is built for, with the
// table in ARCHITECTURE.md.
func TestImportsFollowTheTable(t *testing.T) {
	t.Parallel()
	want := readTable(t)
	for _, goos := range []string{"linux", "darwin"} {
		for _, pkg := range listPackages(t, goos) {
			for _, fault := range want.faults(pkg) {
				t.Errorf("%s: %s", goos, fault)
			}
		}
	}
}

func TestTableFindsFaults(t *testing.T) {
	t.Parallel()
	want, err := parseTable(strings.TrimSpace(`
pool         ► backend wire          [puddle]
backend[pgproto3] wire ► nothing of ours
tests        ► anything of ours      [pgx]

top level:  pool
internal/:  backend wire
for tests:  memnet

puddle   = example.org/puddle/v2
pgx      = example.org/pgx
pgproto3 = example.org/pgx/pgproto3
net/http = net/http
`))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		pkg  listed
		want string
	}{
		{"all allowed", listed{ImportPath: "sluice/pool", Imports: []string{"sluice/internal/backend", "example.org/puddle/v2", "fmt"}}, ""},
		{"a neighbour of the row's", listed{ImportPath: "sluice/internal/backend", Imports: []string{"sluice/pool"}}, "sluice/internal/backend must not import sluice/pool"},
		{"a package below the row's", listed{ImportPath: "sluice/pool", Imports: []string{"sluice/internal/wire/deep"}}, "sluice/pool must not import sluice/internal/wire/deep"},
		{"third-party of another row", listed{ImportPath: "sluice/pool", Imports: []string{"example.org/pgx/pgproto3"}}, "sluice/pool must not import example.org/pgx/pgproto3"},
		{"third-party that only begins alike", listed{ImportPath: "sluice/pool", Imports: []string{"example.org/puddle/v21"}}, "sluice/pool must not import example.org/puddle/v21"},
		{"bracket at the name", listed{ImportPath: "sluice/internal/backend", Imports: []string{"example.org/pgx/pgproto3"}}, ""},
		{"bracket of a neighbour", listed{ImportPath: "sluice/internal/wire", Imports: []string{"example.org/pgx/pgproto3"}}, "sluice/internal/wire must not import example.org/pgx/pgproto3"},
		{"fenced standard package", listed{ImportPath: "sluice/pool", Imports: []string{"net/http/httptrace"}}, "sluice/pool must not import net/http/httptrace"},
		{"package without a row", listed{ImportPath: "sluice/util"}, "sluice/util is not in the table"},
		{"test of a package", listed{ImportPath: "sluice/pool", XTestImports: []string{"sluice/pool", "sluice/internal/memnet", "example.org/pgx/pgconn"}}, ""},
		{"test with an unlisted library", listed{ImportPath: "sluice/pool", TestImports: []string{"example.org/assert"}}, "tests of sluice/pool must not import example.org/assert"},
		{"package for tests in production", listed{ImportPath: "sluice/pool", Imports: []string{"sluice/internal/memnet"}}, "sluice/pool must not import sluice/internal/memnet"},
		{"package for tests", listed{ImportPath: "sluice/internal/memnet", Imports: []string{"sluice/pool", "example.org/pgx"}}, ""},
		{"below test", listed{ImportPath: "sluice/test/drivers", XTestImports: []string{"sluice/pool", "example.org/assert"}}, "tests of sluice/test/drivers must not import example.org/assert"},
	}
	for _, c := range cases {
		if got := strings.Join(want.faults(c.pkg), "; "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestDepguardEqualsTheTable fails when .golangci.yml and the table differ. With UPDATE=1 it rewrites the file.
func TestDepguardEqualsTheTable(t *testing.T) {
	t.Parallel()
	const file, begin, end = ".golangci.yml", "      rules: # from ARCHITECTURE.md, by make generate\n", "    # end of what make generate writes\n"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	_, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("%s: the lines %q and %q are missing", file, begin, end)
	}
	want := before + begin + readTable(t).depguard() + end + after
	if want == string(content) {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s does not say what %s says: run make generate", file, architecture)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// listed is what go list says of a package.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func listPackages(t *testing.T, goos string) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var pkg listed
		if err := decoder.Decode(&pkg); err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, pkg)
	}
	if len(packages) < 2 {
		t.Fatalf("go list: got %d packages, want those of the module", len(packages))
	}
	return packages
}

// table is the import table, with import paths in full.
type table struct {
	rows    map[string]row
	tests   row
	forTest []string // packages that only tests import
	fences  []string // what has a name in the table: imported only where a row says so
}

type row struct {
	ours  []string // exact import paths
	third []string // import paths, with all that lies below
}

func readTable(t *testing.T) table {
	t.Helper()
	content, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(content), heading)
	_, block, _ := strings.Cut(section, "```text\n")
	block, _, found := strings.Cut(block, "```\n")
	if !found {
		t.Fatalf("%s: no block under %q", architecture, heading)
	}
	parsed, err := parseTable(block)
	if err != nil {
		t.Fatalf("%s: %v", architecture, err)
	}
	return parsed
}

// parseTable reads three kinds of lines: "name = import path", "place:  packages" and "packages ► packages [names]".
// A bracket right behind a package on the left is that package's alone.
func parseTable(block string) (table, error) {
	third, places, err := parseNames(block)
	if err != nil {
		return table{}, err
	}
	parsed := table{rows: map[string]row{}, forTest: places.forTest, fences: slices.Collect(maps.Values(third))}
	resolve := func(names []string, in map[string]string, line string) []string {
		var paths []string
		for _, name := range names {
			if in[name] == "" && err == nil {
				err = fmt.Errorf("unknown name %q in %q", name, line)
			}
			paths = append(paths, in[name])
		}
		return paths
	}
	for line := range strings.Lines(block) {
		left, right, isRow := strings.Cut(line, "►")
		if !isRow {
			continue
		}
		right, bracket, _ := strings.Cut(strings.TrimSpace(right), "[")
		shared := row{third: resolve(strings.Fields(strings.Trim(bracket, "] \n")), third, line)}
		if !strings.Contains(right, "of ours") {
			shared.ours = resolve(strings.Fields(right), places.paths, line)
		}
		for _, match := range regexp.MustCompile(`([^\s\[]+)(?:\[([^\]]*)\])?`).FindAllStringSubmatch(left, -1) {
			own := row{ours: shared.ours, third: slices.Concat(shared.third, resolve(strings.Fields(match[2]), third, line))}
			if match[1] == "tests" {
				parsed.tests = own
				continue
			}
			parsed.rows[resolve(match[1:2], places.paths, line)[0]] = own
		}
	}
	for name, path := range places.paths {
		if _, ok := parsed.rows[path]; !ok && err == nil {
			err = fmt.Errorf("%q has a place but no row", name)
		}
	}
	return parsed, err
}

type places struct {
	paths   map[string]string // import path by name
	forTest []string
}

func parseNames(block string) (third map[string]string, where places, err error) {
	third, where.paths = map[string]string{}, map[string]string{}
	for line := range strings.Lines(block) {
		if name, path, ok := strings.Cut(line, " = "); ok {
			third[strings.TrimSpace(name)] = strings.TrimSpace(path)
		}
		place, names, _ := strings.Cut(line, ":")
		for _, name := range strings.Fields(names) {
			switch place {
			case "top level":
				where.paths[name] = module + "/" + name
			case "internal/":
				where.paths[name] = module + "/internal/" + name
			case "for tests":
				where.forTest = append(where.forTest, module+"/internal/"+name)
			default:
				return nil, where, fmt.Errorf("unknown place %q", place)
			}
		}
	}
	return third, where, nil
}

// faults says what pkg imports against the table.
func (t table) faults(pkg listed) []string {
	var faults []string
	own, known := t.rows[pkg.ImportPath]
	switch {
	case known:
		for _, path := range pkg.Imports {
			if !own.allows(path, slices.Contains(own.ours, path), t.fences) {
				faults = append(faults, pkg.ImportPath+" must not import "+path)
			}
		}
	case t.forTests(pkg.ImportPath):
		faults = t.testFaults(pkg.ImportPath, pkg.Imports, own)
	default:
		return []string{pkg.ImportPath + " is not in the table"}
	}
	return append(faults, t.testFaults("tests of "+pkg.ImportPath, slices.Concat(pkg.TestImports, pkg.XTestImports), own)...)
}

// forTests reports whether a package needs no row, because only tests use it.
func (t table) forTests(path string) bool {
	return path == module || slices.Contains(t.forTest, path) || strings.HasPrefix(path, module+"/test/")
}

func (t table) testFaults(who string, imports []string, own row) []string {
	var faults []string
	both := row{third: slices.Concat(own.third, t.tests.third)}
	for _, path := range imports {
		// The standard library is not fenced in tests.
		if !both.allows(path, true, nil) {
			faults = append(faults, who+" must not import "+path)
		}
	}
	return faults
}

// allows decides about one import; ours says whether it may be imported if it is a package of this module.
func (r row) allows(path string, ours bool, fences []string) bool {
	first, _, _ := strings.Cut(path, "/")
	switch {
	case first == module:
		return ours
	case below(path, r.third):
		return true
	case strings.Contains(first, "."):
		return false
	default:
		return !below(path, fences)
	}
}

// below reports whether path is one of roots or lies below one.
func below(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return path == root || strings.HasPrefix(path, root+"/") })
}

// depguard writes the table as rules of golangci-lint.
func (t table) depguard() string {
	var out strings.Builder
	for _, path := range slices.Sorted(maps.Keys(t.rows)) {
		dir := strings.TrimPrefix(path, module+"/")
		fmt.Fprintf(&out, "        %s:\n          list-mode: strict\n          files: [\"**/%s/*.go\", \"!$test\"]\n", strings.ReplaceAll(dir, "/", "-"), dir)
		fmt.Fprintf(&out, "          allow:\n            - $gostd\n")
		for _, ours := range t.rows[path].ours {
			fmt.Fprintf(&out, "            - %s$\n", ours)
		}
		out.WriteString(allowed(t.rows[path].third))
	}
	fmt.Fprintf(&out, "        tests:\n          list-mode: strict\n          files: [\"$test\"]\n          allow:\n            - $gostd\n            - %s\n", module)
	third := t.tests.third
	for _, r := range t.rows {
		third = slices.Concat(third, r.third)
	}
	slices.Sort(third)
	third = slices.Compact(third)
	// depguard compares an import with the last root that sorts before it: a root below another would hide that one.
	roots := slices.Clone(third)
	third = slices.DeleteFunc(third, func(path string) bool {
		return slices.ContainsFunc(roots, func(root string) bool { return root != path && below(path, []string{root}) })
	})
	out.WriteString(allowed(third))
	return out.String()
}

// allowed lists what is not of the standard library, which the rules allow as a whole.
func allowed(paths []string) string {
	var lines string
	for _, path := range paths {
		if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
			lines += "            - " + path + "\n"
		}
	}
	return lines
}

// TestSleepsOnlyInBubbles finds test files that sleep in real time: in a bubble of testing/synctest sleeping takes none.
func TestSleepsOnlyInBubbles(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sleep := "time." + "Sleep("
		if strings.Contains(string(text), sleep) && !strings.Contains(string(text), `"testing/synctest"`) {
			t.Errorf("%s sleeps, and has no bubble", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
