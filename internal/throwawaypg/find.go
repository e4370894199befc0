package throwawaypg

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// ErrNotFound is returned when PostgreSQL's server programs are on this machine in none of the places where
// distributions put them.
var ErrNotFound = errors.New("postgres server programs not found")

// Find returns the folder that holds PostgreSQL's own initdb and postgres.
//
// PATH goes first, with symbolic links resolved, then the usual folders of the distributions and of Homebrew, the
// highest version first. The error is ErrNotFound.
func Find() (bindir string, err error) {
	return find(os.Getenv("PATH"), usualFolders())
}

// usualFolders returns glob patterns, the first that matches wins.
func usualFolders() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",              // Debian, Ubuntu
		"/usr/pgsql-*/bin",                       // packages of the PostgreSQL project for Red Hat's family
		"/usr/lib/postgresql*/bin",               // SUSE, Gentoo
		"/usr/libexec/postgresql*",               // Alpine
		"/usr/local/pgsql/bin",                   // from source
		"/opt/homebrew/opt/postgresql*/bin",      // Homebrew on arm64
		"/usr/local/opt/postgresql*/bin",         // Homebrew on amd64
		"/Applications/Postgres.app/*/*/*/bin",   // Postgres.app: Contents/Versions/17
		"/home/linuxbrew/.linuxbrew/opt/po*/bin", // Homebrew on Linux
	}
}

func find(path string, patterns []string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if bindir, ok := resolve(dir); ok {
			return bindir, nil
		}
	}
	for _, pattern := range patterns {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		slices.SortFunc(dirs, newestFirst)
		for _, dir := range dirs {
			if bindir, ok := resolve(dir); ok {
				return bindir, nil
			}
		}
	}
	return "", ErrNotFound
}

// resolve follows the link that dir/initdb may be, because initdb finds its own files from where it really is, and
// reports whether both programs are there.
func resolve(dir string) (string, bool) {
	if !filepath.IsAbs(dir) {
		return "", false
	}
	initdb, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb"))
	if err != nil {
		return "", false
	}
	bindir := filepath.Dir(initdb)
	return bindir, executable(initdb) && executable(filepath.Join(bindir, "postgres"))
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// newestFirst orders folders by the version number in their path, 17 before 9.6 and 9.6 before 9.5.
func newestFirst(a, b string) int {
	return cmp.Or(slices.Compare(version(b), version(a)), cmp.Compare(b, a))
}

func version(path string) []int {
	var parts []int
	for _, digits := range regexp.MustCompile(`[0-9]+`).FindAllString(path, -1) {
		n, err := strconv.Atoi(digits)
		if err == nil {
			parts = append(parts, n)
		}
	}
	return parts
}
