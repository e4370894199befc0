package throwawaypg

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestFindPrefersPathThenTheHighestVersion(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, version := range []string{"9.6", "15", "17"} {
		fakePrograms(t, filepath.Join(root, "lib", version, "bin"), "initdb", "postgres")
	}
	fakePrograms(t, filepath.Join(root, "lib", "18", "bin"), "initdb") // the client's package alone has no server
	links := filepath.Join(root, "links")
	mustMkdir(t, links)
	if err := os.Symlink(filepath.Join(root, "lib", "15", "bin", "initdb"), filepath.Join(links, "initdb")); err != nil {
		t.Fatal(err)
	}
	patterns := []string{filepath.Join(root, "none*"), filepath.Join(root, "lib", "*", "bin")}

	cases := []struct {
		name, path string
		patterns   []string
		want       string
		err        error
	}{
		{"a link in PATH is followed", "/nowhere:" + links, patterns, filepath.Join(root, "lib", "15", "bin"), nil},
		{"the highest version that is whole", "/nowhere", patterns, filepath.Join(root, "lib", "17", "bin"), nil},
		{"a relative PATH entry is not searched", ".", nil, "", ErrNotFound},
		{"nothing there", "", patterns[:1], "", ErrNotFound},
	}
	for _, c := range cases {
		got, err := find(c.path, c.patterns)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %q, %v, want %q, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func TestUsualFoldersAreValidPatterns(t *testing.T) {
	t.Parallel()
	for _, pattern := range usualFolders() {
		if _, err := filepath.Match(pattern, "/"); err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

func mustMkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func fakePrograms(t *testing.T, dir string, names ...string) {
	t.Helper()
	mustMkdir(t, dir)
	for _, name := range names {
		fakeProgram(t, dir, name, "exit 0")
	}
}

func fakeProgram(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}
